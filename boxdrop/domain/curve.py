"""A learning curve: how good a lesson is, by the number of verified images that it was fitted to."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Figures of verified images that the fit had not seen, over all labels, at the thresholds in force.

    Attributes:
        images: how many it was fitted to; 0: the words alone.
        ap: mean average precision of the labels that people drew, at IoU 0.5.
        changes: boxes that a person would have to delete or draw, per image.
    """

    images: int
    ap: float
    changes: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What more verified images are likely to bring.

    Attributes:
        images: verified images then.
        ap, changes: expected, see `CurvePoint`.
        ap_range, changes_range: in 95 of 100 cases.
    """

    images: int
    ap: float
    ap_range: tuple[float, float]
    changes: float
    changes_range: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ChoiceGain:
    """What a lesson gains if its images are chosen instead of random, by a trial on verified images.

    Attributes:
        images: of each lesson.
        pool: how many images they were chosen from; more would gain more.
        chosen, random: mean AP of the lessons, on images that were in neither.
    """

    images: int
    pool: int
    chosen: float
    random: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Points by rising number of images, the last one of nearly all; and what is likely next.

    Attributes:
        forecast: None where there are too few points.
        choice: None where there are too few images for the trial.
    """

    points: tuple[CurvePoint, ...]
    forecast: Forecast | None = None
    choice: ChoiceGain | None = None
