"""A shadow run: a candidate looks at images that nobody has verified, beside the boxes that people are shown.

It writes nothing to the system: no prediction, no task, no ledger row. Nobody has said what is right in these
images, so it shows where two detectors differ, not which is better.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.outcomes import RIGHT_IOU, iou_matrix, match
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, select_boxes
from boxdrop.ledger import Image
from boxdrop.review.shadow_results import ShadowResults
from boxdrop.review.sides import NOW, Side, open_side
from boxdrop.review.unverified import detect_in, sample_unverified, time_on
from boxdrop.training.guard import images_seen

if TYPE_CHECKING:
    from boxdrop.ledger import Project
    from boxdrop.services import Services

FOLDER: Final = "shadow"
"""In boxdrop's home: results of earlier runs. It may be deleted at any time."""

_TIMED: Final = 5
_DRAWS: Final = 2_000


class Fate(StrEnum):
    """What the other detector says about a box."""

    BOTH = "both"  # it has the same label there
    RENAMED = "renamed"  # it has another label there
    ONLY = "only"  # it has nothing there


@dataclass(frozen=True, slots=True)
class Seen:
    """What both found in an image, at the thresholds that each would be shown with.

    Attributes:
        boxes: what people are shown now, and the candidate's.
        fates: of these boxes, in their order.
        pairs: (index in now's boxes, index in the candidate's) of boxes on the same object, whatever their
            labels.
    """

    key: str
    version: str
    boxes: tuple[tuple[Box, ...], tuple[Box, ...]]
    fates: tuple[tuple[Fate, ...], tuple[Fate, ...]]
    pairs: tuple[tuple[int, int], ...]

    @property
    def difference(self) -> int:
        """How many objects they see differently."""
        now, new = (Counter(each) for each in self.fates)
        return now[Fate.ONLY] + new[Fate.ONLY] + now[Fate.RENAMED]


@dataclass(frozen=True, slots=True)
class LabelShift:
    """What changes for one label.

    Attributes:
        now, new: boxes of each.
        both: boxes that both have, under this label.
        only_now, only_new: boxes where the other has nothing.
        renamed: boxes of now's to which the candidate gives another label.
        score_now, score_new: medians over `both`; None where that is empty.
    """

    label: str
    now: int
    new: int
    both: int
    only_now: int
    only_new: int
    renamed: int
    score_now: float | None
    score_new: float | None


@dataclass(frozen=True, eq=False, slots=True)
class Shadow:
    """The result of a shadow run.

    Attributes:
        model_versions: of now and of the candidate.
        seconds: per image on this machine, pre-processing to boxes, median; None where the detector in force
            could not be loaded.
        images: all, those with the largest difference first.
        trained_on: images left out because the candidate was trained on them.
        unread: images left out because they could not be read.
        reused: how many results were there from an earlier run.
        labels: the project's and the candidate's.
        renamed: boxes by (label now, candidate's label), most first.
        agreement: boxes that both have, of all objects that either has; None where there is no box.
        low, high: its 95 % interval, by a bootstrap over images.
    """

    model_versions: tuple[str, str]
    seconds: tuple[float | None, float]
    images: tuple[Seen, ...]
    trained_on: int
    unread: int
    reused: int
    labels: tuple[LabelShift, ...]
    renamed: tuple[tuple[tuple[str, str], int], ...]
    agreement: float | None
    low: float
    high: float

    @property
    def differing(self) -> int:
        """Images in which they differ."""
        return sum(each.difference > 0 for each in self.images)

    @property
    def boxes(self) -> tuple[int, int]:
        """Boxes of both."""
        now, new = (sum(len(each.boxes[side]) for each in self.images) for side in (0, 1))
        return now, new

    @property
    def empty(self) -> tuple[int, int]:
        """Images without a box, of both."""
        now, new = (sum(not each.boxes[side] for each in self.images) for side in (0, 1))
        return now, new


def run_shadow(
    services: "Services",
    project: "Project",
    current: LabelSet,
    candidate: Side,
    *,
    images: int,
    folder: Path,
    on_image: Callable[[int, int], object] = lambda done, all_: None,
) -> Shadow:
    """Run a candidate on a sample of unverified images and compare.

    The sample is random, and the same each time as long as nothing is uploaded or verified.

    Args:
        services: needs `ledger`, `data` and `images`.
        project: its row.
        current: its labels in force.
        candidate: see `boxdrop.review.sides.open_side`.
        images: how many at most.
        folder: for results, so that an interrupted run goes on and a repeated one is cheap.
        on_image: called with images done, and how many there are.

    Raises:
        BoxdropError: no image waits for a person, the candidate does not know a label, or something cannot be
            read.
    """
    known = images_seen(services.data, candidate.detector.bundle)
    sampled, trained_on = sample_unverified(services, project, images, known)
    if not sampled and trained_on:
        raise BoxdropError(
            f"all {trained_on:,} unverified images of {project.name} were used to train {candidate.name}; "
            "upload others"
        )
    if not sampled:
        raise BoxdropError(
            f"{project.name} has no image with boxes of its detector that waits for a person; on verified "
            f"images, `boxdrop compare {project.name} {NOW} {candidate.name}` says more"
        )
    results = ShadowResults(folder, candidate)
    found = results.read()
    missing = [row for row, _ in sampled if (row.image_id, row.version) not in found]
    reused = len(sampled) - len(missing)
    with results.adding() as add:
        for number, record in enumerate(detect_in(services, candidate, missing), 1):
            if record is not None:
                add(record)
                found[record.image_id, record.version] = record
            on_image(reused + number, len(sampled))
    seen = []
    default = project.default_threshold or 0.0
    for row, prediction in sampled:
        other = found.get((row.image_id, row.version or ""))
        if other is not None:
            now = select_boxes(prediction.candidates, current, default)
            threshold = candidate.detector.bundle.defaults.threshold
            new = select_boxes(other.candidates, candidate.label_set, threshold)
            seen.append(compare_boxes(row.key, row.version or "", now, new))
    if not seen:
        raise BoxdropError(f"none of {len(sampled):,} unverified images of {project.name} can be read")
    seconds = _seconds(services, project, current, candidate, results, [row for row, _ in sampled])
    versions = (project.model_version or "", candidate.detector.model_version(candidate.label_set))
    names = tuple(dict.fromkeys([*current.names, *candidate.label_set.names]))
    return summarise(versions, seconds, seen, names, trained_on, len(sampled) - len(seen), reused)


def _seconds(
    services: "Services",
    project: "Project",
    current: LabelSet,
    candidate: Side,
    results: ShadowResults,
    rows: Sequence[Image],
) -> tuple[float | None, float]:
    """Seconds per image of the detector in force and of the candidate, as an earlier run measured them or
    taking turns on a few images."""
    beside = project.model_version or ""
    measured = results.read_seconds(beside)
    if measured is None:
        try:
            now = open_side(services, project, current, NOW)
        except BoxdropError:  # it is no longer in the bucket; what it found is
            now = None
        times: list[list[float]] = [[], []]
        for row in rows[:_TIMED]:
            for place, side in enumerate((candidate, now)):
                if side is not None and (spent := time_on(services, side, row)) is not None:
                    times[place].append(spent)
        if not times[0]:
            return None, 0.0
        measured = float(np.median(times[0])), float(np.median(times[1])) if times[1] else None
        results.write_seconds(beside, measured)
    return measured[1], measured[0]


def compare_boxes(key: str, version: str, now: tuple[Box, ...], new: tuple[Box, ...]) -> Seen:
    """Find the boxes that are on the same object: first those of one label, by the rule of
    `boxdrop.assessment.outcomes.match`; then, nearest first, those of two labels that overlap as much."""
    labels, boxes = [each.label for each in now], [each.xyxy for each in now]
    matched = match(
        [each.label for each in new], [each.score for each in new], [each.xyxy for each in new], labels, boxes
    )
    fates: list[list[Fate]] = [[Fate.ONLY] * len(now), [Fate.ONLY] * len(new)]
    pairs = []
    for theirs, ours in enumerate(matched.tolist()):
        if ours >= 0:
            pairs.append((ours, theirs))
            fates[0][ours] = fates[1][theirs] = Fate.BOTH
    rest = [[i for i, fate in enumerate(each) if fate == Fate.ONLY] for each in fates]
    overlaps = iou_matrix([boxes[i] for i in rest[0]], [new[j].xyxy for j in rest[1]])
    while overlaps.size and overlaps.max() >= RIGHT_IOU:
        i, j = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        overlaps[i, :] = overlaps[:, j] = 0
        ours, theirs = rest[0][int(i)], rest[1][int(j)]
        pairs.append((ours, theirs))
        fates[0][ours] = fates[1][theirs] = Fate.RENAMED
    return Seen(key, version, (now, new), (tuple(fates[0]), tuple(fates[1])), tuple(pairs))


def summarise(
    versions: tuple[str, str],
    seconds: tuple[float | None, float],
    seen: list[Seen],
    names: tuple[str, ...],
    trained_on: int,
    unread: int,
    reused: int,
) -> Shadow:
    """Count what differs.

    Args:
        names: of the labels, in the order of `Shadow.labels`.
        others: see `Shadow`.
    """
    renamed: Counter[tuple[str, str]] = Counter()
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    counts: Counter[tuple[str, int, Fate]] = Counter()
    whole = np.zeros((len(seen), 2), np.int64)  # objects that both have, objects that either has
    for number, each in enumerate(seen):
        for side, (boxes, fates) in enumerate(zip(each.boxes, each.fates, strict=True)):
            counts.update((box.label, side, fate) for box, fate in zip(boxes, fates, strict=True))
        for ours, theirs in each.pairs:
            now, new = each.boxes[0][ours], each.boxes[1][theirs]
            if now.label == new.label:
                scores[now.label].append((now.score, new.score))
            else:
                renamed[now.label, new.label] += 1
        both = each.fates[0].count(Fate.BOTH)
        whole[number] = both, both + each.difference
    labels = []
    for name in names:
        pairs = np.array(scores[name]).reshape(-1, 2)
        medians = np.median(pairs, axis=0) if len(pairs) else None
        labels.append(
            LabelShift(
                name,
                now=sum(counts[name, 0, fate] for fate in Fate),
                new=sum(counts[name, 1, fate] for fate in Fate),
                both=counts[name, 0, Fate.BOTH],
                only_now=counts[name, 0, Fate.ONLY],
                only_new=counts[name, 1, Fate.ONLY],
                renamed=counts[name, 0, Fate.RENAMED],
                score_now=None if medians is None else float(medians[0]),
                score_new=None if medians is None else float(medians[1]),
            )
        )
    both, either = (int(each) for each in whole.sum(axis=0))
    low, high = _interval(whole)
    seen.sort(key=lambda each: (-each.difference, each.key))
    pairs_said = tuple(sorted(renamed.items(), key=lambda item: (-item[1], item[0])))
    share = both / either if either else None
    return Shadow(
        *(versions, seconds, tuple(seen), trained_on, unread, reused, tuple(labels), pairs_said, share),
        *(low, high),
    )


def _interval(whole: NDArray[np.int64]) -> tuple[float, float]:
    """The 95 % interval of the share of objects that both have, by a bootstrap over images."""
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(whole), np.full(len(whole), 1 / len(whole)), size=_DRAWS)
    both, either = (drawn @ whole).T
    low, high = np.quantile(np.where(either > 0, both / np.maximum(either, 1), 1.0), (0.025, 0.975))
    return float(low), float(high)


def shadow_fields(shadow: Shadow) -> dict[str, Any]:
    """A shadow run as JSON fields."""

    def rounded(value: float | None, digits: int = 4) -> float | None:
        return None if value is None else round(value, digits)

    def side(place: int) -> dict[str, Any]:
        return {
            "model_version": shadow.model_versions[place],
            "boxes": shadow.boxes[place],
            "images_without_boxes": shadow.empty[place],
            "seconds_per_image": rounded(shadow.seconds[place], 5),
        }

    return {
        "images": len(shadow.images),
        "unread": shadow.unread,
        "trained_on": shadow.trained_on,
        "reused": shadow.reused,
        "now": side(0),
        "new": side(1),
        "agreement": {
            "value": rounded(shadow.agreement),
            "low": rounded(shadow.low),
            "high": rounded(shadow.high),
        },
        "labels": [
            {
                "label": each.label,
                "now": each.now,
                "new": each.new,
                "both": each.both,
                "only_now": each.only_now,
                "only_new": each.only_new,
                "renamed": each.renamed,
                "score_now": rounded(each.score_now),
                "score_new": rounded(each.score_new),
            }
            for each in shadow.labels
        ],
        "renamed": [{"now": now, "new": new, "boxes": n} for (now, new), n in shadow.renamed],
        "images_that_differ": shadow.differing,
        "differing": [
            {
                "image": each.key,
                "difference": each.difference,
                "now": len(each.boxes[0]),
                "new": len(each.boxes[1]),
            }
            for each in shadow.images
            if each.difference
        ],
    }
