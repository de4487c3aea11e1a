"""Frozen data sets: permanent snapshots of items in the data bucket.

Items are stored in parts that are named by their content; ``dataset.json`` lists the parts and is written
last, once. A process that is killed in between leaves only unused parts, and no data set.
"""

import gzip
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from boxdrop.aws.s3 import Bucket, Put
from boxdrop.datasets.items import FORMAT, ClassName, DatasetError, Item, LeftOut
from boxdrop.documents import from_json, to_json
from boxdrop.store.layout import dataset_key, dataset_part_key, datasets_prefix, prefixes_of
from boxdrop.store.nested import get_own

_PART: Final = 5_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Part:
    """A part: the sha256 of its object, and its number of items."""

    sha256: str
    items: int


@dataclass(frozen=True, slots=True)
class Header:
    """The content of ``dataset.json``.

    Attributes:
        images, boxes: how many there are.
        left_out: images that were left out, by reason.
        prompts: of each label in force then; empty in data sets of earlier versions.
    """

    project: str
    name: str
    frozen_at: datetime
    classes: tuple[ClassName, ...]
    splits: tuple[str, ...]
    images: int
    boxes: int
    parts: tuple[Part, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    dropped_boxes: Mapping[str, int] = field(default_factory=dict)
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Identifies the content: the same items, classes and splits give the same digest."""
        text = repr((self.classes, self.splits, self.parts))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class FrozenDataset:
    """A frozen data set, whose items are streamed; see `boxdrop.datasets.export.Stored`."""

    predictions = False

    def __init__(self, bucket: Bucket, header: Header) -> None:
        self.header = header
        self.classes = header.classes
        self.splits = header.splits
        self.prompts = header.prompts
        self.dropped_boxes: Counter[str] = Counter(header.dropped_boxes)
        self._bucket = bucket

    def __iter__(self) -> Iterator[Item | LeftOut]:
        """Stream the items by image_id.

        Raises:
            DatasetError: a part is missing or altered.
        """
        for part in self.header.parts:
            key = dataset_part_key(self.header.project, self.header.name, part.sha256)
            stored = get_own(self._bucket, key, self.header.project)
            where = f"s3://{self._bucket.name}/{key}"
            if stored is None:
                raise DatasetError(f"{where} is missing: restore it, or freeze the data set again")
            if hashlib.sha256(stored.body).hexdigest() != part.sha256:
                raise DatasetError(f"{where} was altered since it was frozen: restore it")
            for number, line in enumerate(gzip.decompress(stored.body).splitlines(), 1):
                yield from_json(Item, line, where=f"{where}: line {number}", error=DatasetError)


def freeze(
    bucket: Bucket,
    project: str,
    name: str,
    classes: tuple[ClassName, ...],
    splits: tuple[str, ...],
    source: Iterable[Item | LeftOut],
    dropped_boxes: Mapping[str, int],
    now: datetime,
    prompts: Mapping[str, tuple[str, ...]] | None = None,
) -> Header:
    """Store a data set permanently.

    Args:
        bucket: the data bucket.
        source: sorted by image_id.
        dropped_boxes: read after `source`.
        prompts: of each label in force.

    Raises:
        DatasetError: the name is taken or invalid, or there is no image.
    """
    if not _NAME.fullmatch(name):
        raise DatasetError(f"{name!r} is not a valid name for a data set: use letters, digits, dots, - and _")
    if _header(bucket, project, name) is not None:
        raise DatasetError(f"{project} has a frozen data set {name} already; give another name")
    left_out: Counter[str] = Counter()
    parts: list[Part] = []
    images = boxes = 0
    items = _items(source, left_out)
    while page := list(itertools.islice(items, _PART)):
        images += len(page)
        boxes += sum(len(item.boxes) for item in page)
        lines = "".join(to_json(item) + "\n" for item in page)
        body = gzip.compress(lines.encode(), mtime=0)
        digest = hashlib.sha256(body).hexdigest()
        bucket.create(dataset_part_key(project, name, digest), body, "application/gzip")
        parts.append(Part(digest, len(page)))
    if not images:
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items())) or "none verified"
        raise DatasetError(f"{project} has no verified image to freeze ({reasons})")
    header = Header(
        project,
        name,
        now,
        classes,
        splits,
        images,
        boxes,
        tuple(parts),
        dict(left_out),
        dict(dropped_boxes),
        dict(prompts or {}),
    )
    if bucket.create(dataset_key(project, name), to_json(header, format=FORMAT).encode()) == Put.REFUSED:
        stored = _header(bucket, project, name)
        if stored is None or stored.digest != header.digest:
            raise DatasetError(f"{project} has a frozen data set {name} already; give another name")
        return stored
    return header


def _items(source: Iterable[Item | LeftOut], left_out: Counter[str]) -> Iterator[Item]:
    for each in source:
        if isinstance(each, Item):
            yield each
        else:
            left_out[str(each.why)] += 1


def _header(bucket: Bucket, project: str, name: str) -> Header | None:
    key = dataset_key(project, name)
    stored = get_own(bucket, key, project)
    if stored is None:
        return None
    return from_json(
        Header, stored.body, format=FORMAT, where=f"s3://{bucket.name}/{key}", error=DatasetError
    )


def frozen_datasets(bucket: Bucket, project: str) -> list[Header]:
    """The frozen data sets of a project, oldest first."""
    prefixes = prefixes_of(datasets_prefix(project), project)
    names = sorted({name for prefix in prefixes for name in bucket.list_folders(prefix)})
    found = (_header(bucket, project, name) for name in names)
    return sorted((each for each in found if each is not None), key=lambda each: each.frozen_at)


def open_frozen(bucket: Bucket, project: str, name: str) -> FrozenDataset:
    """A frozen data set.

    Raises:
        DatasetError: there is no such data set; names the existing ones.
    """
    header = _header(bucket, project, name)
    if header is None:
        names = ", ".join(each.name for each in frozen_datasets(bucket, project)) or "none yet"
        raise DatasetError(f"{project} has no frozen data set {name}; there are: {names}")
    return FrozenDataset(bucket, header)


@dataclass(frozen=True, slots=True)
class Difference:
    """How an image differs between two data sets.

    Attributes:
        what: ``added``, ``removed``, ``overwritten`` (another version of the image), ``relabelled`` (only
            labels differ), ``changed`` (boxes differ) or ``moved`` (only the split differs).
    """

    key: str
    image_id: str
    what: str


def compare(first: Iterable[Item | LeftOut], second: Iterable[Item | LeftOut]) -> Iterator[Difference]:
    """Stream the differences of two data sets, both sorted by image_id, in the memory of one item."""
    left, right = (_items(each, Counter()) for each in (first, second))
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a.image_id < b.image_id):
            assert a is not None
            yield Difference(a.key, a.image_id, "removed")
            a = next(left, None)
        elif a is None or b.image_id < a.image_id:
            yield Difference(b.key, b.image_id, "added")
            b = next(right, None)
        else:
            what = _what_differs(a, b)
            if what is not None:
                yield Difference(b.key, b.image_id, what)
            a, b = next(left, None), next(right, None)


def _what_differs(a: Item, b: Item) -> str | None:
    if a.version != b.version:
        return "overwritten"
    shapes = [sorted((box.number, box.xyxy, box.rotation) for box in each.boxes) for each in (a, b)]
    labels = [sorted((box.number, box.class_id) for box in each.boxes) for each in (a, b)]
    if shapes[0] != shapes[1]:
        return "changed"
    if labels[0] != labels[1]:
        return "relabelled"
    return "moved" if a.split != b.split else None
