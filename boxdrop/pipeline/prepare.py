"""prepare: set up a project in Label Studio: labels, images, webhook."""

from contextlib import suppress
from typing import Final

from boxdrop.domain.errors import BoxdropError, RefusedError
from boxdrop.domain.labels import LabelSet
from boxdrop.labelstudio.connection import InDoubtError
from boxdrop.labelstudio.project import Project, connect_bucket, connect_display_copies, ensure_project
from boxdrop.labelstudio.webhook import ensure_webhook
from boxdrop.ledger import Outcome
from boxdrop.services import Services
from boxdrop.store.layout import DISPLAY

_ROUNDS: Final = 5


def prepare(services: Services, name: str, label_set: LabelSet) -> Project:
    """Find the project in Label Studio or create it, update it, and record its numbers.

    Concurrent callers end with one project. If it was deleted there, a new one replaces it: publishing finds
    its tasks missing, and makes them again.

    Args:
        name: the project's in the ledger, whose row names the bucket of its images.
        label_set: the one in force.

    Returns:
        The project, with its label set under frozen ids.

    Raises:
        BoxdropError: the ledger does not have the project.
        LabelStudioError: Label Studio refused; for example, a label that annotations use would be lost.
    """
    ledger, connection, webhook = services.ledger, services.label_studio, services.webhook()
    for _ in range(_ROUNDS):
        row = ledger.project(name)
        if row is None:
            raise BoxdropError(f"the ledger has no project {name}: nothing was uploaded to it yet")
        title = label_set.caption or name.rpartition("/")[2]
        project = ensure_project(
            connection,
            label_set.with_frozen_ids(row.label_ids),
            title,
            key=f"s3://{row.bucket}/{name}/",
            pipeline=True,
            label_ids=row.label_ids,
        )
        ids = {label.name: label.id for label in project.label_set}
        if ledger.freeze_labels(name, ids).outcome == Outcome.SUPERSEDED:
            continue  # a concurrent caller added labels first
        storage_id = connect_bucket(connection, project, row.bucket)
        with suppress(RefusedError, InDoubtError):  # publishing says so, for the images concerned
            connect_display_copies(connection, project.id, services.data.name, DISPLAY, if_connected=True)
        webhook_id = ensure_webhook(connection, project.id, webhook.url, webhook.secret) if webhook else None
        # `ensure_project` gives all callers the same project, so another number belongs to a deleted one.
        connected = ledger.connect_project(
            name,
            project.id,
            storage_id=storage_id,
            webhook_id=webhook_id,
            replacing=row.label_studio_id,
        )
        if connected.outcome != Outcome.SUPERSEDED:
            return project
    raise BoxdropError(f"the project {name} changes all the time; try again")
