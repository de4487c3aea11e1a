"""A stream of verified images with their boxes as arrays, for training in Python."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boxdrop.datasets.collection import Collection, Selection
from boxdrop.datasets.frozen import open_frozen
from boxdrop.datasets.items import Item
from boxdrop.datasets.splits import Grouping, Splits
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, decode

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.services import Services


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A verified image, whose pixels are read on request.

    Attributes:
        item: the data of the image and its boxes.
        boxes: float32 [N, 4], left, top, right, bottom in upright pixels.
        classes: int64 [N], frozen class ids.
        labels: their names.
    """

    item: Item
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    labels: tuple[str, ...]
    bucket: "Bucket"

    def read(self) -> NDArray[np.uint8]:
        """The pixels, uint8 [height, width, 3], RGB, upright: of exactly the version that was verified.

        Raises:
            ImageError: that version is gone, or cannot be read.
        """
        data = self.bucket.read_version(self.item.key, self.item.version, DEFAULT_LIMITS.max_bytes)
        image = decode(data)
        if (image.width, image.height) != (self.item.width, self.item.height):
            raise ImageError("size", f"{self.item.address} has another size than the one verified")
        return image.pixels


def verified(
    project: str,
    *,
    system: str | None = None,
    services: "Services | None" = None,
    split: str | None = None,
    splits: str | None = None,
    group_by: str | None = None,
    near_duplicates: bool = True,
    labels: list[str] | None = None,
    since: datetime | None = None,
    dataset: str | None = None,
) -> Iterator[Sample]:
    """Stream the verified images of a project, by image_id.

    >>> from boxdrop import verified
    >>> for sample in verified("fruit-baskets", split="train"):  # doctest: +SKIP
    ...     print(sample.read().shape, sample.boxes.shape, sample.labels)
    (480, 640, 3) (2, 4) ('apple', 'banana')

    Args:
        project: its name.
        system: name of the system, as ``--system``.
        services: in place of `system`; needs `ledger`, `images` and `data`.
        split: only this split.
        splits: ``"train=80,val=10,test=10"``; by default, all is ``train``.
        group_by: see `boxdrop.datasets.splits.Grouping`.
        near_duplicates: whether images that look alike share a split; then each image is read once for it.
        labels: only boxes of these labels.
        since: only images verified at this time or later.
        dataset: a frozen data set instead of current work; it has its own splits and labels.

    Raises:
        BoxdropError: there is no such system, project, label or data set.
    """
    if services is None:
        from boxdrop.services import Services
        from boxdrop.system import find_system

        found = find_system(system)
        found.enter()
        services = Services.of_system(found)
    selection = Selection(
        labels=None if labels is None else frozenset(labels),
        since=since,
        splits=Splits() if splits is None else Splits.parse(splits),
        grouping=Grouping(group_by),
        together=near_duplicates,
    )
    stored = (
        Collection(services, project, selection)
        if dataset is None
        else open_frozen(services.data, project, dataset)
    )
    return _samples(services, (each for each in stored if isinstance(each, Item)), split)


def _samples(services: "Services", items: Iterator[Item], split: str | None) -> Iterator[Sample]:
    from boxdrop.aws.s3 import Bucket

    buckets = {services.images.name: services.images}
    for item in items:
        if item.bucket not in buckets:
            buckets[item.bucket] = Bucket(item.bucket)
        if split is None or item.split == split:
            yield Sample(
                item,
                np.array([box.xyxy for box in item.boxes], np.float32).reshape(-1, 4),
                np.array([box.class_id for box in item.boxes], np.int64),
                tuple(box.label for box in item.boxes),
                buckets[item.bucket],
            )
