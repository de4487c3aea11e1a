"""What came of teaching a project, and when it teaches itself again."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from boxdrop.domain.curve import Curve
from boxdrop.domain.lesson import Figures

FIRST_IMAGES: Final = 10
"""Verified images of the first lesson of ``teach: auto``; the next ones come at 20, 40, 80, …"""


@dataclass(frozen=True, slots=True)
class Teaching:
    """One attempt.

    Attributes:
        at: when it was made.
        images: verified images that it was fitted to.
        verified: images that were verified then, with those that teach nothing.
        lesson: the lesson that labels.yaml names since; None where nothing changed.
        labels: how many labels it taught.
        before, after: cross-validated, with the words and with the lesson; None where nothing was fitted.
        problem: why nothing was fitted or changed, in a sentence.
        curve: how the lesson got better with the number of images; None where too few are verified.
    """

    at: datetime
    images: int
    verified: int
    lesson: str | None = None
    labels: int = 0
    before: Figures | None = None
    after: Figures | None = None
    problem: str | None = None
    curve: Curve | None = None


def next_teaching(tried: int) -> int:
    """How many images must be verified for the next lesson, if the last attempt had so many.

    >>> [next_teaching(images) for images in (0, 9, 10, 19, 20, 35, 80)]
    [10, 10, 20, 20, 40, 40, 160]
    """
    due = FIRST_IMAGES
    while due <= tried:
        due *= 2
    return due


def sentence_of(teaching: Teaching) -> str:
    """What came of an attempt, for people.

    >>> from datetime import UTC, datetime
    >>> sentence_of(Teaching(datetime(2026, 11, 28, tzinfo=UTC), 0, 12, problem="too few boxes"))
    'taught nothing from 12 verified images: too few boxes'
    """
    images = f"{teaching.images or teaching.verified:,} verified images"
    if teaching.before is None or teaching.after is None:
        return f"taught nothing from {images}: {teaching.problem}"
    f1 = f"F1 {teaching.before.f1:.2f} → {teaching.after.f1:.2f} in cross-validation"
    if teaching.lesson is None:
        return f"learned from {images}: {f1}; not used: {teaching.problem}"
    labels = f"{teaching.labels:,} label{'' if teaching.labels == 1 else 's'}"
    return f"lesson {teaching.lesson} teaches {labels} from {images}: {f1}"


def outlook_of(curve: Curve) -> Iterator[str]:
    """What more verified images are likely to bring, and choosing them, a sentence each where it is known."""
    now, then = curve.points[-1], curve.forecast
    if then is not None:
        yield (
            f"{then.images - now.images} more verified images would likely bring AP {now.ap:.2f} → "
            f"{then.ap:.2f} ({then.ap_range[0]:.2f} to {then.ap_range[1]:.2f}), and changes per image "
            f"{now.changes:.1f} → {then.changes:.1f} ({then.changes_range[0]:.1f} to "
            f"{then.changes_range[1]:.1f})"
        )
    if curve.choice is not None:
        tried = curve.choice
        yield (
            f"in a trial, {tried.images} images that `boxdrop teach --next` chose from {tried.pool} of these "
            f"taught AP {tried.chosen:.2f}, {tried.images} random ones AP {tried.random:.2f}"
        )
