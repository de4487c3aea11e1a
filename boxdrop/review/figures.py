"""The figures of the review report: counted in one pass over the verified images, in little memory.

Boxes are counted by what the person did (`Change`) and by whether the detector was right, see
`boxdrop.assessment.outcomes`. Each figure exists for the whole project and for each cut of it: label,
detector, size of the box, overlap, quality of the image, time, annotator. Images whose prediction is not
known count as verified, and nowhere else.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Final

import numpy as np

from boxdrop.assessment.agreement import (
    Disagreement,
    agreement_of,
    disagreement_fields,
    disagreements,
    opinions_of,
)
from boxdrop.assessment.control import Control, control_fields
from boxdrop.assessment.intervals import Clusters, Share
from boxdrop.assessment.outcomes import Change, Corners, Drawn, Offered, Outcomes, iou_matrix
from boxdrop.domain.annotations import Annotation
from boxdrop.review.quality import WORDS
from boxdrop.review.reviewed import LeftOut, Reviewed

FORMAT: Final = "boxdrop-report/1"

IOU_BINS: Final = 20
TRUSTED: Final = 0.8
"""Precision and recall from which on a label is trusted, unless the caller says otherwise."""

SMALL_PX: Final = 32
LARGE_PX: Final = 96
"""COCO's sizes: an area below 32² pixels is small, from 96² on large (cocodataset.org/#detection-eval)."""

SOME_OVERLAP: Final = 0.1
MUCH_OVERLAP: Final = 0.3
"""IoU with the nearest other box. CrowdHuman (arXiv 1805.00123) counts pairs from 0.3 on as overlapping;
below 0.1, boxes touch at most."""

_WEEKLY_FROM: Final = timedelta(days=21)


class Verdict(StrEnum):
    """Whether a label's boxes can be trusted, by their intervals."""

    TRUST = "trust"  # precision and recall are surely high enough
    IMPRECISE = "do not trust: too many of its boxes are wrong"
    MISSES = "do not trust: it misses too many"
    BOTH = "do not trust: many of its boxes are wrong, and it misses many"
    UNSURE = "not sure yet: verify more"


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long people worked on images, by Label Studio's ``lead_time``.

    Attributes:
        images: whose time is known.
        total, median, p90: in seconds; None of no images.
    """

    images: int
    total: float
    median: float | None
    p90: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted of some boxes.

    Attributes:
        images: verified ones that hold any of the boxes, offered or verified.
        untouched: how many of them were submitted as they were.
        kept, adjusted, relabelled, deleted: offered boxes by what became of them.
        relabelled_to: verified boxes that were offered under another label.
        added: verified boxes that were not offered.
        precision: right boxes among those offered.
        recall: found boxes among those verified. People saw what was offered, so they may have overlooked
            what the detector overlooked: it is an upper bound.
        ious: overlap of the adjusted boxes with what they became: how many, in bins of 0.05 from 0 to 1.
        seconds: of the images.
    """

    images: int
    untouched: int
    kept: int
    adjusted: int
    relabelled: int
    deleted: int
    relabelled_to: int
    added: int
    precision: Share
    recall: Share
    ious: tuple[int, ...]
    seconds: Seconds

    @property
    def offered(self) -> int:
        """Offered boxes."""
        return self.kept + self.adjusted + self.relabelled + self.deleted

    @property
    def verified(self) -> int:
        """Verified boxes."""
        return self.kept + self.adjusted + self.relabelled_to + self.added

    @property
    def median_iou(self) -> float | None:
        """Of the adjusted boxes, to half a bin; None where there are none."""
        half, seen = self.adjusted / 2, 0
        for place, count in enumerate(self.ious):
            seen += count
            if count and seen >= half:
                return (place + 0.5) / IOU_BINS
        return None

    def verdict(self, trusted: float = TRUSTED) -> Verdict:
        """Whether the intervals lie on one side of the bar."""
        imprecise, misses = self.precision.high < trusted, self.recall.high < trusted
        if imprecise or misses:
            both = imprecise and misses
            return Verdict.BOTH if both else Verdict.IMPRECISE if imprecise else Verdict.MISSES
        sure = self.precision.low >= trusted and self.recall.low >= trusted
        return Verdict.TRUST if sure else Verdict.UNSURE


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of a project.

    Attributes:
        images: verified images that count.
        unknown_start: those among them of which it is unknown which prediction the person started from.
        blind: those among them whose boxes people did not see, on purpose; see `control`.
        left_out: images that people worked on and that do not count, by reason; ``skipped`` among them.
        whole: all boxes.
        labels, models, sizes, overlaps, qualities, annotators: the same, for each value of a cut.
        periods: by day (UTC), or by the Monday of the week where there are more than three weeks.
        models_by_label: for each (label, model_version).
        confusion: for each (offered label, verified label), relabelled boxes.
        quality_images: images whose quality was measured.
        shared: images that several people annotated, whether they count or not.
        agreement: for each label, the boxes of two people that have a partner, see
            `boxdrop.assessment.agreement`.
        disagreements: what two people differ about.
        control: what the boxes do to people, by the blind slice; None where nobody verified any of it.
    """

    images: int
    unknown_start: int
    left_out: Mapping[str, int]
    whole: Figures
    labels: Mapping[str, Figures]
    models: Mapping[str, Figures]
    models_by_label: Mapping[tuple[str, str], Figures]
    sizes: Mapping[str, Figures]
    overlaps: Mapping[str, Figures]
    qualities: Mapping[str, Figures]
    periods: Mapping[str, Figures]
    annotators: Mapping[str, Figures]
    confusion: Mapping[tuple[str, str], int]
    quality_images: int = 0
    shared: int = 0
    agreement: Mapping[str, Share] = field(default_factory=dict)
    disagreements: tuple[Disagreement, ...] = ()
    blind: int = 0
    control: Control | None = None


SIZES: Final = ("small", "medium", "large")
OVERLAPS: Final = ("alone", "some overlap", "much overlap")


class Tally:
    """Counts towards one `Figures`."""

    def __init__(self) -> None:
        self.images = self.untouched = self.relabelled_to = 0
        self.changes: Counter[Change] = Counter()
        self.precision, self.recall = Clusters(), Clusters()
        self.ious = [0] * IOU_BINS
        self.seconds: list[float] = []

    def add(self, outcomes: Outcomes, annotation: Annotation, is_image: bool = False) -> None:
        """Count an image with those of its boxes that belong here; with none only where `is_image`."""
        if not (outcomes.offered or outcomes.drawn or is_image):
            return
        self.images += 1
        self.untouched += outcomes.is_untouched
        if annotation.lead_time is not None:
            self.seconds.append(annotation.lead_time)
        for box in outcomes.offered:
            self.changes[box.change] += 1
            if box.change == Change.ADJUSTED:
                self.ious[min(int(box.iou * IOU_BINS), IOU_BINS - 1)] += 1
        for verified in outcomes.drawn:
            self.changes[Change.ADDED] += verified.change == Change.ADDED
            self.relabelled_to += verified.change == Change.RELABELLED
        self.precision.add(sum(each.right for each in outcomes.offered), len(outcomes.offered))
        self.recall.add(sum(each.found for each in outcomes.drawn), len(outcomes.drawn))

    def figures(self) -> Figures:
        return Figures(
            images=self.images,
            untouched=self.untouched,
            kept=self.changes[Change.KEPT],
            adjusted=self.changes[Change.ADJUSTED],
            relabelled=self.changes[Change.RELABELLED],
            deleted=self.changes[Change.DELETED],
            relabelled_to=self.relabelled_to,
            added=self.changes[Change.ADDED],
            precision=self.precision.share(),
            recall=self.recall.share(),
            ious=tuple(self.ious),
            seconds=_seconds(self.seconds),
        )


def _seconds(times: list[float]) -> Seconds:
    if not times:
        return Seconds(0, 0.0, None, None)
    ordered = sorted(times)
    p90 = ordered[min(int(0.9 * len(ordered)), len(ordered) - 1)]
    return Seconds(len(ordered), sum(ordered), statistics.median(ordered), p90)


def count(
    reviewed: Iterable[Reviewed | LeftOut],
    *,
    qualities: Mapping[str, tuple[str, ...]] | None = None,
    observe: Callable[[Reviewed], object] = lambda _: None,
) -> Report:
    """Count a stream of verified images.

    Args:
        reviewed: as `boxdrop.review.reviewed.read_reviewed` streams it.
        qualities: by image_id, words for the quality of images, as `boxdrop.review.quality.words` gives them.
        observe: called with each image that counts, to pick examples in the same pass.
    """
    counter = _Counter()
    for each in reviewed:
        if isinstance(each, LeftOut):
            counter.left_out[str(each.why)] += 1
            if each.annotation is not None:
                counter.compare_people(each.annotation)
            continue
        observe(each)
        counter.add(each, (qualities or {}).get(each.row.image_id))
    return counter.report()


class _Counter:
    """Every tally of a report."""

    def __init__(self) -> None:
        self.images = self.unknown_start = self.blind = self.quality_images = 0
        self.left_out: Counter[str] = Counter()
        self.whole = Tally()
        self.labels: dict[str, Tally] = defaultdict(Tally)
        self.models: dict[str, Tally] = defaultdict(Tally)
        self.models_by_label: dict[tuple[str, str], Tally] = defaultdict(Tally)
        self.sizes: dict[str, Tally] = defaultdict(Tally)
        self.overlaps: dict[str, Tally] = defaultdict(Tally)
        self.qualities: dict[str, Tally] = defaultdict(Tally)
        self.days: dict[date, Tally] = defaultdict(Tally)
        self.weeks: dict[date, Tally] = defaultdict(Tally)
        self.annotators: dict[int, Tally] = defaultdict(Tally)
        self.confusion: Counter[tuple[str, str]] = Counter()
        self.shared = 0
        self.agreement: dict[str, Clusters] = defaultdict(Clusters)
        self.disagreements: list[Disagreement] = []

    def add(self, reviewed: Reviewed, quality: tuple[str, ...] | None) -> None:
        self.images += 1
        outcomes, annotation = reviewed.outcomes, reviewed.annotation
        self.compare_people(annotation)
        if outcomes is None:
            self.blind += reviewed.is_blind
            self.unknown_start += not reviewed.is_blind
            return
        model_version = reviewed.model_version or ""
        day = annotation.updated_at.date()
        week = day - timedelta(days=day.weekday())
        images = [self.whole, self.models[model_version], self.days[day], self.weeks[week]]
        if annotation.user is not None:
            images.append(self.annotators[annotation.user])
        if quality is not None:
            self.quality_images += 1
            images += [self.qualities[word] for word in quality]
        for tally in images:
            tally.add(outcomes, annotation, is_image=True)
        for label, part in split(outcomes, lambda boxes: [each.label for each in boxes]).items():
            self.labels[label].add(part, annotation)
            self.models_by_label[label, model_version].add(part, annotation)
        for size, part in split(outcomes, lambda boxes: [size_of(each.xyxy) for each in boxes]).items():
            self.sizes[size].add(part, annotation)
        for overlap, part in split(outcomes, _overlaps).items():
            self.overlaps[overlap].add(part, annotation)
        self.confusion.update(
            (each.label, each.became)
            for each in outcomes.offered
            if each.change == Change.RELABELLED and each.became is not None
        )

    def compare_people(self, annotation: Annotation) -> None:
        """Count how far the annotators of an image agree."""
        opinions = opinions_of(annotation)
        if len(opinions) < 2:
            return
        self.shared += 1
        for label, (partnered, boxes) in agreement_of(opinions).items():
            self.agreement[label].add(partnered, boxes)
        self.disagreements += disagreements(annotation)

    def report(self) -> Report:
        is_long = bool(self.days) and max(self.days) - min(self.days) > _WEEKLY_FROM
        periods = self.weeks if is_long else self.days
        return Report(
            images=self.images,
            unknown_start=self.unknown_start,
            left_out=dict(sorted(self.left_out.items())),
            whole=self.whole.figures(),
            labels={label: self.labels[label].figures() for label in sorted(self.labels)},
            models={model: self.models[model].figures() for model in sorted(self.models)},
            models_by_label={
                key: self.models_by_label[key].figures() for key in sorted(self.models_by_label)
            },
            sizes={size: self.sizes[size].figures() for size in SIZES},
            overlaps={overlap: self.overlaps[overlap].figures() for overlap in OVERLAPS},
            qualities={word: self.qualities[word].figures() for word in WORDS if word in self.qualities},
            periods={day.isoformat(): periods[day].figures() for day in sorted(periods)},
            annotators={str(user): self.annotators[user].figures() for user in sorted(self.annotators)},
            confusion=dict(sorted(self.confusion.items())),
            quality_images=self.quality_images,
            shared=self.shared,
            agreement={label: self.agreement[label].share() for label in sorted(self.agreement)},
            disagreements=tuple(self.disagreements),
            blind=self.blind,
        )


def size_of(xyxy: Corners) -> str:
    """COCO's word for a box's size in the pixels of its image."""
    area = (xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1])
    return "small" if area < SMALL_PX**2 else "medium" if area < LARGE_PX**2 else "large"


Boxes = Sequence[Offered] | Sequence[Drawn]


def _overlaps(boxes: Boxes) -> list[str]:
    """How much each box overlaps the nearest other one of any label."""
    overlaps = iou_matrix([each.xyxy for each in boxes], [each.xyxy for each in boxes])
    np.fill_diagonal(overlaps, 0.0)
    most = overlaps.max(axis=1, initial=0.0)
    return [OVERLAPS[(each >= SOME_OVERLAP) + (each >= MUCH_OVERLAP)] for each in most.tolist()]


def split(outcomes: Outcomes, words: Callable[[Boxes], list[str]]) -> dict[str, Outcomes]:
    """The boxes of an image by a word: offered boxes by theirs, verified boxes by theirs."""
    offered: dict[str, list[Offered]] = defaultdict(list)
    drawn: dict[str, list[Drawn]] = defaultdict(list)
    for word, box in zip(words(outcomes.offered), outcomes.offered, strict=True):
        offered[word].append(box)
    for word, verified in zip(words(outcomes.drawn), outcomes.drawn, strict=True):
        drawn[word].append(verified)
    return {
        word: Outcomes(tuple(offered.get(word, ())), tuple(drawn.get(word, ())))
        for word in dict.fromkeys((*offered, *drawn))
    }


def to_fields(report: Report, trusted: float = TRUSTED) -> dict[str, Any]:
    """The report as JSON fields; docs/review.md describes them."""

    def share(each: Share) -> dict[str, Any]:
        ends = {"low": round(each.low, 4), "high": round(each.high, 4)} if each.of else {}
        value = None if each.value is None else round(each.value, 4)
        return {"value": value, "right": each.right, "of": each.of, "images": each.images, **ends}

    def figures(each: Figures) -> dict[str, Any]:
        return {
            "images": each.images,
            "untouched": each.untouched,
            "offered": each.offered,
            "verified": each.verified,
            "kept": each.kept,
            "adjusted": each.adjusted,
            "relabelled": each.relabelled,
            "deleted": each.deleted,
            "relabelled_to": each.relabelled_to,
            "added": each.added,
            "precision": share(each.precision),
            "recall": share(each.recall),
            "adjusted_iou": {"median": each.median_iou, "bins": list(each.ious)},
            "seconds": {
                "images": each.seconds.images,
                "total": round(each.seconds.total, 1),
                "median": each.seconds.median,
                "p90": each.seconds.p90,
            },
        }

    def cut(parts: Mapping[str, Figures]) -> dict[str, Any]:
        return {name: figures(each) for name, each in parts.items()}

    return {
        "format": FORMAT,
        "images": report.images,
        "unknown_start": report.unknown_start,
        "blind": report.blind,
        "control": None if report.control is None else control_fields(report.control),
        "left_out": dict(report.left_out),
        "whole": figures(report.whole),
        "labels": {
            name: figures(each) | {"verdict": each.verdict(trusted).name.lower()}
            for name, each in report.labels.items()
        },
        "models": cut(report.models),
        "models_by_label": [
            {"label": label, "model_version": model, **figures(each)}
            for (label, model), each in report.models_by_label.items()
        ],
        "sizes": cut(report.sizes),
        "overlaps": cut(report.overlaps),
        "qualities": cut(report.qualities),
        "quality_images": report.quality_images,
        "periods": cut(report.periods),
        "annotators": cut(report.annotators),
        "agreement": {
            "images": report.shared,
            "labels": {label: share(each) for label, each in report.agreement.items()},
            "disagreements": [disagreement_fields(each) for each in report.disagreements],
        },
        "confusion": [
            {"offered": offered, "verified": verified, "boxes": boxes}
            for (offered, verified), boxes in report.confusion.items()
        ],
    }
