"""Comparing two detectors: average precision is COCO's, and a difference has an honest interval."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from boxdrop.assessment.evidence import Evidence
from boxdrop.assessment.precision import IOUS, average_precisions
from boxdrop.domain.detections import Detections
from boxdrop.review.comparison import bootstrap

LABELS = 3


def image(rng: np.random.Generator) -> Evidence:
    """Some objects, and detections that are near some of them, far from others, or of another label."""
    objects = int(rng.integers(0, 6))
    corners = rng.uniform(0, 300, (objects, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 90, (objects, 2))], axis=1)
    labels = rng.integers(0, LABELS - 1, objects)  # the last label has no object
    copies = rng.integers(0, objects, int(rng.integers(0, 9))) if objects else np.zeros(0, np.int64)
    found = boxes[copies] + rng.normal(0, 7, (len(copies), 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    owners = np.where(rng.random(len(copies)) < 0.8, labels[copies], rng.integers(0, LABELS, len(copies)))
    numbers = np.arange(len(copies))
    scores = rng.permutation(1000)[: len(copies)] / 1000  # no ties within an image
    detections = Detections(found.astype(np.float32), scores.astype(np.float32), owners, numbers, numbers)
    return Evidence.of("a.jpg", detections, boxes.astype(np.float32), labels)


def judged_by_coco(images: list[Evidence]) -> tuple[float, float]:
    """COCO's AP and AP50, by its own code."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(number: int, owner: int, label: int, box: Any) -> dict[str, Any]:
        left, top, right, bottom = map(float, box)
        area = (right - left) * (bottom - top)
        place = {"bbox": [left, top, right - left, bottom - top], "area": area, "iscrowd": 0}
        return {"id": number, "image_id": owner, "category_id": int(label) + 1, **place}

    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for owner, each in enumerate(images):
        for label, box in zip(each.labels, each.boxes, strict=True):
            truth.append(entry(len(truth) + 1, owner, label, box))
        listed = zip(each.candidates.labels, each.candidates.boxes, each.candidates.scores, strict=True)
        for label, box, score in listed:
            found.append(entry(len(found) + 1, owner, label, box) | {"score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": owner} for owner in range(len(images))],
            "annotations": truth,
            "categories": [{"id": label + 1, "name": str(label)} for label in range(LABELS)],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_cocos(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [image(rng) for _ in range(40)]
    ours = np.array([average_precisions(images, LABELS, iou) for iou in IOUS])
    assert np.isnan(ours[:, LABELS - 1]).all()
    ap, ap50 = judged_by_coco(images)
    assert float(np.nanmean(ours)) == pytest.approx(ap, abs=2e-3)
    assert float(np.nanmean(ours[0])) == pytest.approx(ap50, abs=2e-3)


def test_a_perfect_detector_has_1_and_a_blind_one_0() -> None:
    boxes, labels = np.array([[0, 0, 9, 9]], np.float32), np.zeros(1, np.int64)
    seen = Detections(boxes, np.ones(1, np.float32), labels, labels, labels)
    perfect = Evidence.of("a", seen, boxes, labels)
    blind = Evidence.of("a", Detections.empty(), boxes, labels)
    assert average_precisions([perfect], 1).tolist() == pytest.approx([1.0])
    assert average_precisions([blind], 1).tolist() == [0.0]


def test_the_interval_of_a_difference_tells_better_from_equal() -> None:
    rng = np.random.default_rng(0)
    objects = rng.integers(1, 8, 100)
    worse, better = rng.binomial(objects, 0.7), rng.binomial(objects, 0.9)
    again = rng.binomial(objects, 0.7)

    def counts(right: Any) -> Any:
        return np.stack([right, objects, objects], axis=1)

    low, high = bootstrap(counts(worse), counts(better))
    assert 0.1 < low < 0.2 < high < 0.3
    low, high = bootstrap(counts(worse), counts(again))
    assert low < 0 < high
