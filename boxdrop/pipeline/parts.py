"""parts: what a job wrote is published, whichever way the news of it comes, how often, and in which order.

A part is about one run. Thresholds are those of the labels in force now; a prediction counts for these labels
if their detector would make it again, whenever its run was. The end of a run is its summary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from boxdrop.domain.errors import LabelStudioError, RunError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Prediction, Record, reselect
from boxdrop.labelstudio.project import is_there
from boxdrop.labelstudio.publishing import PublishSummary
from boxdrop.ledger import FailedImage, Ledger, Outcome, Project, RunState, State
from boxdrop.pipeline.prepare import prepare
from boxdrop.pipeline.publish import Batch, publish
from boxdrop.services import Services
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.layout import PartName
from boxdrop.store.manifests import read_header
from boxdrop.store.parts import Part, read_part

WAIT_S: Final = 20.0
"""How long to wait for another publisher of the project: longer than one part takes."""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a part.

    Attributes:
        project, run_id: whose it is.
        summary: see `PublishSummary`.
        failed: images that have a reason instead of boxes by this; a replay has none.
        waited_s: for each image that has its boxes by this, seconds since it was wanted.
    """

    project: str
    run_id: str
    summary: PublishSummary
    failed: int = 0
    waited_s: tuple[float, ...] = ()


def publish_part(services: Services, name: PartName, *, wait_s: float = WAIT_S) -> Published:
    """Bring a part into Label Studio, and its images' rows up to it.

    Args:
        name: of the part.
        wait_s: how long to wait for another publisher.

    Raises:
        RunError: the part, or its manifest, is not there or not valid.
        BusyError, LeaseLostError, LabelStudioError, LedgerError: repeat it, which is safe.
    """
    ledger = services.ledger
    part = read_part(services.data, name.key)
    header = read_header(services.data, name.run_id)
    project = ledger.project(name.project)
    if project is None or project.labels is None:
        raise RunError(f"{name.key}: the ledger knows no project {name.project} with labels")
    label_set = read_label_set(services.data, project.labels)
    prepare_if_needed(services, project, label_set)
    began = services.clock()
    fits = header.model_version == project.model_version

    def bring() -> PublishSummary:
        batch = Batch(
            _selected(part.records, label_set, project.default_threshold or 0.0),
            label_set,
            project.generation if fits else header.generation,
            name.run_id,
        )
        return publish(services, name.project, batch, wait_s=wait_s)

    try:
        summary = bring()
    except LabelStudioError:
        number = project.label_studio_id
        if number is None or is_there(services.label_studio, number):
            raise
        prepare(services, name.project, label_set)  # it was deleted there
        summary = bring()
    _fail_refused(ledger, part, summary, header.generation)
    rows = ledger.images(record.image_id for record in part.records).values()
    waited = tuple(
        (row.since - row.wanted_at).total_seconds()
        for row in rows
        if row.state == State.TASKED and row.since >= began and row.wanted_at is not None
    )
    failed = sum(row.state == State.FAILED and row.since >= began for row in rows)
    return Published(name.project, name.run_id, summary, failed, waited)


def _fail_refused(ledger: Ledger, part: Part, summary: PublishSummary, generation: int) -> None:
    """A prediction that Label Studio must not get is a failure, or its image would be looked for for ever."""
    reasons = dict(summary.refused)
    ledger.record_failures(
        FailedImage(
            image_id=record.image_id,
            version=record.version,
            generation=generation,
            run_id=part.name.run_id,
            reason="refused",
            message=reasons[record.image],
        )
        for record in part.records
        if record.image in reasons
    )


def _selected(records: tuple[Record, ...], label_set: LabelSet, threshold: float) -> Iterator[Record]:
    """The same records, their boxes chosen under the thresholds in force."""
    for record in records:
        yield reselect(record, label_set, threshold) if isinstance(record, Prediction) else record


def prepare_if_needed(services: Services, project: Project, label_set: LabelSet) -> None:
    """Make the project in Label Studio on its first need, and bring it up to labels that are new."""
    if project.label_studio_id is not None and project.prepared == project.labels:
        return
    prepare(services, project.name, label_set)
    assert project.labels is not None
    services.ledger.record_prepared(project.name, project.labels)


def finish_run(services: Services, run_id: str) -> tuple[str, bool]:
    """Record that a run has its summary.

    Returns:
        Its project, and whether this call was the first to say so.

    Raises:
        RunError: it has no manifest.
    """
    header = read_header(services.data, run_id)
    result = services.ledger.finish_run(header.project, run_id, RunState.SUCCEEDED)
    return header.project, result.outcome == Outcome.APPLIED
