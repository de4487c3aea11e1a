"""credits: credits of retrieved images, from the metadata of their objects.

Metadata is stored with an object, so it exists before the image's first event. Most projects have none: those
with credits have a ``sources.jsonl``, which `boxdrop retrieve` writes before the first image.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from boxdrop.aws.s3 import Bucket
from boxdrop.ledger import Image
from boxdrop.retrieve.provenance import SOURCES, Credit

_AT_ONCE: Final = 16


class ObjectCredits:
    """Reads credits; see `boxdrop.services.ImageCredits`.

    It costs one request per project without credits, and one per image otherwise: $0.0004 for 1,000.

    Args:
        open_bucket: opens a bucket by name.
    """

    def __init__(self, open_bucket: Callable[[str], Bucket] = Bucket) -> None:
        self._open = open_bucket
        self._buckets: dict[str, Bucket] = {}
        self._retrieved: set[tuple[str, str]] = set()

    def __call__(self, project: str, images: Sequence[Image]) -> Mapping[str, Mapping[str, Any]]:
        """Fields for the tasks of these images of a project, by image_id.

        Raises:
            BoxdropError: S3 fails: a late task is better than one without its credit.
        """
        buckets = {image.bucket for image in images}
        retrieved = {bucket for bucket in buckets if self._was_retrieved(bucket, project)}
        wanted = [image for image in images if image.bucket in retrieved]
        if not wanted:
            return {}
        with ThreadPoolExecutor(min(_AT_ONCE, len(wanted))) as pool:
            found = pool.map(lambda image: self._bucket(image.bucket).metadata(image.key), wanted)
            credits = [
                (image, Credit.from_metadata(metadata)) for image, metadata in zip(wanted, found, strict=True)
            ]
        return {image.image_id: credit.task_data() for image, credit in credits if credit is not None}

    def _was_retrieved(self, bucket: str, project: str) -> bool:
        """Whether images of the project may have credits; "no" is checked again on the next call."""
        place = (bucket, project)
        if place not in self._retrieved and self._bucket(bucket).exists(f"{project}/{SOURCES}"):
            self._retrieved.add(place)
        return place in self._retrieved

    def _bucket(self, name: str) -> Bucket:
        if name not in self._buckets:
            self._buckets[name] = self._open(name)
        return self._buckets[name]
