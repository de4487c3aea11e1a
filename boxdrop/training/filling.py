"""Copies the images of a frozen data set into a training's folder: the versions that were verified."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final

from boxdrop.aws.s3 import Bucket
from boxdrop.datasets.items import Item
from boxdrop.detect.settings import HELD_OUT
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, probe
from boxdrop.folders import clear_disk_errors
from boxdrop.training.folder import TrainingFolder, TrainingImage, file_name
from boxdrop.training.plan import LEARNT, WATCHED, TrainingError

if TYPE_CHECKING:
    from boxdrop.datasets.frozen import FrozenDataset

USED: Final = (LEARNT, WATCHED, HELD_OUT)
_AT_ONCE: Final = 16
_NAMELESS: Final = ("n/a", "none")
"""What published configurations write for numbers without a class; the export takes it so."""


def classes_in(dataset: "FrozenDataset") -> tuple[str, ...]:
    """The labels that have a box to learn from, by their frozen ids.

    Raises:
        TrainingError: none has, or a split has a name that training does not know.
    """
    unknown = [each for each in dataset.splits if each not in USED]
    if LEARNT not in dataset.splits or unknown:
        raise TrainingError(
            f"the data set {dataset.header.name} has the splits {', '.join(dataset.splits)}; training needs "
            f"{LEARNT}, and may have {WATCHED} and {HELD_OUT}: freeze one with --split "
            f"{LEARNT}=70,{WATCHED}=15,{HELD_OUT}=15"
        )
    found = {
        box.class_id
        for each in dataset
        if isinstance(each, Item) and each.split == LEARNT
        for box in each.boxes
    }
    classes = tuple(each.name for each in dataset.classes if each.id in found)
    nameless = [name for name in classes if name.strip().lower() in _NAMELESS]
    if nameless:
        raise TrainingError(
            f"a detector cannot have a class {nameless[0]!r}, which means that there is none: rename the "
            "label and freeze another data set"
        )
    if not classes:
        raise TrainingError(
            f"the split {LEARNT} of the data set {dataset.header.name} has no box to learn from; verify more "
            "images, and freeze another data set"
        )
    return classes


def fill(
    folder: TrainingFolder,
    dataset: "FrozenDataset",
    classes: Sequence[str],
    buckets: dict[str, Bucket],
    on_image: Callable[[int], object] = lambda _: None,
) -> list[str]:
    """Copy the images; those that are there already are kept. Nothing is copied if the folder is filled.

    Args:
        folder: planned.
        classes: names, in the order of the plan.
        buckets: open ones by name; others are opened.
        on_image: called with the number of images done.

    Returns:
        A sentence for each image that cannot be read any more.

    Raises:
        BoxdropError: the bucket cannot be read, or the folder not be written.
    """
    if folder.is_filled:
        return []
    numbers = {name: number for number, name in enumerate(classes)}
    left_out: list[str] = []

    def copy(item: Item) -> TrainingImage | str:
        bucket = buckets.get(item.bucket) or buckets.setdefault(item.bucket, Bucket(item.bucket))
        try:
            body = bucket.read_version(item.key, item.version, DEFAULT_LIMITS.max_bytes)
            header = probe(body)
            if (header.width, header.height) != (item.width, item.height):
                raise ImageError("size", "has another size than the one verified")
        except ImageError as error:
            return f"{item.key}: {error}"
        name = file_name(item.image_id, body)
        target = folder.images / name
        if not target.exists():
            partial = target.with_name(f"{name}.partial")
            partial.write_bytes(body)
            partial.replace(target)
        known = [box for box in item.boxes if box.label in numbers and min(box.size) > 0]
        return TrainingImage(
            name,
            item.image_id,
            item.split,
            item.width,
            item.height,
            tuple(box.xyxy for box in known),
            tuple(numbers[box.label] for box in known),
        )

    def copies() -> Iterator[TrainingImage]:
        items = (each for each in dataset if isinstance(each, Item))
        done = 0
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while page := list(islice(items, 4 * _AT_ONCE)):
                for each in pool.map(copy, page):
                    if isinstance(each, str):
                        left_out.append(each)
                    else:
                        yield each
                done += len(page)
                on_image(done)

    with clear_disk_errors(folder.path, "give another --folder"):
        folder.images.mkdir(parents=True, exist_ok=True)
        folder.list_images(copies())
    return left_out
