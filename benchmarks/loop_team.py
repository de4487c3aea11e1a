"""The simulated team of `benchmarks.loop`: what it does with the boxes that it is offered, and how much work
that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.loop_scenes import NAMES, LoopScene
from boxdrop.assessment.evidence import Evidence
from boxdrop.assessment.outcomes import Change, compare, iou_matrix
from boxdrop.assessment.precision import IOUS, average_precisions
from boxdrop.detect import Detector
from boxdrop.domain.annotations import DrawnBox, OfferedBox
from boxdrop.domain.detections import Detections, select
from boxdrop.domain.labels import LabelSet

_KEPT: Final = 0.75
_MOVED: Final = 0.5
"""From these overlaps on, the team keeps a box, or moves it instead of drawing a new one."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """A detector on the scenes that nobody has verified.

    Attributes:
        changes: boxes to delete, move or add, per image.
        untouched: share of images that need none.
        seconds: that it took to make the detector.
    """

    name: str
    ap50: float
    ap: float
    changes: float
    untouched: float
    seconds: float


def work(offered: Sequence[OfferedBox], scene: LoopScene) -> list[DrawnBox]:
    """What the team leaves of the boxes that it was offered."""
    truth = [_corners(xyxy) for xyxy in scene.boxes]
    overlaps = iou_matrix(truth, [each.xyxy for each in offered])
    free = {*range(len(offered))}
    drawn = []
    for number, (label, xyxy) in enumerate(zip(scene.labels, truth, strict=True)):
        fits = [place for place in free if offered[place].label == NAMES[label]]
        best = max(fits, key=lambda place: overlaps[number, place], default=None)
        if best is None or overlaps[number, best] < _MOVED:
            drawn.append(DrawnBox(NAMES[label], xyxy, f"new{number}"))
            continue
        free.discard(best)
        place = offered[best].xyxy if overlaps[number, best] >= _KEPT else xyxy
        drawn.append(DrawnBox(NAMES[label], place, offered[best].region))
    return drawn


def changes_in(offered: Sequence[OfferedBox], scene: LoopScene) -> int:
    """Boxes that the team deletes, moves or adds in one scene."""
    outcomes = compare(offered, work(offered, scene))
    deleted = sum(each.change == Change.DELETED for each in outcomes.offered)
    return deleted + sum(each.change != Change.KEPT for each in outcomes.drawn)


def find(detector: Detector, label_set: LabelSet, scene: LoopScene) -> Detections:
    """All that a detector finds, down to its floor."""
    height, width = scene.pixels.shape[:2]
    (found,) = detector.candidates([detector.preprocess(scene.pixels)], [(width, height)], label_set)
    return found


def offer(found: Detections, thresholds: NDArray[np.float32]) -> list[OfferedBox]:
    """The boxes that the team is offered."""
    shown = select(found, thresholds)
    return [
        OfferedBox(NAMES[label], float(score), _corners(xyxy), f"p{place}")
        for place, (xyxy, score, label) in enumerate(
            zip(shown.boxes, shown.scores, shown.labels, strict=True)
        )
    ]


def measure(
    name: str, detector: Detector, label_set: LabelSet, scenes: Sequence[LoopScene], seconds: float
) -> Row:
    """What a detector finds in scenes, and what the team would change in them."""
    thresholds = np.array(detector.thresholds(label_set), np.float32)
    found = [find(detector, label_set, scene) for scene in scenes]
    evidence = [
        Evidence.of("", each, scene.boxes, scene.labels) for each, scene in zip(found, scenes, strict=True)
    ]
    precisions = np.array([average_precisions(evidence, len(NAMES), iou) for iou in IOUS])
    changes = np.array(
        [changes_in(offer(each, thresholds), scene) for each, scene in zip(found, scenes, strict=True)]
    )
    return Row(
        name,
        float(precisions[0].mean()),
        float(precisions.mean()),
        float(changes.mean()),
        float((changes == 0).mean()),
        seconds,
    )


def table(rows: Sequence[Row]) -> str:
    """The table of docs/own-detector.md."""
    lines = [
        "| detector | AP50 | AP | changes per image | images without a change | made in |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {each.name} | {each.ap50:.3f} | {each.ap:.3f} | {each.changes:.2f} | {each.untouched:.0%} | "
        f"{f'{each.seconds:,.0f} s' if each.seconds else ''} |"
        for each in rows
    ]
    return "\n".join(lines)


def _corners(xyxy: NDArray[np.float32]) -> Corners:
    left, top, right, bottom = map(float, xyxy)
    return left, top, right, bottom
