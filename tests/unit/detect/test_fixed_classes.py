"""Detectors with fixed classes: which classes a label set asks for, and what the graphs' numbers mean."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from boxdrop.detect import Bundle, Detector
from boxdrop.detect.bundle import CARD, Contract
from boxdrop.detect.classes import Classes
from boxdrop.detect.stream import Found, Stream
from boxdrop.domain.errors import BundleError, LabelSetError, LessonError
from boxdrop.domain.labels import LabelSet
from tests.fixed_bundle import write_fixed_bundle

NAMES = ("person", "dog", "traffic light")
SIZE = (64, 64)
BOXES = np.array([[8, 16, 24, 48], [32, 8, 60, 20], [2, 2, 10, 10]], np.float32)
"""xyxy, pixels of a 64 × 64 input."""
SCORES = np.array([[0.9, 0.1, 0.01], [0.2, 0.8, 0.02], [0.03, 0.04, 0.6]], np.float32)
ALL = LabelSet.from_short_form("person, dog, traffic light")


def centred(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def logit(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log(scores / (1 - scores))


def contract(**changes: Any) -> Contract:
    plain = Contract("images", "boxes", "scores", "xyxy", "pixel", "probability", nms_iou=0.5)
    return replace(plain, **changes)


def grid() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """YOLOX's raw numbers on grids of strides 8, 16 and 32, with one thing found in each of three cells."""
    raw = np.zeros((84, 4), np.float32)
    scores = np.zeros((84, 4), np.float32)
    # (cell, its column and row, stride): the cells of 8 × 8, 4 × 4 and 2 × 2 follow each other.
    for number, (cell, place, stride) in enumerate(
        [(8 * 4 + 2, (2, 4), 8), (64 + 0, (0, 0), 16), (80 + 3, (1, 1), 32)]
    ):
        middle, span = centred(BOXES)[number][:2], centred(BOXES)[number][2:]
        raw[cell] = [*(middle / stride - place), *np.log(span / stride)]
        scores[cell] = [0.5, *(SCORES[number] * 2).clip(0, 1)]
    return raw, scores


def graphs() -> dict[str, tuple[dict[str, NDArray[Any]], Contract, NDArray[Any]]]:
    """By name: outputs of a graph, its contract, and the scores that they mean."""
    softmaxed = np.log(np.concatenate([SCORES / 2, 1 - SCORES.sum(1, keepdims=True) / 2], axis=1))
    raw, grid_scores = grid()
    best = SCORES.argmax(axis=1)
    only_best = np.where(np.arange(3) == best[:, None], SCORES, 0)
    labelled = {"boxes": BOXES, "scores": SCORES.max(axis=1), "labels": best.astype(np.int64)}
    padding = {
        "boxes": np.concatenate([BOXES, BOXES]),
        "scores": np.full(6, 0.99, np.float32),
        "labels": np.zeros(6, np.int64),
        "count": np.array([3], np.int64),
    }
    padding["scores"][:3], padding["labels"][:3] = labelled["scores"], labelled["labels"]
    joined = np.concatenate([centred(BOXES), np.full((3, 1), 0.5, np.float32), SCORES], axis=1)
    return {
        "corners and probabilities": ({"boxes": BOXES, "scores": SCORES}, contract(), SCORES),
        "centres and logits": (
            {"boxes": centred(BOXES) / 64, "scores": logit(SCORES)},
            contract(box_format="cxcywh", box_unit="fraction", score_kind="logit"),
            SCORES,
        ),
        "softmax with the last class for nothing": (
            {"boxes": centred(BOXES) / 64, "scores": softmaxed},
            contract(box_format="cxcywh", box_unit="fraction", score_kind="softmax", no_object="last"),
            SCORES / 2,
        ),
        "softmax with the first class for nothing": (
            {"boxes": BOXES, "scores": np.roll(softmaxed, 1, axis=1)},
            contract(score_kind="softmax", no_object="first"),
            SCORES / 2,
        ),
        "one output with objectness": (
            {"boxes": joined},
            contract(box_format="cxcywh", scores="boxes", objectness=True),
            SCORES / 2,
        ),
        "numbers first, boxes last": (
            {"boxes": np.ascontiguousarray(np.delete(joined, 4, axis=1).T)},
            contract(box_format="cxcywh", scores="boxes", transposed=True),
            SCORES,
        ),
        "left, top and size": (
            {"boxes": np.concatenate([BOXES[:, :2], BOXES[:, 2:] - BOXES[:, :2]], axis=1), "scores": SCORES},
            contract(box_format="xywh"),
            SCORES,
        ),
        "YOLOX's grid": (
            {"boxes": np.concatenate([raw, grid_scores], axis=1)},
            contract(box_format="grid", scores="boxes", objectness=True, strides=(8, 16, 32)),
            (SCORES * 2).clip(0, 1) / 2,
        ),
        "a class number per box": (labelled, contract(labels="labels"), only_best),
        "a class number per box, and a count": (
            padding,
            contract(labels="labels", count="count", nms_iou=None),
            only_best,
        ),
        "a class number per box, scaled to a size": (
            labelled,
            contract(labels="labels", sizes="sizes"),
            only_best,
        ),
    }


@pytest.mark.parametrize(
    ("shape", "resize"),
    [
        (shape, resize)
        for shape in graphs()
        for resize in ("bilinear", "short-edge", "pad-square", "letterbox", "letterbox-corner")
        if (shape, resize) != ("YOLOX's grid", "short-edge")  # a grid needs a fixed size
    ],
)
def test_every_shape_of_graph_and_every_way_to_resize_give_the_same_boxes(
    tmp_path: Path, shape: str, resize: str
) -> None:
    outputs, given, expected = graphs()[shape]
    folder = write_fixed_bundle(tmp_path / "bundle", outputs, given, NAMES, resize=resize, floor=0.001)
    detector = Detector.load(folder, threads=1)
    image = np.zeros((64, 128, 3), np.uint8)  # 128 wide: the model sees half of it, or all squeezed
    pixels = detector.preprocess(image)
    assert pixels.shape == ((3, 32, 64) if resize == "short-edge" else (3, 64, 64))
    (found,) = detector.candidates([pixels], [(128, 64)], ALL, nms_iou=1.0)
    # By hand: where a pixel of the input is in the image.
    scale, shift = {
        "bilinear": ([2, 1], [0, 0]),
        "short-edge": ([2, 2], [0, 0]),
        "pad-square": ([2, 2], [0, 0]),
        "letterbox": ([2, 2], [0, 16]),
        "letterbox-corner": ([2, 2], [0, 0]),
    }[resize]
    boxes: NDArray[Any] = BOXES
    if resize == "short-edge" and given.box_unit == "fraction":
        boxes = BOXES * [1, 0.5, 1, 0.5]  # of an input of 64 × 32
    placed = np.clip((boxes - shift * 2) * (scale * 2), 0, [128, 64, 128, 64])
    wanted = [
        (number, label)
        for number, label in np.argwhere(expected >= 0.001)
        if placed[number, 2] > placed[number, 0] and placed[number, 3] > placed[number, 1]
    ]
    order = sorted(wanted, key=lambda pair: -expected[pair])
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found.scores, [expected[pair] for pair in order], rtol=1e-5)
    for row, score in enumerate(found.scores):
        alike = [pair for pair in order if abs(expected[pair] - score) < 1e-5]
        assert any(
            found.labels[row] == label and np.allclose(found.boxes[row], placed[number], atol=1e-3)
            for number, label in alike
        )


def test_a_graph_for_one_image_answers_a_batch_image_by_image(tmp_path: Path) -> None:
    folder = write_fixed_bundle(
        tmp_path / "bundle", {"boxes": BOXES, "scores": SCORES}, contract(), NAMES, one_image=True
    )
    detector = Detector.load(folder, threads=1)
    images = [np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)]
    large, small = detector.detect(images, ALL)
    np.testing.assert_allclose(large.boxes, small.boxes * 2)
    assert len(large) == 3


def test_labels_take_the_classes_that_their_prompts_or_classes_name(tmp_path: Path) -> None:
    folder = write_fixed_bundle(tmp_path / "bundle", {"boxes": BOXES, "scores": SCORES}, contract(), NAMES)
    labels = LabelSet.from_yaml(
        """
        labels:
          - name: Tier
            prompts: [puppy, Dog, hound]
          - name: anything else
            classes: [Traffic_Light, person]
        """
    )
    detector = Detector.load(folder, threads=1)
    (found,) = detector.detect([np.zeros((64, 64, 3), np.uint8)], labels)
    named = [
        (labels.names[label], labels.prompts[prompt])
        for label, prompt in zip(found.labels, found.prompts, strict=True)
    ]
    assert named == [("anything else", "anything else"), ("Tier", "Dog"), ("anything else", "anything else")]


def test_a_label_set_is_read_whole_by_the_stream(tmp_path: Path) -> None:
    folder = write_fixed_bundle(
        tmp_path / "bundle", {"boxes": BOXES, "scores": SCORES}, contract(), NAMES, size=(64, 64)
    )
    png = tmp_path / "image.png"
    from PIL import Image

    Image.new("RGB", (64, 64)).save(png)
    stream = Stream(Detector.load(folder, threads=1), LabelSet.from_short_form("dog"), Path.read_bytes)
    (outcome,) = stream.outcomes([png])
    assert isinstance(outcome, Found)
    np.testing.assert_allclose(outcome.candidates.boxes[0], BOXES[1])


def test_a_word_that_is_no_class_is_refused_with_the_classes_and_a_guess() -> None:
    classes = Classes(NAMES, "coco")
    with pytest.raises(LabelSetError) as refused:
        classes.columns(LabelSet.from_short_form("dog, traffic lights"))
    said = str(refused.value)
    assert "label 'traffic lights': detector coco has no class 'traffic lights'" in said
    assert "did you mean 'traffic light'?" in said
    assert said.endswith("Its classes are: person, dog, traffic light")
    assert classes.know(LabelSet.from_short_form("DOG, person"))
    assert not classes.know(LabelSet.from_short_form("dog, cat"))


def test_one_wrong_class_is_refused_even_beside_a_right_one() -> None:
    labels = LabelSet.from_yaml("labels: [{name: animals, classes: [dog, cat]}]")
    with pytest.raises(LabelSetError, match="no class 'cat'"):
        Classes(NAMES, "coco").columns(labels)


def test_classes_without_a_name_cannot_be_asked_for() -> None:
    assert Classes(("", "dog"), "coco").columns(LabelSet.from_short_form("dog"))[1].tolist() == [1]
    with pytest.raises(LabelSetError, match=r"Its classes are: dog$"):
        Classes(("", "dog", ""), "coco").columns(LabelSet.from_short_form("N/A"))


def test_classes_are_written_again_and_change_the_digest() -> None:
    labels = LabelSet.from_yaml("labels: [{name: Hund, classes: [dog, wolf]}, {name: person}]")
    assert LabelSet.from_yaml(labels.to_yaml()) == labels
    assert LabelSet.from_snapshot(labels.to_yaml(), "x") == labels
    plain = LabelSet.from_yaml("labels: [Hund, person]")
    turned = LabelSet.from_yaml("labels: [{name: Hund, classes: [wolf, dog]}, {name: person}]")
    assert labels.digest("0") == turned.digest("0") != plain.digest("0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labels: [{name: a, classes: []}]", "`classes` of label 'a' is empty"),
        ("labels: [{name: a, classes: [x]}, {name: b, classes: [X]}]", "class 'X' belongs to 'a' and 'b'"),
        ("labels: [{name: a, classes: {b: c}}]", "`classes` of label 'a' must be a list of words"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused(text: str, said: str) -> None:
    with pytest.raises(LabelSetError, match=said):
        LabelSet.from_yaml(text)


def test_a_bundle_with_fixed_classes_reads_back_as_it_was_written(tmp_path: Path) -> None:
    given = contract(objectness=True, scores="boxes", box_format="grid", strides=(8, 16))
    folder = write_fixed_bundle(tmp_path / "bundle", {"boxes": np.zeros((80, 8), np.float32)}, given, NAMES)
    card = json.loads((folder / CARD).read_text())
    assert card["format"] == "boxdrop-bundle/2"
    assert "text" not in card
    bundle = Bundle.load(folder)
    assert bundle.contract == given
    assert bundle.classes == NAMES
    assert replace(bundle, classes=("a", "b", "c")).digest != bundle.digest
    assert replace(bundle, contract=replace(given, nms_iou=0.7)).digest != bundle.digest
    blue_first = replace(bundle.preprocess, channels="bgr")
    assert replace(bundle, preprocess=blue_first).digest != bundle.digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": []}, "`classes` must be a list of names"),
        ({"contract": {"input": "images"}}, "`contract.boxes` is missing"),
        ({"contract": None}, "`contract` must be an object"),
        ({"preprocess": {"channels": "cmy"}}, "`preprocess.channels` is 'cmy'"),
        ({"preprocess": {"fill": 256}}, "level from 0 to 255"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    folder = write_fixed_bundle(tmp_path / "bundle", {"boxes": BOXES, "scores": SCORES}, contract(), NAMES)
    card = json.loads((folder / CARD).read_text())
    for key, value in change.items():
        card[key] = card[key] | value if key == "preprocess" else value
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(BundleError, match=said):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"boxes": "bboxes"}, "no output 'bboxes'; it has boxes, scores"),
        ({"input": "pictures"}, "the contract names the inputs pictures, but the graph takes images"),
        ({"no_object": "last"}, "output 'scores' has 3 numbers per box, but 3 classes need 4"),
    ],
)
def test_a_contract_that_is_not_the_graphs_is_refused_on_opening(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = write_fixed_bundle(tmp_path / "bundle", {"boxes": BOXES, "scores": SCORES}, contract(), NAMES)
    bundle = replace(Bundle.load(folder), contract=contract(**changes))
    with pytest.raises(BundleError, match=said):
        Detector.load(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"box_format": "grid"},
        {"strides": (8,)},
        {"nms_iou": 0.0},
        {"labels": "labels", "scores": "boxes"},
        {"labels": "labels", "score_kind": "softmax"},
        {"box_format": "grid", "strides": (8,), "box_unit": "fraction"},
    ],
)
def test_contracts_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`|box_unit|score"):
        contract(**changes)


def test_fixed_classes_cannot_be_taught_or_take_a_lesson(tmp_path: Path) -> None:
    folder = write_fixed_bundle(tmp_path / "bundle", {"boxes": BOXES, "scores": SCORES}, contract(), NAMES)
    detector = Detector.load(folder, threads=1)
    with pytest.raises(LessonError, match="only OWL-ViT and OWLv2 can be taught"):
        detector.queries(ALL)
    with pytest.raises(LessonError):
        detector.embed(replace(ALL, lesson="0" * 16))


def test_blue_comes_first_where_the_model_wants_it(tmp_path: Path) -> None:
    folder = write_fixed_bundle(tmp_path / "bundle", {"boxes": BOXES, "scores": SCORES}, contract(), NAMES)
    bundle = Bundle.load(folder)
    image = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    for resize in ("bilinear", "pad-square", "letterbox", "short-edge"):
        settings = replace(bundle.preprocess, resize=resize)
        plain = Detector(replace(bundle, preprocess=settings), threads=1).preprocess(image)
        turned = replace(settings, channels="bgr")
        blue = Detector(replace(bundle, preprocess=turned), threads=1).preprocess(image)
        np.testing.assert_array_equal(plain, blue[::-1])


def test_a_letterbox_is_filled_around_the_image(tmp_path: Path) -> None:
    folder = write_fixed_bundle(tmp_path / "bundle", {"boxes": BOXES, "scores": SCORES}, contract(), NAMES)
    bundle = Bundle.load(folder)
    image = np.full((32, 64, 3), 255, np.uint8)
    for resize, rows in (("letterbox", slice(16, 48)), ("letterbox-corner", slice(0, 32))):
        settings = replace(bundle.preprocess, resize=resize, fill=114)
        pixels = Detector(replace(bundle, preprocess=settings), threads=1).preprocess(image)
        expected = np.full((3, 64, 64), 114 / 255, np.float32)
        expected[:, rows] = 1
        np.testing.assert_allclose(pixels, expected, rtol=1e-6)
