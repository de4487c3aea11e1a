"""Traces a torch module to an ONNX file."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
import torch

OPSET: Final = 17
"""The first opset with LayerNormalization; every ONNX Runtime since 1.14 runs it."""

_EXTERNAL_FROM = (
    64 * 2**20
)  # bytes of weights; ONNX Runtime maps an external file instead of parsing and copying it
_SMALL_TENSOR = 1024  # bytes; shapes and axes must stay in the graph for shape inference


@dataclass(frozen=True, slots=True)
class Graph:
    """What to trace.

    Attributes:
        module: its forward takes the inputs in order.
        inputs: example tensors by name; with a size above 1 in each dynamic axis, so no axis is frozen at 1.
        outputs: names.
        dynamic: the dynamic axes of inputs and outputs, with their names.
        heads: weights that stay in 32 bits when the others are quantised: those that compute scores and
            boxes.
    """

    module: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]]
    heads: tuple[torch.Tensor, ...] = ()


@contextmanager
def plain_attention(model: Any) -> Iterator[None]:
    """Make a model compute attention by the plain formula during a block.

    Scaled dot-product attention traces into more nodes than the plain formula, which ONNX Runtime fuses.
    Afterwards each part of a model gets its own setting back: a model of several parts has no common one, and
    Grounding DINO's BERT under the plain formula would add its boolean mask to the scores.
    """
    configs = {
        id(config): config for module in model.modules() if (config := getattr(module, "config", None))
    }
    before = {key: config._attn_implementation for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation = "eager"
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]


def write_graph(graph: Graph, file: Path, opset: int = OPSET) -> list[Path]:
    """Trace and write; weights over 64 MiB are stored in ``<file>.data`` beside it.

    torch's TorchScript exporter is used: its graphs do not depend on the code's path (the newer exporter
    writes stack traces into them), it exports a full-size OWLv2 in half a minute, and it needs no onnxscript.

    Returns:
        The files written.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        # It is deprecated, and warns about each shape that it traces; parity checks the result.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            str(file),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=graph.dynamic,
            opset_version=opset,
            dynamo=False,
        )
    model = onnx.load(str(file))
    for scattered in _external_names(file):  # above protobuf's 2 GB, torch writes one file per tensor
        (file.parent / scattered).unlink()
    return save_graph(model, file)


def save_graph(model: Any, file: Path) -> list[Path]:
    """Write a graph reproducibly; weights over 64 MiB are stored in ``<file>.data``.

    Returns:
        The files written.
    """
    size = _clean(model)
    data = file.with_name(file.name + ".data")
    file.unlink(missing_ok=True)
    data.unlink(missing_ok=True)
    if size < _EXTERNAL_FROM:
        onnx.save(model, str(file))
        return [file]
    onnx.save(
        model,
        str(file),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data.name,
        size_threshold=_SMALL_TENSOR,
    )
    return [file, data]


def _clean(model: Any) -> int:
    """Remove metadata, so the same model gives the same bytes. Returns the bytes of weights."""
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _external_names(file: Path) -> set[str]:
    model = onnx.load(str(file), load_external_data=False)
    return {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
