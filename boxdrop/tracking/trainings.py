"""Finished trainings in ZenML: a run with its figures and its card, and a version of the model.

A training has the same name each time, so that ZenML has it once however often it is registered.
"""

from collections.abc import Callable, Iterator

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.detector_names import shown_digest
from boxdrop.store.bundles import BundleRef, resolve
from boxdrop.store.layout import TRAININGS, project_of_folder
from boxdrop.store.trainings import TrainingRecord, read_trainings
from boxdrop.tracking.entry import Artifact, Entry, Step
from boxdrop.tracking.register import Tracker

_MARKDOWN = "zenml.materializers.structured_string_materializer.StructuredStringMaterializer"


def track_trainings(
    tracker: Tracker, data: Bucket, on_progress: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Register the finished trainings of all projects; returns those that ZenML did not have.

    Raises:
        TrackingError: ZenML refused, or went away; call again later.
        BoxdropError: the bucket cannot be read.
    """
    new = []
    for project, record in _finished(data):
        assert record.bundle is not None
        ref = resolve(data, record.bundle)
        entry = training_entry(project, record, ref, _card(data, ref))
        if tracker.is_complete(entry.run_id):
            continue
        on_progress(entry.run_id)
        if tracker.record(entry).created:
            new.append(entry.run_id)
    return new


def training_entry(project: str, record: TrainingRecord, ref: BundleRef, card: str) -> Entry:
    """What ZenML records about a training.

    Args:
        record: of a finished one.
        ref: the detector that it made.
        card: the detector's, Markdown.
    """
    figures = {"ap50_validation": record.ap50, "ap50_test": record.test_ap50}
    known = {name: value for name, value in figures.items() if value is not None}
    digest = "" if ref.trained is None else ref.trained.digest
    metadata = {
        "project": project,
        "dataset": record.dataset,
        "dataset_digest": digest,
        "epochs": record.epoch,
        "ended": record.why,
        "bundle": ref.name,
        "bundle_digest": ref.digest,
        **known,
    }
    step = Step(
        name="train",
        function="train",
        description="Trains a detector on a frozen data set, exports and measures it: boxdrop train.",
        started_at=min(record.began_at, record.at),
        finished_at=record.at,
        artifacts=(
            Artifact(
                "card",
                "DataAnalysisArtifact",
                _MARKDOWN,
                "zenml.types.MarkdownString",
                "output.md",
                card.encode(),
                "markdown",
            ),
        ),
        metadata=known,
    )
    return Entry(
        run_id=f"training-{ref.name}-{shown_digest(ref.digest)}",
        project=project,
        model=ref.name,
        model_version=shown_digest(ref.digest),
        model_metadata={
            "digest": ref.digest,
            "family": ref.family,
            "precision": ref.precision,
            "trained_on": f"{project}/{record.dataset}",
            **known,
        },
        parameters={"project": project, "dataset": record.dataset, "detector": ref.name},
        metadata=metadata,
        tags=(project, "training"),
        steps=(step,),
    )


def _finished(data: Bucket) -> Iterator[tuple[str, TrainingRecord]]:
    for folder in data.list_folders(TRAININGS):
        project = project_of_folder(folder)
        if project is None:
            continue
        for record in read_trainings(data, project):
            if record.state == "finished" and record.bundle is not None and record.pushed:
                yield project, record


def _card(data: Bucket, ref: BundleRef) -> str:
    stored = data.get(f"{ref.prefix}README.md")
    return f"# {ref.name}\n" if stored is None else stored.body.decode("utf-8", "replace")
