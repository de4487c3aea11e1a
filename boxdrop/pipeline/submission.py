"""submission: boxes that were dropped as verified become annotations, in the name of their source."""

from collections.abc import Sequence

from boxdrop.domain.predictions import Prediction, Record
from boxdrop.labelstudio.annotations import read_reviews
from boxdrop.labelstudio.authors import ensure_author, submit
from boxdrop.labelstudio.tasks import ProjectTasks
from boxdrop.ledger import State
from boxdrop.pipeline.publish import hold_lease, number_of
from boxdrop.services import Services
from boxdrop.store.boxes import read_boxes
from boxdrop.store.reviews import read_review


def submit_verified(services: Services, project: str, records: Sequence[Record], wait_s: float) -> int:
    """Submit the boxes that were dropped as verified, in the name of their source, once.

    A task that a person has touched is left alone, and so is one that had an annotation before.

    Args:
        records: of a part that is published.

    Returns:
        How many annotations were made.

    Raises:
        BusyError, LabelStudioError: repeat it, which is safe.
    """
    dropped = [each for each in records if isinstance(each, Prediction) and not each.candidates]
    rows = services.ledger.images(each.image_id for each in dropped)
    tasks: dict[int, Prediction] = {}
    for each in dropped:
        row = rows.get(each.image_id)
        shows_it = row is not None and row.own_boxes and row.prediction_id == each.prediction_id
        if row is not None and shows_it and row.state == State.TASKED and row.task_id is not None:
            found, _ = read_boxes(services.data, project, each.model_version, each.image_id, each.version)
            if found.verified and read_review(services.data, project, each.image_id) is None:
                tasks[row.task_id] = each
    if not tasks:
        return 0
    connection = services.label_studio
    number = number_of(services.ledger, project)
    made = 0
    with hold_lease(services.ledger, project, services.settings.lease_s, wait_s) as keep:
        present = ProjectTasks(connection, number, keep).read(tasks)
        reviews = read_reviews(connection, number, tasks)
        authors: dict[str, int | None] = {}
        for task_id, prediction in tasks.items():
            task, version = present.get(task_id), prediction.model_version
            if task is None or task.touched or task.prediction_id != prediction.prediction_id:
                continue
            if task_id not in reviews or len(reviews[task_id].predictions) != 1:
                continue  # just being replaced
            keep()
            if version not in authors:
                authors[version] = ensure_author(connection, version)
            submit(connection, task_id, reviews[task_id].predictions[0], authors[version])
            made += 1
    return made
