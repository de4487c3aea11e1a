"""The default threshold of a detector that was just trained."""

import numpy as np
import pytest

from boxdrop.assessment.evidence import Evidence
from boxdrop.domain.detections import Detections
from boxdrop.training.figures import best_threshold


def image(right: float, wrong: float) -> Evidence:
    """An image with one object, a box on it, and a box beside it, with their scores."""
    boxes = np.array([(10, 10, 50, 50), (100, 100, 150, 150)], np.float32)
    number = np.arange(2)
    label = np.zeros(2, np.int64)
    found = Detections(boxes, np.array([right, wrong], np.float32), label, label, number)
    return Evidence.of("", found, boxes[:1], label[:1])


def test_the_threshold_lies_between_what_is_right_and_what_would_be_deleted() -> None:
    """Far from the default, which says nothing about a new detector."""
    low = best_threshold([image(0.35, 0.15)] * 12, 1, 0.5, 0.02)
    assert low == pytest.approx(0.25, abs=0.03)
    high = best_threshold([image(0.85, 0.65)] * 12, 1, 0.5, 0.02)
    assert high == pytest.approx(0.75, abs=0.03)


def test_a_detector_that_is_mostly_wrong_shows_little() -> None:
    found = [image(0.3, 0.7)] * 12 + [image(0.03, 0.7)] * 6  # showing the right ones shows more wrong ones
    assert best_threshold(found, 1, 0.5, 0.02) > 0.7


def test_a_few_images_leave_the_default() -> None:
    assert best_threshold([image(0.35, 0.15)] * 9, 1, 0.5, 0.02) == 0.5
    assert best_threshold([], 1, 0.5, 0.02) == 0.5


def test_the_threshold_is_never_below_the_floor() -> None:
    assert best_threshold([image(0.35, 0.05)] * 12, 1, 0.5, 0.3) >= 0.3
