"""Tasks: percent coordinates, stable ids, and what is refused before anything is sent."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from boxdrop.domain.errors import PredictionError
from boxdrop.domain.identity import image_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Prediction
from boxdrop.labelstudio.config import labeling_config
from boxdrop.labelstudio.task_data import fingerprint, to_task

FRUIT = LabelSet.from_yaml("caption: fruit baskets\nlabels: [pineapple, banana, apple]")
BANANA = Box("banana", 0.75, (16.0, 12.0, 336.0, 372.0), "banana")
APPLE = Box("apple", 0.5, (0.0, 0.0, 640.0, 480.0), "apple")


def prediction(*boxes: Box, width: int = 640, height: int = 480, model_version: str = "demo@1") -> Prediction:
    name = "baskets/0001.jpg"
    return Prediction(name, image_id("", name), "v1", model_version, width, height, boxes)


def test_a_box_becomes_percent_of_the_upright_size() -> None:
    (region,) = to_task(prediction(BANANA), FRUIT, "/x.jpg")["predictions"][0]["result"]
    assert region["value"] == {
        "x": 2.5,
        "y": 2.5,
        "width": 50.0,
        "height": 75.0,
        "rotation": 0,
        "rectanglelabels": ["banana"],
    }
    assert (region["original_width"], region["original_height"]) == (640, 480)


def test_the_data_manager_can_sort_and_filter_by_what_was_found() -> None:
    task = to_task(prediction(BANANA, APPLE, BANANA), FRUIT, "/x.jpg")
    data = task["data"]
    assert data["labels_found"] == "banana ×2, apple"
    assert (data["boxes"], data["lowest_score"], data["caption"]) == (3, 0.5, "fruit baskets")
    assert (data["file_name"], data["model_version"]) == ("baskets/0001.jpg", "demo@1")
    assert task["predictions"][0]["score"] == 0.5


def test_a_credit_is_shown_where_there_is_one_and_counts_as_a_change() -> None:
    bare = to_task(prediction(APPLE), FRUIT, "/x.jpg")["data"]
    credited = to_task(prediction(APPLE), FRUIT, "/x.jpg", {"credit": "“Basket” by Jane, CC BY 4.0"})["data"]
    assert "credit" not in bare
    assert credited["credit"] == "“Basket” by Jane, CC BY 4.0"
    assert fingerprint(credited) != fingerprint(bare)


def test_an_image_without_boxes_is_a_task_like_any_other() -> None:
    task = to_task(prediction(), FRUIT, "/x.jpg")
    assert task["predictions"] == [{"model_version": "demo@1", "score": 0.0, "result": []}]
    assert (task["data"]["labels_found"], task["data"]["lowest_score"]) == ("", None)


def test_the_same_prediction_gives_the_same_region_ids_and_another_one_gives_others() -> None:
    def ids(model_version: str) -> list[str]:
        task = to_task(prediction(BANANA, APPLE, model_version=model_version), FRUIT, "/x.jpg")
        return [region["id"] for region in task["predictions"][0]["result"]]

    assert ids("demo@1") == ids("demo@1")
    assert len({*ids("demo@1"), *ids("demo@2")}) == 4


def test_a_name_that_is_not_utf8_can_be_sent() -> None:
    odd = dataclasses.replace(prediction(BANANA), image="caf\udce9.jpg")
    json.dumps(to_task(odd, FRUIT, "/x.jpg"), ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box("kiwi", 0.5, (0, 0, 10, 10), "kiwi"), "kiwi"),
        (Box("apple", 1.2, (0, 0, 10, 10), "apple"), "score is 1.2"),
        (Box("apple", math.nan, (0, 0, 10, 10), "apple"), "score is nan"),
        (Box("apple", 0.5, (0, 0, math.nan, 10), "apple"), "not finite"),
        (Box("apple", 0.5, (0, 0, math.inf, 10), "apple"), "not finite"),
        (Box("apple", 0.5, (600, 0, 641, 10), "apple"), "640×480"),
        (Box("apple", 0.5, (-1, 0, 10, 10), "apple"), "640×480"),
        (Box("apple", 0.5, (10, 0, 5, 10), "apple"), "640×480"),
    ],
)
def test_a_box_that_label_studio_would_take_without_a_word_is_refused(box: Box, reason: str) -> None:
    with pytest.raises(PredictionError, match=f"box 2 .*{reason}"):
        to_task(prediction(BANANA, box), FRUIT, "/x.jpg")


def test_a_prediction_without_model_version_is_refused() -> None:
    with pytest.raises(PredictionError, match="model_version"):
        to_task(prediction(BANANA, model_version=""), FRUIT, "/x.jpg")


sizes = st.integers(1, 30_000)


@given(sizes, sizes, st.tuples(*[st.floats(0, 1)] * 4))
def test_every_box_inside_is_inside_in_percent_and_comes_back_to_its_pixels(
    width: int, height: int, corners: tuple[float, float, float, float]
) -> None:
    left, right = sorted(round(value * width, 3) for value in corners[:2])
    top, bottom = sorted(round(value * height, 3) for value in corners[2:])
    box = Box("apple", 0.5, (left, top, min(right, width), min(bottom, height)), "apple")
    (region,) = to_task(prediction(box, width=width, height=height), FRUIT, "/x")["predictions"][0]["result"]
    value = region["value"]
    assert value["x"] >= 0
    assert value["y"] >= 0
    assert value["x"] + value["width"] <= 100
    assert value["y"] + value["height"] <= 100
    back = (
        value["x"] * width / 100,
        value["y"] * height / 100,
        (value["x"] + value["width"]) * width / 100,
        (value["y"] + value["height"]) * height / 100,
    )
    assert back == pytest.approx(box.xyxy, abs=1e-6)


def test_label_studios_own_validation_agrees() -> None:
    interface = LabelInterface(labeling_config(FRUIT, "k"))
    task = to_task(prediction(BANANA, APPLE), FRUIT, "/x.jpg")
    assert interface.validate_prediction(task["predictions"][0], return_errors=True) == []
