"""Manifests: which images a run is about, and how they are divided into shards and parts.

A manifest is one object, written once: a `ManifestHeader` in its first line, then one line per image.
`docs/runs.md` describes it for readers of the files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import from_json, to_json
from boxdrop.domain.errors import RunError
from boxdrop.domain.identity import check_run_id, is_run_id
from boxdrop.store.layout import PART_IMAGES, PartName, manifest_key
from boxdrop.store.write_once import write_or_read

FORMAT: Final = "boxdrop-manifest/1"


@dataclass(frozen=True, slots=True)
class PinnedBundle:
    """The detector that a run uses; `digest` is `boxdrop.detect.Bundle.digest`, 64 hexadecimal digits."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class ManifestHeader:
    """The first line of a manifest: what to do with the images of the lines below.

    Attributes:
        project: name of the images' project.
        bucket: the bucket that holds them.
        generation: the generation of the project's labels, see `boxdrop.ledger`.
        labels: digest of the label set, see `boxdrop.store.labelsets`.
        model_version: what the records will carry; the job compares it with its detector's.
        images: how many lines follow; none where all images of the run came with boxes of their own, whose
            parts are numbered behind these lines.
        part_images: lines per part; the last part may have fewer.
        shard_images: lines per shard, a multiple of `part_images`.
    """

    run_id: str
    project: str
    bucket: str
    generation: int
    labels: str
    bundle: PinnedBundle
    model_version: str
    images: int
    created_at: datetime
    part_images: int = PART_IMAGES
    shard_images: int = 16 * PART_IMAGES

    def __post_init__(self) -> None:
        if not is_run_id(self.run_id):
            raise ValueError(f"run_id is {self.run_id!r}; use new_run_id()")
        if self.images < 0 or min(self.part_images, self.shard_images) < 1:
            raise ValueError("images must be 0 or more, part_images and shard_images 1 or more")
        if self.shard_images % self.part_images:
            raise ValueError(
                f"shard_images ({self.shard_images}) must be a multiple of part_images ({self.part_images})"
            )

    @property
    def shards(self) -> int:
        """How many jobs it takes."""
        return -(-self.images // self.shard_images)

    def parts(self, shard: int | None = None) -> list[PartName]:
        """The parts of one shard, or of all."""
        begin, end = self.lines(shard)
        return [
            PartName(self.project, self.run_id, first, min(first + self.part_images, end))
            for first in range(begin, end, self.part_images)
        ]

    def lines(self, shard: int | None = None) -> tuple[int, int]:
        """First line, and line after the last, of one shard or of all."""
        if shard is None:
            return 0, self.images
        begin = shard * self.shard_images
        if not 0 <= begin < self.images:
            raise RunError(
                f"run {self.run_id} has {self.shards} shards, numbered from 0; there is no {shard}"
            )
        return begin, min(begin + self.shard_images, self.images)


@dataclass(frozen=True, slots=True)
class ManifestImage:
    """A line of a manifest; `version` as `boxdrop.domain.identity.object_version` gives it."""

    image_id: str
    key: str
    version: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest, or the lines of it that one shard needs.

    Attributes:
        first: the line number of the first of `images`.
    """

    header: ManifestHeader
    images: tuple[ManifestImage, ...]
    first: int = 0

    def images_of(self, part: PartName) -> tuple[ManifestImage, ...]:
        """The images that a part is about."""
        return self.images[part.first - self.first : part.last - self.first]


def write_manifest(bucket: Bucket, header: ManifestHeader, images: Iterable[ManifestImage]) -> None:
    """Write a run's manifest, once. Writing the same content again changes nothing.

    Raises:
        RunError: there are fewer or more images than the header says, or the run has another manifest.
    """
    lines = [to_json(header, format=FORMAT), *(to_json(image) for image in images)]
    if len(lines) != header.images + 1:
        raise RunError(f"run {header.run_id}: {len(lines) - 1} images, but its header says {header.images}")
    body = ("\n".join(lines) + "\n").encode()
    stored = write_or_read(bucket, manifest_key(header.run_id), body, "application/x-ndjson")
    if stored != body:
        raise RunError(f"run {header.run_id} has another manifest already; take a new run_id")


def read_manifest(bucket: Bucket, run_id: str, shard: int | None = None) -> Manifest:
    """Read a manifest, holding in memory only what is asked for.

    Args:
        bucket: the data bucket.
        run_id: the run.
        shard: only the lines of this shard; None for all.

    Raises:
        RunError: there is none, it is not valid, or it has no such shard.
    """
    key = manifest_key(check_run_id(run_id))
    lines = bucket.lines(key)
    if lines is None:
        raise RunError(f"s3://{bucket.name}/{key}: there is no such manifest")
    where = f"s3://{bucket.name}/{key}"
    header = _header(next(lines, b""), where)
    if header.run_id != run_id:
        raise RunError(f"{where}: this is the manifest of run {header.run_id}")
    begin, end = header.lines(shard)
    images = tuple(
        from_json(ManifestImage, line, where=f"{where}: line {number + 2}", error=RunError)
        for number, line in enumerate(islice(lines, begin, end), begin)
    )
    if len(images) != end - begin:
        raise RunError(f"{where}: ends after {begin + len(images)} of {header.images} images")
    return Manifest(header, images, begin)


def read_header(bucket: Bucket, run_id: str) -> ManifestHeader:
    """Read the first line of a manifest.

    Raises:
        RunError: there is no manifest, or it is not valid.
    """
    key = manifest_key(check_run_id(run_id))
    lines = bucket.lines(key)
    if lines is None:
        raise RunError(f"s3://{bucket.name}/{key}: there is no such manifest")
    return _header(next(lines, b""), f"s3://{bucket.name}/{key}")


def _header(line: bytes, where: str) -> ManifestHeader:
    return from_json(ManifestHeader, line, format=FORMAT, where=f"{where}: line 1", error=RunError)
