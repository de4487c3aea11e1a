"""Attention as one operation: the same numbers, and nothing replaced that only looks like it."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model_export.attention import fuse_attention

HEADS, WIDTH = 4, 8
WHOLE = HEADS * WIDTH


def attention(extra: str = "", biases: bool = True) -> Any:
    """A graph with one attention layer, as ONNX Runtime leaves it after rewriting.

    Args:
        extra: what is different: ``mask`` (added to the scores), ``weights`` (they are an output, too),
            ``join`` (heads are not joined at the end).
        biases: whether projections add one.
    """
    rng = np.random.default_rng(7)
    constants = {
        "heads": np.array([-1 if biases else HEADS]),
        "width": np.array([WIDTH]),
        "whole": np.array([WHOLE if biases else -1]),
        "zero": np.array(0),
        "one": np.array(1),
        "first": np.array([0]),
        "mask": rng.standard_normal((1, 1, 1, 5)).astype(np.float32),
    }
    nodes = [helper.make_node("Shape", ["x"], ["sizes"])]
    for number, name in enumerate(("batch", "places")):
        nodes.append(helper.make_node("Gather", ["sizes", ("zero", "one")[number]], [f"{name}0"]))
        nodes.append(helper.make_node("Unsqueeze", [f"{name}0", "first"], [name]))
    nodes.append(helper.make_node("Concat", ["batch", "places", "heads", "width"], ["split"], axis=0))
    nodes.append(helper.make_node("Concat", ["batch", "places", "whole"], ["joined"], axis=0))
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        constants[f"{name}.weights"] = rng.standard_normal((WHOLE, WHOLE)).astype(np.float32) / 4
        constants[f"{name}.bias"] = rng.standard_normal(WHOLE).astype(np.float32)
        nodes.append(helper.make_node("MatMul", ["x", f"{name}.weights"], [f"{name}0"]))
        if biases:  # either way round
            both = [f"{name}.bias", f"{name}0"] if name == "q" else [f"{name}0", f"{name}.bias"]
            nodes.append(helper.make_node("Add", both, [f"{name}1"]))
        nodes.append(helper.make_node("Reshape", [f"{name}{int(biases)}", "split"], [f"{name}2"]))
        nodes.append(helper.make_node("Transpose", [f"{name}2"], [f"{name}3"], perm=order))
    product = helper.make_node(
        "FusedMatMul", ["q3", "k3"], ["scores"], domain="com.microsoft", alpha=0.3, transA=0, transB=0,
        transBatchA=0, transBatchB=0,
    )  # fmt: skip
    nodes.append(product)
    if extra == "mask":
        nodes.append(helper.make_node("Add", ["scores", "mask"], ["masked"]))
    nodes.append(
        helper.make_node("Softmax", ["masked" if extra == "mask" else "scores"], ["weights"], axis=-1)
    )
    nodes.append(helper.make_node("MatMul", ["weights", "v3"], ["mixed"]))
    nodes.append(helper.make_node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]))
    nodes.append(helper.make_node("Reshape", ["back", "split" if extra == "join" else "joined"], ["y"]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    if extra == "weights":
        outputs.append(helper.make_tensor_value_info("weights", TensorProto.FLOAT, None))
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "places", WHOLE])],
        outputs,
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run(model: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    answer: NDArray[np.float32] = session.run(["y"], {"x": x})[0]
    return answer


def operations(model: Any) -> set[str]:
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize(("batch", "places"), [(1, 5), (3, 70)])
def test_one_operation_gives_the_same_numbers(biases: bool, batch: int, places: int) -> None:
    x = np.random.default_rng(batch).standard_normal((batch, places, WHOLE)).astype(np.float32)
    model = attention(biases=biases)
    expected = run(model, x)
    assert fuse_attention(model) == 1
    assert operations(model) == {"MatMul", "MultiHeadAttention"}, "nothing is left that nobody needs"
    np.testing.assert_allclose(run(model, x), expected, atol=2e-5)


@pytest.mark.parametrize("extra", ["mask", "weights", "join"])
def test_what_only_looks_like_attention_stays(extra: str) -> None:
    model = attention(extra)
    before = model.SerializeToString()
    assert fuse_attention(model) == 0
    assert model.SerializeToString() == before
