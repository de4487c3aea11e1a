"""ZenML's records about a run as plain data, made from the run's summary and other files."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from boxdrop.documents import to_json
from boxdrop.domain.detector_names import shown_digest
from boxdrop.domain.identity import time_of_run
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson
from boxdrop.store.layout import label_set_key
from boxdrop.store.reports import SUMMARY_FORMAT, RunSummary, SummaryBundle
from boxdrop.tracking.pages import counts_line, sample_sheet, score_page

_MANIFEST_ROWS: Final = 50


@dataclass(frozen=True, slots=True)
class Published:
    """The state of a run in Label Studio.

    Attributes:
        project_id: Label Studio's number of the project; None while it has none.
        tasks: images of the run that have a task; None where later runs have taken over images.
        waiting: images of the run that are detected and have no task yet.
        finished_at: when the last task was recorded; None if there is none.
    """

    project_id: int | None
    tasks: int | None
    waiting: int
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of the run, as ZenML's own materializers read it back.

    Attributes:
        name: of the output of its step.
        materializer, data_type: import paths within zenml: loading it takes no boxdrop.
        file: the name that the materializer reads.
        body: its content.
        shown_as: ``html``, ``markdown`` or ``json``: how the dashboard shows it.
        shown: what the dashboard shows: None for the same file, else a readable version beside it.
    """

    name: str
    type: str
    materializer: str
    data_type: str
    file: str
    body: bytes
    shown_as: str
    shown: bytes | None = None

    @property
    def shown_file(self) -> str:
        """Name of the file that the dashboard shows."""
        return self.file if self.shown is None else "shown.md"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the run.

    Attributes:
        function: of `boxdrop.tracking.pipeline`, which does the same inside a ZenML pipeline.
        inputs: name of each input, with the step that made it.
        artifacts: its outputs.
    """

    name: str
    function: str
    description: str
    started_at: datetime
    finished_at: datetime
    after: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """Everything that ZenML records about one run.

    Attributes:
        run_id: names the run, and the versions of its artifacts.
        model, model_version: ZenML's model and version: the bundle's name, and the start of its digest.
        model_metadata: about the bundle.
        parameters: of the pipeline: the run's inputs.
        metadata: its results.
        tags: to filter by.
    """

    run_id: str
    project: str
    model: str
    model_version: str
    model_metadata: Mapping[str, Any]
    parameters: Mapping[str, Any]
    metadata: Mapping[str, Any]
    tags: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def started_at(self) -> datetime:
        """When the run began to gather its images."""
        return min(step.started_at for step in self.steps)

    @property
    def finished_at(self) -> datetime:
        """The time of its last task, or else of its last prediction."""
        return max(step.finished_at for step in self.steps)


def make_entry(
    summary: RunSummary,
    *,
    manifest: bytes,
    labels: str,
    thumbnails: Mapping[str, bytes],
    published: Published | None,
    lesson: Lesson | None = None,
) -> Entry:
    """Build the entry for ZenML.

    Args:
        summary: what the job wrote at its end.
        manifest: of the run, as it was.
        labels: the label set's snapshot, YAML.
        thumbnails: small JPEGs of the summary's samples, by key; may be empty.
        published: its state in Label Studio; None if it was not published, or if that is unknown.
        lesson: that the detector used; None without one.
    """
    label_set = LabelSet.from_yaml(labels, label_set_key(summary.labels))
    return Entry(
        run_id=summary.run_id,
        project=summary.project,
        model=summary.bundle.name,
        model_version=shown_digest(summary.bundle.digest),
        model_metadata=model_metadata(summary.bundle),
        parameters=_known(
            project=summary.project,
            images=f"s3://{summary.bucket}/{summary.project}/",
            labels=list(label_set.names),
            caption=summary.caption,
            detector=summary.bundle.name,
        ),
        metadata=run_metadata(summary, published) | lesson_metadata(label_set.lesson, lesson),
        tags=run_tags(summary),
        steps=_steps(summary, label_set, manifest, labels, thumbnails, published),
    )


def model_metadata(bundle: SummaryBundle) -> dict[str, Any]:
    """What ZenML records about a model version."""
    return _known(digest=bundle.digest, family=bundle.family, precision=bundle.precision)


def run_tags(summary: RunSummary) -> tuple[str, ...]:
    """The tags of a run: its project, and whether images failed."""
    return (summary.project, *(("with-failures",) if summary.failed else ()))


def run_metadata(summary: RunSummary, published: Published | None = None) -> dict[str, Any]:
    """What ZenML records about a run."""
    seconds = (summary.finished_at - summary.started_at).total_seconds()
    waited = (summary.started_at - summary.created_at).total_seconds()
    seen = summary.predicted + summary.failed
    return _known(
        project=summary.project,
        images=summary.images,
        predicted=summary.predicted,
        failed=summary.failed,
        failures_by_reason=dict(summary.failures_by_reason) or None,
        superseded=summary.superseded,
        gone=summary.gone,
        boxes=summary.boxes,
        boxes_by_label=dict(summary.boxes_by_label) or None,
        model_version=summary.model_version,
        generation=summary.generation,
        labels_digest=summary.labels,
        bundle=summary.bundle.name,
        bundle_digest=summary.bundle.digest,
        precision=summary.bundle.precision,
        provider=summary.provider,
        device=summary.device,
        images_per_s=round(seen / seconds, 2) if seconds > 0 else None,
        seconds=round(seconds, 1),
        seconds_waiting_for_a_machine=round(waited, 1),
        seconds_by_stage=stage_seconds(summary) or None,
        **{f"{summary.device_kind.lower()}_seconds": round(summary.gpu_seconds, 1)},
        estimated_cost_usd=summary.estimated_cost_usd,
        launcher=summary.launcher,
        instance_type=summary.instance_type,
        spot=summary.spot,
        shards=len(summary.shards),
        jobs=list(summary.job_ids) or None,
        tasks=published.tasks if published else None,
        label_studio_project=published.project_id if published else None,
    )


def lesson_metadata(number: str | None, lesson: Lesson | None) -> dict[str, Any]:
    """What ZenML records about the lesson of a run: cross-validated, with the words and with the lesson."""
    if number is None:
        return {}
    if lesson is None:
        return {"lesson": number}
    before, after = lesson.before, lesson.after
    return _known(
        lesson=number,
        lesson_images=len(lesson.images),
        lesson_boxes=lesson.boxes,
        lesson_labels=[each.name for each in lesson.labels],
        lesson_f1_of_words=before.f1,
        lesson_f1=after.f1,
        lesson_ap_of_words=before.ap,
        lesson_ap=after.ap,
        lesson_made_at=lesson.made_at.isoformat(),
    )


def stage_seconds(summary: RunSummary) -> dict[str, float]:
    """Seconds of work by stage, over all shards; stages that took none are left out."""
    total: Counter[str] = Counter()
    for shard in summary.shards:
        total.update(asdict(shard.stages))
    return {stage: round(seconds, 2) for stage, seconds in total.items() if seconds}


def _steps(
    summary: RunSummary,
    label_set: LabelSet,
    manifest: bytes,
    labels: str,
    thumbnails: Mapping[str, bytes],
    published: Published | None,
) -> tuple[Step, ...]:
    created, began, ended = summary.created_at, summary.started_at, summary.finished_at
    # A run's id begins with when it began to gather; its manifest is there when that is done.
    gathered = time_of_run(summary.run_id)
    dataset = Step(
        name="dataset",
        function="get_or_create_dataset",
        description="Gathers the images that want boxes, and pins the labels.",
        started_at=min(gathered, created),
        finished_at=created,
        artifacts=(
            _file("manifest", manifest, _manifest_page(summary, manifest)),
            _file("labels", labels.encode(), f"```yaml\n{labels}```\n"),
        ),
        metadata=_known(images=summary.images, labels=len(label_set)),
    )
    predict = Step(
        name="load_and_predict",
        function="predict",
        description="Fetches the images and finds boxes, in as many shards as the run has.",
        started_at=began,
        finished_at=max(began, ended),
        after=("dataset",),
        inputs={"manifest": "dataset", "labels": "dataset"},
        artifacts=(
            _text(
                "predictions", "JSONString", "output.json", to_json(summary, format=SUMMARY_FORMAT), "json"
            ),
            _text("scores", "HTMLString", "output.html", score_page(summary, label_set), "html"),
            _text("samples", "HTMLString", "output.html", _sheet(summary, label_set, thumbnails), "html"),
        ),
        metadata=_known(
            predicted=summary.predicted,
            failed=summary.failed,
            boxes=summary.boxes,
            seconds_by_stage=stage_seconds(summary) or None,
            provider=summary.provider,
        ),
    )
    # Publishing begins with the first part; only the time of its last part is known.
    synced = max(predict.finished_at, (published and published.finished_at) or predict.finished_at)
    sync = Step(
        name="sync",
        function="sync",
        description="Makes a task in Label Studio of each image that has a prediction.",
        started_at=min(predict.finished_at, synced),
        finished_at=synced,
        after=("load_and_predict",),
        inputs={"predictions": "load_and_predict"},
        metadata=_known(
            tasks=published.tasks if published else None,
            label_studio_project=published.project_id if published else None,
        ),
    )
    return dataset, predict, sync


def _sheet(summary: RunSummary, label_set: LabelSet, thumbnails: Mapping[str, bytes]) -> str:
    counts = counts_line(summary.predicted, summary.boxes, summary.failed, len(summary.samples))
    return sample_sheet(
        f"{summary.project}: {summary.caption}" if summary.caption else summary.project,
        f"Run {summary.run_id} · {summary.model_version} · {counts}",
        label_set,
        summary.boxes_by_label,
        summary.samples,
        thumbnails,
    )


def _known(**values: Any) -> dict[str, Any]:
    """Leave out unknown values: ZenML's metadata has no null."""
    return {name: value for name, value in values.items() if value is not None}


def _file(name: str, body: bytes, shown: str) -> Artifact:
    materializer = "zenml.materializers.built_in_materializer.BytesMaterializer"
    kind = "DataArtifact"
    return Artifact(name, kind, materializer, "builtins.bytes", "data.txt", body, "markdown", shown.encode())


def _text(name: str, data_type: str, file: str, text: str, shown_as: str) -> Artifact:
    materializer = "zenml.materializers.structured_string_materializer.StructuredStringMaterializer"
    kind = "DataAnalysisArtifact"
    return Artifact(name, kind, materializer, f"zenml.types.{data_type}", file, text.encode(), shown_as)


def _manifest_page(summary: RunSummary, manifest: bytes) -> str:
    """The first images of a manifest as a table; the artifact itself has them all."""
    rows = manifest.split(b"\n", _MANIFEST_ROWS + 1)[1 : _MANIFEST_ROWS + 1]
    images = [json.loads(row) for row in rows if row.strip()]
    lines = [f"{summary.images:,} images of s3://{summary.bucket}", "", "| key | version |", "| --- | --- |"]
    lines += [f"| {_cell(image['key'])} | {_cell(image['version'])} |" for image in images]
    if summary.images > len(images):
        lines.append(f"| … and {summary.images - len(images):,} more | |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return "`" + text.replace("|", "¦").replace("`", "'").replace("\n", " ") + "`"
