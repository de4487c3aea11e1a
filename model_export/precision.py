"""Reduced precision: a bundle's graphs in 16 bits for CUDA, or with 8-bit weights for the CPU.

``fp16``
    Weights and computation in 16 bits, except for coordinates: sampling points and boxes stay in 32, since 16
    bits cannot represent every pixel of an image. Inputs and outputs do not change.
``int8``
    The large matrix products of the image graph: weights in 8 bits, with one scale per output channel;
    activations are quantised at run time (dynamic quantisation: no calibration images, which other kinds of
    images could invalidate). These stay in 32 bits: the heads, which compute scores and boxes; small
    products, which gain nothing; convolutions, a few per cent of the work in most families; the text graph,
    which runs once per label set.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

from model_export.graphs import save_graph

PRECISIONS: Final = ("fp32", "fp16", "int8")

_PRODUCTS: Final = ("MatMul", "Gemm")
_EXACT_IN_HALF: Final = ("Sin", "Cos", "Range", "GridSample", "TopK", "Resize")
"""Operations that stay in 32 bits: angles, positions, and those for which CUDA has no 16-bit kernel."""


def to_fp16(file: Path) -> list[Path]:
    """Convert a graph in place. Returns the files written."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = onnx.load(str(file))
    converted = convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=False,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_EXACT_IN_HALF],
        node_block_list=sorted(_coordinate_nodes(model)),
    )
    return save_graph(converted, file)


def _coordinate_nodes(model: Any) -> set[str]:
    """Nodes that compute coordinates: from sampling grids and boxes back to the matrix products that produce
    them."""
    makers = {output: node for node in model.graph.node for output in node.output}
    waiting = [node.input[1] for node in model.graph.node if node.op_type == "GridSample"]
    waiting += [output.name for output in model.graph.output if output.name == "boxes"]
    found: set[str] = set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in found or node.op_type in (*_PRODUCTS, "LayerNormalization", "Gather"):
            continue
        found.add(node.name)
        waiting += node.input
    return found


def to_int8(file: Path, keep: Iterable[Any] = (), least: int = 32) -> list[Path]:
    """Convert a graph in place.

    Args:
        file: the graph.
        keep: weights, as arrays, whose products stay in 32 bits.
        least: minimum rows and columns of a weight.

    Returns:
        The files written.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(file))
    left_out = _left_out(model, [np.asarray(weights) for weights in keep], least)
    staged = file.with_name(file.name + ".int8")
    logging.disable(logging.WARNING)  # it recommends a preparation for calibrated quantisation
    try:
        quantize_dynamic(
            model,
            staged,
            op_types_to_quantize=list(_PRODUCTS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            # It splits each Gemm before it checks the names; this is the name of the resulting product.
            nodes_to_exclude=sorted(left_out | {f"{name}_MatMul" for name in left_out}),
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        logging.disable(logging.NOTSET)
    converted = onnx.load(str(staged))
    for written in file.parent.glob(staged.name + "*"):
        written.unlink()
    return save_graph(converted, file)


def _left_out(model: Any, keep: list[Any], least: int) -> set[str]:
    """Names of the products to exclude: their weights are in `keep`, small, or not constant."""
    by_shape = defaultdict(list)
    for weights in keep:
        by_shape[weights.shape].append(weights)
        by_shape[weights.shape[::-1]].append(weights.T)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = set()
    for node in model.graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        tensor = constants.get(node.input[1])
        if tensor is None or min(tensor.dims) < least or len(tensor.dims) != 2:
            found.add(node.name)
            continue
        candidates = by_shape.get(tuple(tensor.dims), [])
        if candidates:
            values = numpy_helper.to_array(tensor)
            if any(np.array_equal(values, candidate) for candidate in candidates):
                found.add(node.name)
    return found
