"""Publishes a source's records to Label Studio, for `annotate` and the ZenML pipeline.

Local images are uploaded; those in S3 stay there, and Label Studio is connected to their bucket. Where
browsers show an image differently than the detector saw it, an upright copy is uploaded.
"""

from collections.abc import Callable, Iterable, Sequence

from boxdrop.annotate.credits import read_credits
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, Limits, read_file
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Prediction, Record, record_key
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project, connect_bucket, ensure_project
from boxdrop.labelstudio.publishing import ImageUrls, PublishSummary, publish
from boxdrop.labelstudio.uploads import Uploads
from boxdrop.sources import Source, SourceImage


def open_project(connection: Connection, source: Source, label_set: LabelSet, title: str) -> Project:
    """Find the source's project in Label Studio, or create it.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        source: where the images are; its location identifies the project.
        label_set: the labels that annotators can draw.
        title: of the project, if it is new.
    """
    project = ensure_project(connection, label_set, title, key=source.location)
    if source.folder is None:
        connect_bucket(connection, project, source.location.removeprefix("s3://").partition("/")[0])
    return project


def publish_records(
    connection: Connection,
    project: Project,
    source: Source,
    records: Iterable[Record],
    *,
    limits: Limits = DEFAULT_LIMITS,
    on_progress: Callable[[PublishSummary], None] | None = None,
) -> PublishSummary:
    """Create a task for each image, once; replace predictions that changed. Repeating it changes nothing.

    Args:
        connection: as for `open_project`.
        project: the source's.
        source: where the images are.
        records: of images of the source.
        limits: bytes that an image may have to be uploaded.
        on_progress: called after each chunk of tasks.
    """
    credits = read_credits(source)
    return publish(
        connection,
        project,
        records,
        project.label_set,
        _image_urls(connection, project, source, limits),
        credits=lambda predictions: {
            each.image_id: credits[each.image] for each in predictions if each.image in credits
        },
        on_progress=on_progress,
    )


def _image_urls(connection: Connection, project: Project, source: Source, limits: Limits) -> ImageUrls:
    folder = source.folder
    if folder is not None:
        return Uploads(connection, project, lambda each: read_file(folder / each.image, limits)).urls

    def fetch(prediction: Prediction) -> bytes:
        key = record_key(prediction)
        image = SourceImage(prediction.image, prediction.image_id, prediction.version, key)
        return source.fetch(image, limits)

    uploads = Uploads(connection, project, fetch)

    def urls(predictions: Sequence[Prediction]) -> list[str | ImageError]:
        copied = [each for each in predictions if each.display is not None]
        copies = (
            dict(zip((each.image_id for each in copied), uploads.urls(copied), strict=True)) if copied else {}
        )
        return [copies.get(each.image_id, each.image) for each in predictions]

    return urls
