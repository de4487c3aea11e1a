"""Figures: suppression, precision and recall, average precision."""

import json
from pathlib import Path

import numpy as np
import pytest

from model_export.demo.scenes import Scene
from model_export.demo.scoring import Found, count_right, overlap, suppress

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


def test_average_precision_is_that_of_coco(shared_data: Path) -> None:
    """On 100 images of COCO with 734 detections, the mean over labels is the official AP50."""
    pytest.importorskip("pycocotools", reason="the demo-training extra is not installed")
    from model_export.demo.scoring import average_precision

    golden = shared_data / "coco_eval_golden"
    truth = json.loads((golden / "sampled_gts_bbox_area.json").read_text())
    answers = json.loads((golden / "sampled_bbox_results.json").read_text())["annotations"]
    expected = json.loads((golden / "expected_pycocotools.json").read_text())
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
