"""Tracing a module of torch into an ONNX file."""

import warnings
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
        inputs: example tensors by name; more than one in each axis that may change, so that nothing is
        frozen at 1.
        outputs: names.
        dynamic: by input or output, which axes may change and what they count.
    """

    module: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]]


def write_graph(graph: Graph, file: Path, opset: int = OPSET) -> list[Path]:
    """Trace and write; weights over 64 MiB go to ``<file>.data`` beside it.

    torch's TorchScript exporter is used: its graphs do not depend on where the code lies (the newer
    exporter writes stack traces into them), a full-size OWLv2 takes it half a minute, and it needs no
    onnxscript.

    Returns:
        The files written.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        # It is deprecated, and warns of each shape that it traces; parity checks what comes out.
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
    size = _clean(model)
    file.unlink()
    for scattered in file.parent.glob("*"):
        if scattered.name in _external_names(model):  # torch writes a file a tensor over protobuf's 2 GB
            scattered.unlink()
    if size < _EXTERNAL_FROM:
        onnx.save(model, str(file))
        return [file]
    data = file.with_name(file.name + ".data")
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
    """Remove what is not computed: the same model gives the same bytes. Returns the bytes of weights."""
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _external_names(model: Any) -> set[str]:
    return {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
