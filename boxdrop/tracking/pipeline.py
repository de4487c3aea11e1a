"""The job as a ZenML pipeline, for teams who run things from ZenML: dataset, images, predict, sync.

    from boxdrop.tracking.pipeline import boxes_for_images
    boxes_for_images(images="s3://my-images/fruit/", labels="pineapple, banana, apple")

It runs on the stack that is active, with any orchestrator. Images are passed by reference: a step hands on
names and versions, and the one that detects fetches exactly those. Where steps run on different machines,
images and detector must be in S3. Label Studio's address and token come from ``LABEL_STUDIO_URL`` and
``LABEL_STUDIO_API_KEY`` (or ``BOXDROP_LABEL_STUDIO_SECRET``), as everywhere in boxdrop; without an address,
the pipeline ends with the predictions.

The deployed system does the same by itself, event by event, and `boxdrop.tracking.track` registers its runs
in ZenML; use this pipeline where a schedule or another pipeline is to decide when images are looked at.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from zenml import log_metadata, pipeline, step
from zenml.types import HTMLString

from boxdrop.annotate.thumbnails import thumbnail_path
from boxdrop.aws.secrets import LABEL_STUDIO_URL, Secrets
from boxdrop.errors import BoxdropError
from boxdrop.images import Limits
from boxdrop.labels import LabelSet
from boxdrop.predictions import Failure, Record, read_jsonl
from boxdrop.sources import Source, SourceImage, open_source
from boxdrop.store.reports import SAMPLES, Sample, SampleBox
from boxdrop.tracking.pages import counts_line, sample_sheet

if TYPE_CHECKING:
    from boxdrop.detect import Bundle

Provider = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class ListedSource:
    """A source of exactly the images that were listed, whatever has come since.

    Args:
        of: where they are.
        listed: what an earlier step saw.
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

    def images(self) -> Iterator[SourceImage]:
        """See `boxdrop.sources.Source`."""
        return iter(self.listed)

    def fetch(self, image: SourceImage, limits: Limits) -> bytes:
        """See `boxdrop.sources.Source`."""
        return self.of.fetch(image, limits)


@step(enable_cache=False)
def get_or_create_dataset(
    images: str, labels: str, title: str | None = None
) -> Annotated[dict[str, Any], "dataset"]:
    """Find the project in Label Studio or create it, with the labels; its number is None without one."""
    label_set = LabelSet.load(labels)
    connection = _label_studio()
    dataset: dict[str, Any] = {"images": images, "labels": label_set.to_yaml(), "label_studio_project": None}
    if connection is not None:
        from boxdrop.annotate.publishing import open_project

        name = title or label_set.caption or images.rstrip("/").rpartition("/")[2]
        project = open_project(connection, open_source(images), label_set, name)
        # Its ids are frozen: they are what people have drawn with so far.
        dataset |= {
            "labels": project.label_set.to_yaml(),
            "label_studio_project": project.id,
            "title": project.title,
        }
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
    for image in source.images():
        if limit is not None and len(listed) >= limit:
            break
        listed.append(
            {"name": image.name, "image_id": image.image_id, "version": image.version, "key": image.key}
        )
    if not listed:
        raise BoxdropError(f"{source.location}: no images here; boxdrop takes jpg, png, webp, tiff, heic, …")
    log_metadata(metadata={"images": len(listed), "source": source.location})
    return listed


@step
def predict(
    dataset: dict[str, Any],
    images: list[dict[str, str]],
    detector: str | None = None,
    provider: Provider = "cpu",
) -> tuple[Annotated[Path, "predictions"], Annotated[HTMLString, "samples"]]:
    """Fetch the images, find boxes. The records are those of docs/predictions.md, as a file."""
    from boxdrop.annotate.run import AnnotateRun
    from boxdrop.demo import BUNDLE
    from boxdrop.detect import Detector

    label_set = LabelSet.from_yaml(dataset["labels"], "labels of the dataset")
    model = Detector.load(_bundle(detector or label_set.detector) or BUNDLE, provider)
    source = ListedSource(open_source(dataset["images"]), [SourceImage(**image) for image in images])
    out = Path(tempfile.mkdtemp(prefix="boxdrop-")) / "boxes"
    run = AnnotateRun(source, label_set, model, out)
    summary = run.run()
    log_metadata(
        metadata={
            "model_version": run.model_version,
            "bundle_digest": model.bundle.digest,
            "images": summary.images,
            "failed": summary.failures,
            "boxes": summary.boxes,
            "boxes_by_label": dict(summary.boxes_by_label),
            "seconds": round(summary.seconds, 2),
        }
    )
    return run.outputs.predictions, HTMLString(_sheet(run.records(), label_set, out))


@step(enable_cache=False)
def sync(dataset: dict[str, Any], predictions: Path) -> Annotated[dict[str, int], "tasks"]:
    """Make a task in Label Studio of each image, once; replace predictions that changed."""
    connection = _label_studio()
    number = dataset["label_studio_project"]
    if connection is None or number is None:
        return {}
    from boxdrop.annotate.publishing import publish_records
    from boxdrop.labelstudio.project import Project

    label_set = LabelSet.from_yaml(dataset["labels"], "labels of the dataset")
    project = Project(number, dataset["title"], f"{connection.url}/projects/{number}/data", label_set)
    source = open_source(dataset["images"])
    summary = publish_records(connection, project, source, read_jsonl(predictions))
    counts = {"created": summary.created, "replaced": summary.replaced, "unchanged": summary.unchanged}
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
    """Find boxes in images, and bring them to people.

    Args:
        images: a folder, or ``s3://bucket/prefix/``.
        labels: ``"pineapple, banana, apple"``, or a path to a ``labels.yaml`` that the first step can read.
        title: of the project in Label Studio, where there is none yet.
        detector: a bundle's folder, or ``s3://data-bucket/NAME`` for one that `boxdrop bundle push` stored;
            by default the one that the labels name, or else the demo detector.
        provider: ``cpu`` or ``cuda``.
        caption: retrieve images that it describes into `images` first; with licences and credits, see
            docs/retrieve.md. Without it, `images` is listed as it is.
        count: images wanted there.
        collection: ``openverse``, or an archive of your own (a folder or ``s3://…``) ranked by the caption.
        limit: look at the first so many images only.
    """
    dataset = get_or_create_dataset(images, labels, title)
    listed = load_images(dataset, caption, count, collection, limit)
    predictions, _ = predict(dataset, listed, detector, provider)
    sync(dataset, predictions)


def _label_studio() -> Any:
    """A connection, or None where no Label Studio is named."""
    if not os.environ.get(LABEL_STUDIO_URL) and not os.environ.get("BOXDROP_LABEL_STUDIO_SECRET"):
        return None
    from boxdrop.labelstudio.connection import connect

    access = Secrets().label_studio()
    if not access.url:
        raise BoxdropError(f"where is Label Studio? Put its URL into {LABEL_STUDIO_URL}")
    return connect(access.url, access.token)


def _retrieve(caption: str, into: str, count: int, collection: str) -> None:
    """Bring images that a caption describes to where the pipeline looks."""
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


def _bundle(detector: str | None) -> "Path | Bundle | None":
    """A bundle of this machine; one in the data bucket is fetched, and checked."""
    if not detector or not detector.startswith("s3://"):
        return Path(detector) if detector else None
    from boxdrop.aws.s3 import Bucket
    from boxdrop.store.bundles import fetch, resolve

    bucket, _, name = detector.removeprefix("s3://").partition("/")
    found = Bucket(bucket)
    cache = Path(os.environ.get("BOXDROP_BUNDLE_CACHE") or Path(tempfile.gettempdir()) / "boxdrop-bundles")
    return fetch(found, resolve(found, name or None), cache)


def _sheet(records: Iterator[Record], label_set: LabelSet, out: Path) -> str:
    """The page of sample images that tracked runs have, too: the first images with boxes."""
    samples: list[Sample] = []
    thumbnails: dict[str, bytes] = {}
    boxes: Counter[str] = Counter()
    predicted = failed = 0
    for record in records:
        if isinstance(record, Failure):
            failed += 1
            continue
        predicted += 1
        boxes.update(box.label for box in record.boxes)
        if record.boxes and len(samples) < SAMPLES:
            found = tuple(SampleBox(box.label, box.score, box.xyxy) for box in record.boxes)
            samples.append(Sample(record.image, record.version, record.width, record.height, found))
            thumbnails[record.image] = (out / thumbnail_path(record.image_id)).read_bytes()
    title = label_set.caption or ", ".join(label_set.names)
    line = counts_line(predicted, boxes.total(), failed, len(samples))
    return sample_sheet(title, line, label_set, boxes, samples, thumbnails)
