"""Detection as a ZenML pipeline, for teams who start things from ZenML: dataset, images, predict, sync.

    from boxdrop.tracking.pipeline import boxes_for_images
    boxes_for_images(images="s3://my-images/fruit/", labels="pineapple, banana, apple")

It runs on the active stack, with any orchestrator. Images are passed by reference: a step passes on names and
versions, and `predict` fetches exactly those, by the same path as `boxdrop annotate`. Where steps run on
different machines, images and detector must be in S3. Label Studio's address and token come from
``LABEL_STUDIO_URL`` and ``LABEL_STUDIO_API_KEY`` (or ``BOXDROP_LABEL_STUDIO_SECRET``), as everywhere in
boxdrop; without an address, the pipeline ends with the predictions.

`predict` may be served from ZenML's cache. Its inputs hold all that its answers depend on: the labels, the
images' versions, the detector's digest and threshold, and the version of boxdrop.

The deployed system does the same by itself, event by event, and `boxdrop.tracking.track` registers its runs
in ZenML; use this pipeline where a schedule or another pipeline decides when images are processed.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from zenml import get_step_context, log_metadata, pipeline, step
from zenml.types import HTMLString, JSONString

from boxdrop import __version__
from boxdrop.annotate.thumbnails import thumbnail_path
from boxdrop.aws.secrets import LABEL_STUDIO_URL, Secrets
from boxdrop.documents import to_json
from boxdrop.domain.detector_names import PLUS, pinned_name
from boxdrop.domain.errors import BoxdropError, BundleError
from boxdrop.domain.images import Limits
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.left_out import LeftOut, OnLeftOut, ignore
from boxdrop.domain.predictions import read_jsonl, record_key
from boxdrop.sources import Source, SourceImage, no_images, open_source
from boxdrop.store.reports import SUMMARY_FORMAT, RunSummary, SummaryBundle, summary_from_json
from boxdrop.tracking.entry import run_metadata
from boxdrop.tracking.link import describe_run, link_model
from boxdrop.tracking.materializer import PredictionsMaterializer
from boxdrop.tracking.pages import counts_line, sample_sheet, score_page

if TYPE_CHECKING:
    from boxdrop.annotate.run import AnnotateRun
    from boxdrop.detect.merged import AnyDetector
    from boxdrop.domain.lesson import Lesson

Provider = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class ListedSource:
    """A source of exactly the listed images, regardless of later uploads.

    Args:
        of: where they are.
        listed: from an earlier step.
    """

    of: Source
    listed: Sequence[SourceImage]

    @property
    def location(self) -> str:
        """See `boxdrop.sources.Source`."""
        return self.of.location

    @property
    def folder(self) -> Path | None:
        """See `boxdrop.sources.Source`."""
        return self.of.folder

    def images(self, on_left_out: OnLeftOut = ignore) -> Iterator[SourceImage]:
        """See `boxdrop.sources.Source`; the step that listed the images has counted what was left out."""
        return iter(self.listed)

    def fetch(self, image: SourceImage, limits: Limits) -> bytes:
        """See `boxdrop.sources.Source`."""
        return self.of.fetch(image, limits)


@step(enable_cache=False)
def get_or_create_dataset(
    images: str, labels: str, title: str | None = None, detector: str | None = None
) -> Annotated[dict[str, Any], "dataset"]:
    """Pin labels and detector; find or create the Label Studio project (None without Label Studio)."""
    label_set = LabelSet.load(labels)
    connection = _label_studio()
    pin = pin_detector(detector or label_set.detector)
    dataset: dict[str, Any] = {
        "images": images,
        "labels": label_set.to_yaml(),
        "label_studio_project": None,
        "detector": asdict(pin),
        "boxdrop": __version__,
    }
    if connection is not None:
        from boxdrop.annotate.publishing import open_project

        name = title or label_set.caption or images.rstrip("/").rpartition("/")[2]
        project = open_project(connection, open_source(images), label_set, name)
        # The project's label set: its ids are frozen, because annotators have used them.
        dataset |= {
            "labels": project.label_set.to_yaml(),
            "label_studio_project": project.id,
            "title": project.title,
        }
    link_model(SummaryBundle(pin.name, pin.digest, pin.family, pin.precision))
    log_metadata(
        metadata={"labels": len(label_set), "label_studio_project": dataset["label_studio_project"] or 0}
    )
    return dataset


@step(enable_cache=False)
def load_images(
    dataset: dict[str, Any],
    caption: str | None = None,
    count: int = 100,
    collection: str = "openverse",
    limit: int | None = None,
) -> Annotated[list[dict[str, str]], "images"]:
    """List the images: names, identities, versions. With a caption, some are retrieved first."""
    if caption:
        _retrieve(caption, dataset["images"], count, collection)
    source = open_source(dataset["images"])
    listed: list[dict[str, str]] = []
    left_out: Counter[LeftOut] = Counter()
    for image in source.images(lambda _, reason: left_out.update([reason])):
        if limit is not None and len(listed) >= limit:
            break
        listed.append(
            {"name": image.name, "image_id": image.image_id, "version": image.version, "key": image.key}
        )
    if not listed:
        raise no_images(source.location, left_out)
    counts: dict[str, Any] = {"images": len(listed), "left_out": dict(left_out)}
    log_metadata(metadata={**counts, "source": source.location})
    return listed


@step(output_materializers={"predictions": PredictionsMaterializer})
def predict(
    dataset: dict[str, Any], images: list[dict[str, str]], provider: Provider = "cpu"
) -> tuple[
    Annotated[Path, "predictions"],
    Annotated[HTMLString, "samples"],
    Annotated[HTMLString, "scores"],
    Annotated[JSONString, "summary"],
]:
    """Fetch the images, find boxes. The records are those of docs/predictions.md, as a file."""
    from boxdrop.annotate.history import summarise_run
    from boxdrop.annotate.run import AnnotateRun

    label_set = LabelSet.from_yaml(dataset["labels"], "labels of the dataset")
    pin = PinnedDetector(**dataset["detector"])
    model = pin.load(provider)
    if label_set.lesson is not None:
        model.learn(label_set.lesson, pin.lesson(label_set.lesson))
    source = ListedSource(open_source(dataset["images"]), [SourceImage(**image) for image in images])
    run = AnnotateRun(source, label_set, model, _temporary_folder() / "boxes")
    started = datetime.now(UTC)
    summary = summarise_run(run, run.run(), started, datetime.now(UTC))
    log_metadata(metadata=run_metadata(summary))
    return (
        run.outputs.predictions,
        HTMLString(_sheet(summary, run)),
        HTMLString(score_page(summary, label_set)),
        JSONString(to_json(summary, format=SUMMARY_FORMAT)),
    )


@step(enable_cache=False)
def sync(
    dataset: dict[str, Any], predictions: Path, summary: JSONString
) -> Annotated[dict[str, int], "tasks"]:
    """Create a Label Studio task for each image, once; replace predictions that changed."""
    describe_run(summary_from_json(summary))
    connection = _label_studio()
    number = dataset["label_studio_project"]
    if connection is None or number is None:
        return {}
    from boxdrop.annotate.publishing import publish_records
    from boxdrop.labelstudio.project import Project

    label_set = LabelSet.from_yaml(dataset["labels"], "labels of the dataset")
    project = Project(number, dataset["title"], f"{connection.url}/projects/{number}/data", label_set)
    source = open_source(dataset["images"])
    published = publish_records(connection, project, source, read_jsonl(predictions))
    counts = {"created": published.created, "replaced": published.replaced, "unchanged": published.unchanged}
    log_metadata(metadata={**counts, "label_studio_project": number})
    return counts


@pipeline(name="boxdrop-boxes")
def boxes_for_images(
    images: str,
    labels: str,
    title: str | None = None,
    detector: str | None = None,
    provider: Provider = "cpu",
    caption: str | None = None,
    count: int = 100,
    collection: str = "openverse",
    limit: int | None = None,
) -> None:
    """Find boxes in images, and publish them to Label Studio.

    Args:
        images: a folder, or ``s3://bucket/prefix/``.
        labels: ``"pineapple, banana, apple"``, or a path to a ``labels.yaml`` that the first step can read.
        title: of the Label Studio project, if it is new.
        detector: a bundle's folder, or ``s3://data-bucket/NAME`` for one that `boxdrop bundle push` stored;
            by default the one that the labels name, or else the demo detector.
        provider: ``cpu`` or ``cuda``.
        caption: retrieve images that match it into `images` first, with licences and credits, see
            docs/retrieve.md. Without it, `images` is listed as it is.
        count: images wanted there.
        collection: ``openverse``, or an archive of your own (a folder or ``s3://…``) ranked by the caption.
        limit: process the first `limit` images only.
    """
    dataset = get_or_create_dataset(images, labels, title, detector)
    listed = load_images(dataset, caption, count, collection, limit)
    predictions, _, _, summary = predict(dataset, listed, provider)
    sync(dataset, predictions, summary)


def _label_studio() -> Any:
    """A connection, or None if no Label Studio is configured."""
    if not os.environ.get(LABEL_STUDIO_URL) and not os.environ.get("BOXDROP_LABEL_STUDIO_SECRET"):
        return None
    from boxdrop.labelstudio.connection import connect

    access = Secrets().label_studio()
    if not access.url:
        raise BoxdropError(f"where is Label Studio? Put its URL into {LABEL_STUDIO_URL}")
    return connect(access.url, access.token)


def _retrieve(caption: str, into: str, count: int, collection: str) -> None:
    """Retrieve images that match a caption into the pipeline's source."""
    from boxdrop.aws.s3 import Bucket
    from boxdrop.demo import BUNDLE
    from boxdrop.detect import Detector
    from boxdrop.home import home
    from boxdrop.retrieve.addresses import AddressGuard
    from boxdrop.retrieve.archive import Archive, rank
    from boxdrop.retrieve.candidates import CandidateSource
    from boxdrop.retrieve.destinations import BucketPrefix, Destination, Folder
    from boxdrop.retrieve.licenses import LicenseFilter
    from boxdrop.retrieve.openverse import Openverse
    from boxdrop.retrieve.retrieval import Retrieval
    from boxdrop.retrieve.web import Web

    destination: Destination = Folder(Path(into))
    if into.startswith("s3://"):
        bucket, _, prefix = into.removeprefix("s3://").partition("/")
        destination = BucketPrefix(Bucket(bucket), prefix, home() / "retrieve")
    web = Web(AddressGuard())
    try:
        source: CandidateSource
        if collection == "openverse":
            source = Openverse(web, caption, LicenseFilter())
        else:
            archive = open_source(collection)
            # Twice as many as are wanted, since some will be duplicates or too small.
            source = Archive(archive, rank(archive, Detector.load(BUNDLE), caption, top=2 * count))
        Retrieval(source, destination, caption=caption).run(count)
    finally:
        web.close()


@dataclass(frozen=True, slots=True)
class PinnedDetector:
    """A bundle as pinned by the first step, with everything that determines its output.

    Attributes:
        location: a folder, or ``s3://data-bucket/NAME@DIGEST16``, of two detectors with a + between them.
        threshold: of labels that set none; a bundle's digest does not cover it.
    """

    location: str
    name: str
    digest: str
    threshold: float
    family: str
    precision: str

    def load(self, provider: Provider = "cpu") -> "AnyDetector":
        """Load the detector, from the data bucket if it is there.

        Raises:
            BundleError: it was replaced or edited since it was pinned.
        """
        from boxdrop.detect import Bundle, Detector

        if self.location.startswith("s3://"):
            from boxdrop.aws.s3 import Bucket
            from boxdrop.store.bundles import describe
            from boxdrop.store.detectors import open_detector

            bucket = Bucket(self.location.removeprefix("s3://").partition("/")[0])
            cache = os.environ.get("BOXDROP_BUNDLE_CACHE") or Path(tempfile.gettempdir()) / "boxdrop-bundles"
            return open_detector(bucket, describe(bucket, self.name, self.digest), Path(cache), provider)
        bundle = Bundle.load(Path(self.location))
        if (bundle.digest, bundle.defaults.threshold) != (self.digest, self.threshold):
            raise BundleError(f"{self.location}: the detector was replaced during the run; start it again")
        return Detector.load(bundle, provider)

    def lesson(self, number: str) -> "Lesson":
        """Read a lesson of the data bucket that the detector is in.

        Raises:
            LessonError: the detector is not in a data bucket, or the lesson is not in that one.
        """
        from boxdrop.domain.errors import LessonError

        if not self.location.startswith("s3://"):
            raise LessonError(
                f"the labels use lesson {number}: give the detector as s3://DATA-BUCKET/NAME, where it is"
            )
        from boxdrop.aws.s3 import Bucket
        from boxdrop.store.lessons import read_lesson

        return read_lesson(Bucket(self.location.removeprefix("s3://").partition("/")[0]), number)


def pin_detector(detector: str | None) -> PinnedDetector:
    """Resolve the detector; every file of a folder is checked against its ``bundle.json``.

    Args:
        detector: a bundle's folder, or ``s3://data-bucket/NAME``; None for the demo detector.

    Raises:
        BundleError: there is none, or a file is not what ``bundle.json`` says.
    """
    from boxdrop.demo import BUNDLE
    from boxdrop.detect import Bundle

    if detector and detector.startswith("s3://"):
        from boxdrop.aws.s3 import Bucket
        from boxdrop.store.bundles import resolve

        bucket, _, name = detector.removeprefix("s3://").partition("/")
        ref = resolve(Bucket(bucket), name or None)
        location = f"s3://{bucket}/{pinned_name(ref.name, ref.digest)}"
        return PinnedDetector(location, ref.name, ref.digest, ref.threshold, ref.family, ref.precision)
    folder = Path(detector) if detector else BUNDLE
    if detector and PLUS in detector and not folder.exists():
        raise BundleError(
            f"detector {detector}: two detectors must be in a data bucket here: s3://DATA-BUCKET/{detector}"
        )
    bundle = Bundle.load(folder)
    bundle.verify()
    return PinnedDetector(
        str(folder), bundle.name, bundle.digest, bundle.defaults.threshold, bundle.family, bundle.precision
    )


def _temporary_folder() -> Path:
    """Make a folder that is removed once the step has stored its outputs."""
    folder = tempfile.mkdtemp(prefix="boxdrop-")
    # What ZenML's own materializers register their folders with; it has no public name.
    get_step_context()._cleanup_registry.register_callback(lambda: shutil.rmtree(folder, ignore_errors=True))
    return Path(folder)


def _sheet(summary: RunSummary, run: "AnnotateRun") -> str:
    """The page of sample images, as for tracked runs."""
    thumbnails: dict[str, bytes] = {}
    wanted = {sample.key for sample in summary.samples}
    for record in run.records():
        key = record_key(record)
        if key in wanted:
            thumbnails[key] = (run.outputs.folder / thumbnail_path(record.image_id)).read_bytes()
    line = counts_line(summary.predicted, summary.boxes, summary.failed, len(summary.samples))
    title = summary.caption or ", ".join(run.label_set.names)
    return sample_sheet(title, line, run.label_set, summary.boxes_by_label, summary.samples, thumbnails)
