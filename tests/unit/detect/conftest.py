"""A toy detector, made in milliseconds without torch, that really detects: colours in the quarters of an
image.

Prompts are names of colours; each of the 2 × 2 patches is one box. The graphs have the inputs and outputs
of an exported OWL-ViT, so that the whole of `boxdrop.detect` runs on them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from boxdrop.detect import Bundle, Detector
from boxdrop.detect.bundle import CARD, Defaults, Preprocess, Source, Text, digest_of

COLOURS = {
    "red": (10, 0, 0),
    "crimson": (8, 0, 0),
    "green": (0, 10, 0),
    "blue": (0, 0, 10),
    "white": (4, 4, 4),
}
"""By prompt, its embedding: a patch of mean colour c, 0 to 1, gets the logit c · embedding - 5."""

ToyMaker = Callable[..., Path]


def _graph(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, NDArray[Any]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "toy",
        inputs,
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _image_graph(poisoned_by_black: bool) -> onnx.ModelProto:
    tensor = helper.make_tensor_value_info
    nodes = [
        helper.make_node("AveragePool", ["pixel_values"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Reshape", ["pooled", "flat"], ["flattened"]),
        helper.make_node("Transpose", ["flattened"], ["features"], perm=[0, 2, 1]),
        helper.make_node("Transpose", ["query_embeds"], ["queries"], perm=[1, 0]),
        helper.make_node("MatMul", ["features", "queries"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["shifted"]),
        helper.make_node("ReduceMax", ["pixel_values"], ["brightest"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["brightest", "last"], ["light"]),
        # The root of a negative number: NaN for an image that is black all over.
        helper.make_node("Sub", ["light", "least"], ["margin"]),
        helper.make_node("Sqrt", ["margin"], ["root"]),
        helper.make_node("Mul", ["root", "nothing"], ["poison"]),
        helper.make_node("Add", ["shifted", "poison"], ["logits"]),
        helper.make_node("Mul", ["light", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "grid"], ["boxes"]),
    ]
    constants = {
        "flat": np.array([0, 3, 4]),
        "bias": np.array(-5, np.float32),
        "last": np.array([3]),
        "least": np.array(0.01 if poisoned_by_black else -1.0, np.float32),
        "nothing": np.array(0, np.float32),
        "grid": np.array(
            [[[x, y, 0.5, 0.5] for y in (0.25, 0.75) for x in (0.25, 0.75)]], np.float32
        ),  # cxcywh
    }
    return _graph(
        nodes,
        [
            tensor("pixel_values", TensorProto.FLOAT, ["images", 3, 8, 8]),
            tensor("query_embeds", TensorProto.FLOAT, ["prompts", 3]),
        ],
        [
            tensor("logits", TensorProto.FLOAT, ["images", 4, "prompts"]),
            tensor("boxes", TensorProto.FLOAT, ["images", 4, 4]),
        ],
        constants,
    )


def _text_graph() -> onnx.ModelProto:
    tensor = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis"], ["weights"]),
        helper.make_node("Mul", ["embedded", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "tokens"], ["query_embeds"], keepdims=0),
    ]
    table = np.array([(0, 0, 0), *COLOURS.values()], np.float32)
    return _graph(
        nodes,
        [tensor(name, TensorProto.INT64, ["prompts", 4]) for name in ("input_ids", "attention_mask")],
        [tensor("query_embeds", TensorProto.FLOAT, ["prompts", 3])],
        {"table": table, "axis": np.array([2]), "tokens": np.array([1])},
    )


def write_toy_bundle(folder: Path, family: str = "owlvit", poisoned_by_black: bool = False) -> Path:
    """Write the toy as a bundle of a family."""
    folder.mkdir(parents=True)
    onnx.save(_image_graph(poisoned_by_black), str(folder / "image.onnx"))
    onnx.save(_text_graph(), str(folder / "text.onnx"))
    vocabulary = {word: number for number, word in enumerate(["<unk>", *COLOURS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    bundle = Bundle(
        path=folder,
        name=f"toy-{family}",
        family=family,
        precision="fp32",
        source=Source("toy", "1", "none", "none"),
        preprocess=Preprocess(
            height=8,
            width=8,
            resize="pad-square" if family == "owlv2" else "bilinear",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        text=Text(max_length=4, pad_id=0, template="{}"),
        defaults=Defaults(threshold=0.5, floor=0.05),
        files={name: digest_of(folder / name) for name in ("image.onnx", "text.onnx", "tokenizer.json")},
        parity={"passed": True},
    )
    (folder / CARD).write_text(bundle.to_json(), encoding="utf-8")
    return folder


@pytest.fixture
def toy(tmp_path: Path) -> ToyMaker:
    """Makes toy bundles: ``toy(family=…, poisoned_by_black=…)``."""

    def make(**settings: object) -> Path:
        return write_toy_bundle(tmp_path / f"toy-{len(list(tmp_path.iterdir()))}", **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def toy_detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """The toy as an OWL-ViT: images are stretched."""
    return Detector.load(write_toy_bundle(tmp_path_factory.mktemp("toys") / "owlvit"))


@pytest.fixture(scope="session")
def padding_detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """The toy as an OWLv2: images are padded to a square."""
    return Detector.load(write_toy_bundle(tmp_path_factory.mktemp("toys") / "owlv2", family="owlv2"))
