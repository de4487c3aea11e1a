"""Two detectors, prompts or label sets on the same verified images, before any annotator sees a box."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.evidence import Evidence, count, right_ones, tally, truth_of
from boxdrop.assessment.precision import IOUS, average_precisions
from boxdrop.assessment.thresholds import LEAST_IMAGES, TuningError, suggest
from boxdrop.domain.detections import Detections, select
from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, decode
from boxdrop.review.reviewed import Reviewed, read_reviewed
from boxdrop.review.sides import Side
from boxdrop.training.guard import images_seen

if TYPE_CHECKING:
    from boxdrop.services import Services

_FOLDS: Final = 3
_DRAWS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Score:
    """How good one side is.

    Attributes:
        ap50, ap: COCO's, as means over labels that have a verified box.
        labels: AP50 of each.
        f1, precision, recall: at thresholds learned from other images (cross-validation), or at those in
            force where there are too few images to learn from.
        seconds: of an image on this machine, without reading and decoding it: median.
    """

    name: str
    model_version: str
    ap50: float
    ap: float
    labels: Mapping[str, float]
    f1: float
    precision: float
    recall: float
    seconds: float


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """What both found in an image, at the thresholds of `Score`.

    Attributes:
        truth: the verified boxes, float32 [M, 4].
        shown: boxes of each side, with `right` for each: bool [N].
        difference: right boxes minus wrong and missed ones, B's minus A's.
    """

    key: str
    version: str
    truth: NDArray[np.float32]
    shown: tuple[Detections, Detections]
    right: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    difference: int


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """The result.

    Attributes:
        images: verified images that were compared.
        seen: verified images left out because one side was trained on them.
        unread: those that could not be read.
        labels: compared ones.
        tuned: whether thresholds were learned.
        low, high: 95 % interval of B's F1 minus A's, by a bootstrap over images.
        pairs: all images, those with the largest difference first.
    """

    images: int
    unread: int
    labels: tuple[str, ...]
    tuned: bool
    first: Score
    second: Score
    low: float
    high: float
    pairs: tuple[Pair, ...]
    seen: int = 0


def compare_sides(
    services: "Services",
    project: str,
    first: Side,
    second: Side,
    *,
    images: int,
    on_image: Callable[[int], object] = lambda _: None,
) -> Comparison:
    """Run both on verified images of a project, a random sample that is the same each time.

    Images that one of them was trained on are left out: a detector knows them by heart. Whole images are
    looked at, also where a label set asks for tiles.

    Args:
        services: needs `ledger`, `data` and `images`.
        first, second: with the same labels, in the same order.
        images: how many at most.
        on_image: called with the number of images done.

    Raises:
        BoxdropError: nothing is verified that neither has seen, the two share no label, or something cannot
            be read.
    """
    names = first.label_set.names
    if names != second.label_set.names:
        raise ValueError("both sides must have the same labels, in the same order")
    known = frozenset().union(*(images_seen(services.data, each.detector.bundle) for each in (first, second)))
    seen = 0

    def fair() -> Iterator[Reviewed]:
        nonlocal seen
        for each in read_reviewed(services, project):
            if isinstance(each, Reviewed) and each.row.image_id in known:
                seen += 1
            elif isinstance(each, Reviewed):
                yield each

    evidence: tuple[list[Evidence], list[Evidence]] = ([], [])
    seconds: tuple[list[float], list[float]] = ([], [])
    sources = []
    unread = 0
    for number, each in enumerate(itertools.islice(fair(), images)):
        version = each.annotation.version
        try:
            data = services.images.read_version(each.row.key, version, DEFAULT_LIMITS.max_bytes)
            pixels = decode(data).pixels
        except ImageError:
            unread += 1
            continue
        boxes, labels = truth_of(each.annotation.boxes, names)
        for place, side in enumerate((first, second)):
            began = time.perf_counter()
            candidates = side.detector.candidates_of(pixels, side.label_set)
            seconds[place].append(time.perf_counter() - began)
            evidence[place].append(Evidence.of(each.row.key, candidates, boxes, labels))
        sources.append((each.row.key, version))
        on_image(number + 1)
    if not sources and seen:
        raise BoxdropError(
            f"all {seen:,} verified images of {project} were used to train {first.name} or {second.name}, "
            "which says nothing about new ones; verify more, or freeze the next data set with a split test"
        )
    if not sources:
        raise BoxdropError(f"{project} has no verified image that can be read; verify some first")
    return replace(_compare(first, second, evidence, seconds, sources, unread), seen=seen)


def _compare(
    first: Side,
    second: Side,
    evidence: tuple[list[Evidence], list[Evidence]],
    seconds: tuple[list[float], list[float]],
    sources: Sequence[tuple[str, str]],
    unread: int,
) -> Comparison:
    names = first.label_set.names
    tuned = len(sources) - -(-len(sources) // _FOLDS) >= LEAST_IMAGES and any(
        len(each.labels) for each in evidence[0]
    )
    scores, counts, cuts = [], [], []
    for side, images, times in zip((first, second), evidence, seconds, strict=True):
        thresholds = _thresholds(side, images, tuned)
        counted = np.stack(
            [count(image, cut, len(names)) for image, cut in zip(images, thresholds, strict=True)]
        )
        whole = tally(counted)
        precisions = np.array([average_precisions(images, len(names), iou) for iou in IOUS])
        known = ~np.isnan(precisions[0])
        scores.append(
            Score(
                side.name,
                side.detector.model_version(side.label_set),
                ap50=float(precisions[0, known].mean()) if known.any() else 0.0,
                ap=float(precisions[:, known].mean()) if known.any() else 0.0,
                labels={names[label]: float(precisions[0, label]) for label in np.flatnonzero(known)},
                f1=whole.f_score(),
                precision=whole.precision,
                recall=whole.recall,
                seconds=float(np.median(times)),
            )
        )
        counts.append(counted.sum(axis=1))
        cuts.append(thresholds)
    low, high = bootstrap(counts[0], counts[1])
    pairs = [
        _pair(source, (evidence[0][number], evidence[1][number]), (cuts[0][number], cuts[1][number]))
        for number, source in enumerate(sources)
    ]
    pairs.sort(key=lambda pair: -abs(pair.difference))
    return Comparison(len(sources), unread, names, tuned, scores[0], scores[1], low, high, tuple(pairs))


def _thresholds(side: Side, images: Sequence[Evidence], tuned: bool) -> list[NDArray[np.float32]]:
    """For each image, thresholds that were learned from the others' folds; or those in force."""
    current = np.array(side.detector.thresholds(side.label_set), np.float32)
    if not tuned:
        return [current] * len(images)
    floor = side.detector.bundle.defaults.floor
    learned = []
    for fold in range(_FOLDS):
        others = [each for number, each in enumerate(images) if number % _FOLDS != fold]
        try:
            learned.append(suggest(others, current, floor=floor).thresholds)
        except TuningError:  # none of them holds a box
            learned.append(current)
    return [learned[number % _FOLDS] for number in range(len(images))]


def _pair(
    source: tuple[str, str],
    evidence: tuple[Evidence, Evidence],
    thresholds: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> Pair:
    shown, right, worth = [], [], []
    for each, cut in zip(evidence, thresholds, strict=True):
        chosen = select(each.candidates, cut)
        good = right_ones(chosen, each.boxes, each.labels)
        shown.append(chosen)
        right.append(good)
        worth.append(2 * int(good.sum()) - len(chosen) + int(good.sum()) - len(each.labels))
    return Pair(*source, evidence[0].boxes, (shown[0], shown[1]), (right[0], right[1]), worth[1] - worth[0])


def bootstrap(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[float, float]:
    """The 95 % interval of the second's F1 minus the first's; images are drawn, both sides together.

    Args:
        first, second: int64 [images, 3]: right, shown and verified boxes.
    """
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(first), np.full(len(first), 1 / len(first)), size=_DRAWS)

    def f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        right, shown, objects = (drawn @ counts).T
        whole = shown + objects
        scores: NDArray[np.float64] = np.where(whole > 0, 2 * right / np.maximum(whole, 1), 1.0)
        return scores

    low, high = np.quantile(f1(second) - f1(first), (0.025, 0.975))
    return float(low), float(high)


def comparison_fields(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON fields."""

    def score(each: Score) -> dict[str, Any]:
        return {
            "name": each.name,
            "model_version": each.model_version,
            "ap50": round(each.ap50, 4),
            "ap": round(each.ap, 4),
            "labels": {label: round(value, 4) for label, value in each.labels.items()},
            "f1": round(each.f1, 4),
            "precision": round(each.precision, 4),
            "recall": round(each.recall, 4),
            "seconds_per_image": round(each.seconds, 5),
        }

    return {
        "images": comparison.images,
        "unread": comparison.unread,
        "trained_on": comparison.seen,
        "tuned": comparison.tuned,
        "a": score(comparison.first),
        "b": score(comparison.second),
        "f1_difference": {
            "value": round(comparison.second.f1 - comparison.first.f1, 4),
            "low": round(comparison.low, 4),
            "high": round(comparison.high, 4),
        },
        "differing": [
            {
                "image": each.key,
                "difference": each.difference,
                "a": {"shown": len(each.shown[0]), "right": int(each.right[0].sum())},
                "b": {"shown": len(each.shown[1]), "right": int(each.right[1].sum())},
            }
            for each in comparison.pairs
            if each.difference
        ],
    }
