"""Figures: suppression, precision and recall, average precision."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.demo.scenes import Scene
from model_export.demo.scoring import Found, count_right, overlap, suppress
from tests.conftest import SHARED_DATA

_PIXEL = np.zeros((1, 1, 3), np.uint8)


def _found(*rows: tuple[float, ...]) -> Found:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Found(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _scene(*rows: tuple[float, ...]) -> Scene:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Scene(_PIXEL, table[:, :4], table[:, 4].astype(np.int64))


def test_overlap_of_halves_is_a_third() -> None:
    assert overlap(np.array([[0.0, 0, 2, 1]]), np.array([[1.0, 0, 3, 1]]))[0, 0] == pytest.approx(1 / 3)


def test_the_better_of_two_boxes_of_one_label_stays() -> None:
    kept = suppress(_found((0, 0, 10, 10, 0.5, 1), (1, 0, 11, 10, 0.9, 1), (30, 30, 40, 40, 0.1, 1)))
    assert kept.scores.tolist() == pytest.approx([0.9, 0.1])


def test_precision_and_recall_count_each_object_once() -> None:
    scene = _scene((0, 0, 10, 10, 0), (20, 20, 30, 30, 0))
    found = _found((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0), (50, 50, 60, 60, 0.3, 0))
    tally = count_right([scene], [found], 0.5, [0])
    assert (tally.right, tally.boxes, tally.objects) == (1, 2, 2)
    assert tally.precision == tally.recall == 0.5


def test_a_box_under_another_name_is_wrong() -> None:
    tally = count_right([_scene((0, 0, 10, 10, 0))], [_found((0, 0, 10, 10, 0.9, 1))], 0.5, [0, 1])
    assert tally.right == 0


def test_average_precision_of_perfect_answers_is_one_and_of_absent_labels_unknown() -> None:
    pytest.importorskip("pycocotools", reason="the demo-training extra is not installed")
    from model_export.demo.scoring import average_precision

    scenes = [_scene((0, 0, 10, 10, 0), (20, 20, 40, 40, 1)), _scene((5, 5, 15, 15, 0))]
    found = [_found((0, 0, 10, 10, 0.9, 0), (20, 20, 40, 40, 0.8, 1)), _found((5, 5, 15, 15, 0.7, 0))]
    precision = average_precision(scenes, found, 3)
    assert precision[:2] == pytest.approx([1, 1])
    assert np.isnan(precision[2])


def test_no_answers_at_all_is_zero() -> None:
    pytest.importorskip("pycocotools", reason="the demo-training extra is not installed")
    from model_export.demo.scoring import average_precision

    precision = average_precision([_scene((0, 0, 10, 10, 0))], [_found()], 2)
    assert precision[0] == 0
    assert np.isnan(precision[1])


def _random_boxes(random: np.random.Generator, count: int) -> list[tuple[float, ...]]:
    corners = random.uniform(0, 80, (count, 2))
    return [(*corner, *(corner + random.uniform(5, 60, 2))) for corner in corners]


def _random_image(random: np.random.Generator, labels: int) -> tuple[Scene, Found]:
    """Objects, and answers that are near an object or anywhere; scores are distinct."""
    objects: list[tuple[float, ...]] = [
        (*box, int(random.integers(labels))) for box in _random_boxes(random, int(random.integers(1, 9)))
    ]
    answers: list[tuple[float, ...]] = [
        (*(np.array(box) + random.normal(0, 4, 4)), random.random(), label)
        for *box, label in objects
        for _ in range(random.integers(0, 3))
    ]
    wild = [(*box, random.random(), int(random.integers(labels))) for box in _random_boxes(random, 3)]
    return _scene(*objects), _found(*answers, *wild)


def _ap50_of_pycocotools(scenes: list[Scene], answers: list[Found], labels: int) -> float:
    """The official AP50: COCOeval's second number."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def coco_boxes(boxes: NDArray[np.floating]) -> list[list[float]]:
        return [[float(x) for x in (*box[:2], *(box[2:] - box[:2]))] for box in boxes]

    truth, results = COCO(), COCO()
    images = [{"id": 1 + number} for number in range(len(scenes))]
    categories = [{"id": label} for label in range(labels)]
    for coco, entries in (
        (truth, [(s.boxes, s.labels, np.ones(len(s.labels), np.float32)) for s in scenes]),
        (results, [(f.boxes, f.labels, f.scores) for f in answers]),
    ):
        annotations = [
            {"image_id": 1 + number, "category_id": int(label), "bbox": box, "score": float(score)}
            | {"area": box[2] * box[3], "iscrowd": 0}
            for number, (boxes, names, scores) in enumerate(entries)
            for box, label, score in zip(coco_boxes(boxes), names, scores, strict=True)
        ]
        numbered = [{"id": 1 + number, **each} for number, each in enumerate(annotations)]
        coco.dataset = {"images": images, "categories": categories, "annotations": numbered}
        coco.createIndex()
    evaluation = COCOeval(truth, results, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[1])


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    """On 60 images with objects and answers drawn at random; never 0 or 1 by chance."""
    pytest.importorskip("pycocotools", reason="the demo-training extra is not installed")
    from model_export.demo.scoring import average_precision

    random = np.random.default_rng(seed)
    scenes, answers = zip(*(_random_image(random, 4) for _ in range(60)), strict=True)
    expected = _ap50_of_pycocotools(list(scenes), list(answers), 4)
    assert 0.1 < expected < 0.9
    assert np.nanmean(average_precision(list(scenes), list(answers), 4)) == pytest.approx(expected, abs=1e-4)


GOLDEN = SHARED_DATA / "coco_eval_golden"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="COCO's own figures are not part of the repository")
def test_average_precision_is_that_of_coco() -> None:
    """On 100 images of COCO with 734 detections, the mean over labels is the official AP50."""
    pytest.importorskip("pycocotools", reason="the demo-training extra is not installed")
    from model_export.demo.scoring import average_precision

    truth = json.loads((GOLDEN / "sampled_gts_bbox_area.json").read_text())
    answers = json.loads((GOLDEN / "sampled_bbox_results.json").read_text())["annotations"]
    expected = json.loads((GOLDEN / "expected_pycocotools.json").read_text())
    labels = {category["id"]: i for i, category in enumerate(truth["categories"])}

    def rows(entries: list[dict], image: int) -> list[tuple[float, ...]]:  # type: ignore[type-arg]
        chosen = [entry for entry in entries if entry["image_id"] == image]
        return [
            (
                x,
                y,
                x + w,
                y + h,
                *([entry["score"]] if "score" in entry else []),
                labels[entry["category_id"]],
            )
            for entry in chosen
            for x, y, w, h in [entry["bbox"]]
        ]

    images = [image["id"] for image in truth["images"]]
    scenes = [_scene(*rows(truth["annotations"], image)) for image in images]
    found = [_found(*rows(answers, image)) for image in images]
    precision = average_precision(scenes, found, len(labels))
    assert np.nanmean(precision) == pytest.approx(expected["AP50"], abs=1e-4)
