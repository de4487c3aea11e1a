"""``boxdrop bundle wrap`` with graphs that cannot work, and options that cannot be meant: nothing is left."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from boxdrop.cli import boxdrop
from boxdrop.detect.bundle import CARD
from boxdrop.detectors.choice import VARIABLE

BOXES = np.array([[[10, 10, 30, 30], [5, 5, 60, 60]]], np.float32)
SCORES = np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32)
BEST = np.array([[0.9, 0.8]], np.float32)
LABELS = np.array([[0, 1]], np.int64)
IMAGES = ("images", int(TensorProto.FLOAT), [1, 3, 64, 64])
PLAIN = {
    "input": "images",
    "boxes": "boxes",
    "scores": "scores",
    "box_format": "xyxy",
    "box_unit": "pixel",
    "score_kind": "probability",
}


def write_graph(
    file: Path, outputs: Mapping[str, NDArray[Any]], *inputs: tuple[str, int, list[int | str]]
) -> None:
    """A graph that gives the same numbers whatever it takes."""
    nodes = [helper.make_node("Identity", [f"{name}_constant"], [name]) for name in outputs]
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in outputs.items()
    ]
    taken = [helper.make_tensor_value_info(*each) for each in inputs or [IMAGES]]
    constants = [numpy_helper.from_array(value, f"{name}_constant") for name, value in outputs.items()]
    graph = helper.make_graph(nodes, "constant", taken, given, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(file))


def wrap(folder: Path, *options: object, classes: object = "cat, dog") -> Result:
    arguments = ("--classes", classes, "--out", folder / "out", *options)
    return CliRunner().invoke(
        boxdrop, ["bundle", "wrap", str(folder / "model.onnx"), *map(str, arguments)], env={VARIABLE: "never"}
    )


def check_refused(folder: Path, done: Result, said: str) -> None:
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit)
    assert said in done.output
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("outputs", "inputs", "said"),
    [
        ({"boxes": BOXES * np.nan, "scores": SCORES}, [], "is not finite"),
        ({"boxes": BOXES, "scores": SCORES * 50}, [], "scores from 5 to 45, which are no probabilities"),
        ({"boxes": BOXES, "scores": SCORES - 1}, [], "which are no probabilities"),
        ({"boxes": BOXES, "scores": SCORES[:, :1]}, [], "[1, 1, 2], but [B, N, 2] is needed beside boxes"),
        ({"boxes": BOXES, "scores": SCORES}, [("x", 1, [4, 3, 64, 64])], "takes 4 images at once"),
        ({"boxes": BOXES, "scores": SCORES}, [("x", 1, [1, 64, 64, 3])], "images are given as [B, 3, H, W]"),
        ({"boxes": BOXES, "scores": SCORES}, [("x", 1, [1, 1, 64, 64])], "images are given as [B, 3, H, W]"),
        (
            {"boxes": BOXES, "scores": SCORES},
            [("x", TensorProto.UINT8, [1, 3, 64, 64])],
            "is a tensor(uint8), but images are given as float32",
        ),
        ({"boxes": BOXES, "scores": SCORES}, [("x", 1, [1, 3, 10**5, 10**5])], "larger than boxdrop's limit"),
        (
            {"labels": LABELS, "boxes": BOXES, "scores": BEST},
            [IMAGES, ("sizes", TensorProto.FLOAT, [1, 2])],
            "'sizes' is a tensor(float), but sizes are given as int64",
        ),
        (
            {"labels": LABELS + 70, "boxes": BOXES, "scores": BEST},
            [],
            "names class number 71, but only 2 classes have names, counted from 0",
        ),
        ({"labels": LABELS, "boxes": BOXES[:, :1], "scores": BEST}, [], "[B, N] is needed beside boxes"),
    ],
)
def test_a_graph_that_cannot_work_is_refused_when_it_is_wrapped(
    tmp_path: Path,
    outputs: dict[str, NDArray[Any]],
    inputs: list[tuple[str, int, list[int | str]]],
    said: str,
) -> None:
    write_graph(tmp_path / "model.onnx", outputs, *inputs)
    check_refused(tmp_path, wrap(tmp_path), said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nms": 0.5}, "`nms` is no field (did you mean `nms_iou`?)"),
        ({"preprocess": {"means": [0, 0, 0]}}, "`means` is no field (did you mean `mean`?)"),
        ({"transposed": True}, "its last two axes swapped, but boxes are [B, N, 4]"),
        ({"count": "scores"}, "a number of boxes is [B] or [B, 1]"),
        ({"box_format": "grid", "strides": [8]}, "grids of strides 8 have 64 cells"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_graph(tmp_path / "model.onnx", {"boxes": BOXES, "scores": SCORES})
    (tmp_path / "contract.json").write_text(json.dumps(PLAIN | changes))
    check_refused(tmp_path, wrap(tmp_path, "--contract", tmp_path / "contract.json"), said)
    (tmp_path / "contract.json").write_text("[1, 2]")
    check_refused(
        tmp_path, wrap(tmp_path, "--contract", tmp_path / "contract.json"), "must hold one JSON object"
    )


def test_options_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx", {"boxes": BOXES, "scores": SCORES})
    (tmp_path / "latin.txt").write_bytes("café\nthé".encode("latin-1"))
    (tmp_path / "text.png").write_text("no picture")
    for options, classes, said in (
        (["--mean", "nan, nan, nan"], "cat, dog", "give three numbers"),
        (["--std", "inf, 1, 1"], "cat, dog", "give three numbers"),
        (["--mean", "1e300, 0, 0"], "cat, dog", "give three numbers"),
        ([], "names.txt", "--classes names.txt: there is no such file"),
        ([], tmp_path / "latin.txt", "is not UTF-8"),
        (["--check", tmp_path / "no.png"], "cat, dog", "cannot be read"),
        (["--check", tmp_path / "text.png"], "cat, dog", "this is text"),
    ):
        check_refused(tmp_path, wrap(tmp_path, *options, classes=classes), said)


def test_a_name_that_is_listed_twice_means_both_classes(tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx", {"boxes": BOXES, "scores": SCORES})
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    done = wrap(tmp_path, "--check", tmp_path / "a.png", classes="cat, Cat")
    assert done.exit_code == 0, done.output
    assert "2 boxes in" in done.output


def test_a_bundle_whose_graph_stopped_working_is_one_sentence(tmp_path: Path) -> None:
    """As with a graph of another version, or one that was exported for a number of images."""
    write_graph(tmp_path / "model.onnx", {"boxes": BOXES, "scores": SCORES})
    assert wrap(tmp_path).exit_code == 0
    card = json.loads((tmp_path / "out" / CARD).read_text())
    card["preprocess"] |= {"height": 32, "width": 32}
    (tmp_path / "out" / CARD).write_text(json.dumps(card))
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    arguments = ["annotate", str(tmp_path / "a.png"), "--labels", "cat", "--detector", str(tmp_path / "out")]
    done = CliRunner().invoke(
        boxdrop, [*arguments, "--out", str(tmp_path / "found")], env={VARIABLE: "never"}
    )
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "cannot run the graph on images [1, 3, 32, 32]" in done.output
