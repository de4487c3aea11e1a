"""The card of a data set: its contents, what was left out, and its origin. It has no time, so bytes are
reproducible."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from boxdrop.datasets.items import ClassName, Item

if TYPE_CHECKING:
    from boxdrop.datasets.formats import Format

_SIZES = ((32.0**2, "small (below 32² px)"), (96.0**2, "medium (below 96² px)"), (float("inf"), "large"))


class Tally:
    """Counts a stream of items. Memory depends on labels and splits, not on images."""

    def __init__(self, splits: Sequence[str], classes: Sequence[ClassName]) -> None:
        self.splits = tuple(splits)
        self.classes = tuple(classes)
        self.images = self.boxes = self.turned = self.negatives = 0
        self.predicted_images = self.predicted_boxes = 0
        self.images_of: Counter[str] = Counter()
        self.boxes_of: Counter[tuple[int, str]] = Counter()
        self.sizes: Counter[str] = Counter()
        self.origins: Counter[str] = Counter()
        self.detectors: Counter[str] = Counter()

    def add(self, item: Item) -> None:
        """Count one item; an unverified one on its own, not among the verified."""
        if not item.verified:
            self.predicted_images += 1
            self.predicted_boxes += len(item.boxes)
            return
        self.images += 1
        self.images_of[item.split] += 1
        self.negatives += not item.boxes
        self.detectors[item.model_version or "none, or not known"] += 1
        for box in item.boxes:
            self.boxes += 1
            self.boxes_of[box.class_id, item.split] += 1
            self.origins[box.origin] += 1
            self.turned += bool(box.rotation)
            width, height = box.size
            self.sizes[next(name for limit, name in _SIZES if width * height < limit)] += 1


def card(
    project: str,
    format: "Format",
    tally: Tally,
    left_out: Mapping[str, int],
    dropped_boxes: Mapping[str, int],
    pictures: Sequence[str],
    licences: Mapping[str, int],
    prompts: Mapping[str, Sequence[str]],
) -> str:
    """The card as Markdown.

    Args:
        left_out: images that are not in the data set, by reason.
        dropped_boxes: left-out boxes of images in the data set, by reason.
        pictures: paths of some images.
        licences: retrieved images by licence.
        prompts: of each label in force.
    """
    lines = [
        f"# {_cell(project)}",
        "",
        f"Verified images: {tally.images:,}, with {tally.boxes:,} boxes. Verified as empty: "
        f"{tally.negatives:,}. Format: {format.name}.",
        "",
        *_predicted(tally),
        "## Boxes by label and split",
        "",
        _row("id", "label", *tally.splits),
        _row(*["---"] * (2 + len(tally.splits))),
    ]
    for each in tally.classes:
        counts = (f"{tally.boxes_of[each.id, split]:,}" for split in tally.splits)
        lines.append(_row(str(each.id), each.name, *counts))
    lines.append(_row("", "images", *(f"{tally.images_of[split]:,}" for split in tally.splits)))
    lines += _table("Boxes by size", tally.sizes)
    lines += _table("What annotators did with the detector's boxes", tally.origins)
    lines += _table("Detectors behind the annotations (images)", tally.detectors)
    lines += _prompts(prompts)
    lines += _table("Licences of retrieved images (credits: CREDITS.md)", licences)
    lines += _table("Images left out (see left-out.tsv)", left_out)
    lines += _table("Boxes left out", dropped_boxes)
    if tally.turned:
        lines += ["", f"Rotated boxes: {tally.turned:,}. This format drops: {format.drops}."]
    if pictures:
        lines += ["", "## Some of the images", "", *(f"![]({path})" for path in pictures)]
    return "\n".join(lines) + "\n"


def _predicted(tally: Tally) -> list[str]:
    if not tally.predicted_images:
        return []
    return [
        f"**Images that nobody verified: {tally.predicted_images:,}**, with {tally.predicted_boxes:,} boxes "
        "of a detector. unverified.tsv lists them; the counts below are without them.",
        "",
    ]


def _prompts(prompts: Mapping[str, Sequence[str]]) -> list[str]:
    if not prompts:
        return []
    rows = [_row(name, ", ".join(words)) for name, words in prompts.items()]
    return ["", "## Prompts of the labels in force", "", _row("label", "prompts"), _row("---", "---"), *rows]


def _table(title: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    rows = [_row(name, f"{count:,}") for name, count in sorted(counts.items())]
    return ["", f"## {title}", "", _row("", "count"), _row("---", "---"), *rows]


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
