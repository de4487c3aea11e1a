"""parts: publish what a job wrote, however often and in whichever order its events arrive.

A part belongs to one run. It is published under the thresholds of the labels now in force; a prediction of
any run is valid for them if their detector would make the same one. A run's summary ends it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from boxdrop.assessment.evidence import detections_of
from boxdrop.assessment.priority import ranking_without_learning
from boxdrop.domain.errors import LabelStudioError, RunError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Prediction, Record, reselect
from boxdrop.labelstudio.project import is_there
from boxdrop.labelstudio.publishing import PublishSummary
from boxdrop.ledger import FailedImage, Ledger, Outcome, Project, RunState, State
from boxdrop.pipeline.canary import is_trial, threshold_of
from boxdrop.pipeline.prepare import prepare
from boxdrop.pipeline.publish import Batch, publish
from boxdrop.pipeline.submission import submit_verified
from boxdrop.services import Services
from boxdrop.store.boxes import has_boxes
from boxdrop.store.canary import has_canary
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.layout import PartName
from boxdrop.store.manifests import read_header
from boxdrop.store.parts import Part, read_part

WAIT_S: Final = 20.0
"""How long to wait for another publisher of the project: longer than publishing a part takes."""


@dataclass(frozen=True, slots=True)
class Published:
    """The outcome of publishing a part.

    Attributes:
        project, run_id: the part's project and run.
        summary: see `PublishSummary`.
        failed: images that got a reason instead of boxes; empty for a replay.
        waited_s: for each image that got its boxes, seconds since it was wanted.
    """

    project: str
    run_id: str
    summary: PublishSummary
    failed: int = 0
    waited_s: tuple[float, ...] = ()


def publish_part(services: Services, name: PartName, *, wait_s: float = WAIT_S) -> Published:
    """Publish a part to Label Studio, and update its images' rows.

    Args:
        name: of the part.
        wait_s: how long to wait for another publisher.

    Raises:
        RunError: the part or its manifest is missing or invalid.
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
    # In the label stream, Label Studio shows the predictions of one version only. Dropped boxes have one of
    # their own; so have images that a later lesson left as they were, and those of a canary.
    several = (
        project.oldest_generation < project.generation
        or is_trial(project, header)
        or has_canary(services.data, name.project)
        or has_boxes(services.data, name.project)
    )
    one_version = project.model_version if several else None
    fits = header.model_version == project.model_version
    threshold = threshold_of(services, project, header)

    def bring() -> PublishSummary:
        batch = Batch(
            _selected(part.records, label_set, threshold),
            label_set,
            project.generation if fits else header.generation,
            name.run_id,
        )
        return publish(services, name.project, batch, one_version=one_version, wait_s=wait_s)

    try:
        summary = bring()
    except LabelStudioError:
        number = project.label_studio_id
        if number is None or is_there(services.label_studio, number):
            raise
        prepare(services, name.project, label_set)  # it was deleted there
        summary = bring()
    _fail_refused(ledger, part, summary, header.generation)
    submit_verified(services, name.project, part.records, wait_s)
    rows = ledger.images(record.image_id for record in part.records).values()
    waited = tuple(
        (row.since - row.wanted_at).total_seconds()
        for row in rows
        if row.state == State.TASKED and row.since >= began and row.wanted_at is not None
    )
    failed = sum(row.state == State.FAILED and row.since >= began for row in rows)
    return Published(name.project, name.run_id, summary, failed, waited)


def _fail_refused(ledger: Ledger, part: Part, summary: PublishSummary, generation: int) -> None:
    """A prediction that must not be published counts as a failure; otherwise its image would stay
    unfinished."""
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
    """The same records, with boxes selected by the thresholds in force, and how much there is to check.

    Boxes that were dropped with an image have no candidates. All are shown, except those whose label is gone.
    """
    ranking = ranking_without_learning(label_set, threshold)
    for record in records:
        if not isinstance(record, Prediction):
            yield record
        elif record.candidates:
            doubt = ranking.doubt(detections_of(record.candidates, label_set.names))
            yield replace(reselect(record, label_set, threshold), doubt=doubt)
        else:
            yield replace(record, boxes=tuple(box for box in record.boxes if box.label in label_set))


def prepare_if_needed(services: Services, project: Project, label_set: LabelSet) -> None:
    """Create the project in Label Studio when it is first needed, and update its labels."""
    if project.label_studio_id is not None and project.prepared == project.labels:
        return
    prepare(services, project.name, label_set)
    assert project.labels is not None
    services.ledger.record_prepared(project.name, project.labels)


def finish_run(services: Services, run_id: str) -> tuple[str, bool]:
    """Record that a run has its summary.

    Returns:
        Its project, and whether this call was the first to record it.

    Raises:
        RunError: it has no manifest.
    """
    header = read_header(services.data, run_id)
    result = services.ledger.finish_run(header.project, run_id, RunState.SUCCEEDED)
    return header.project, result.outcome == Outcome.APPLIED
