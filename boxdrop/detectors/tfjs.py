"""TensorFlow.js graph models, read and rewritten as ONNX: the operations of a small convolutional network.

A model is a JSON file with the graph and the names of its weights, and a file of the weights one after the
other, in 16 bits where ``quantization`` says so
(https://github.com/tensorflow/tfjs/blob/master/tfjs-core/src/io/types.ts). Convolutions are channels-last
there and channels-first in ONNX; ONNX Runtime removes the transpositions between them.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detectors.onnx_file import OnnxGraph
from boxdrop.domain.errors import BoxdropError

Array = NDArray[Any]

_FIRST: Final = (0, 3, 1, 2)
"""From channels-last to channels-first."""
_LAST: Final = (0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class TfjsModel:
    """A model as it is on disk.

    Attributes:
        nodes: operations by name.
        weights: float32 and int64 arrays by name.
    """

    nodes: dict[str, dict[str, Any]]
    weights: dict[str, Array]

    @classmethod
    def load(cls, file: Path) -> "TfjsModel":
        """Read ``NAME.json`` and the weights beside it.

        Raises:
            BoxdropError: it is no such model, or its weights are incomplete.
        """
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            nodes = {node["name"]: node for node in fields["modelTopology"]["node"]}
            weights: dict[str, Array] = {}
            for group in fields["weightsManifest"]:
                raw = b"".join((file.parent / name).read_bytes() for name in group["paths"])
                at = 0
                for entry in group["weights"]:
                    stored = np.dtype("<f2" if "quantization" in entry else _STORED[entry["dtype"]])
                    count = int(np.prod(entry["shape"], dtype=np.int64))
                    values = np.frombuffer(raw, stored, count, at).reshape(entry["shape"])
                    weights[entry["name"]] = values.astype(_KEPT[entry["dtype"]])
                    at += values.nbytes
                if at != len(raw):
                    raise ValueError(f"{len(raw)} bytes of weights, where {at} are described")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BoxdropError(
                f"{file}: this is not a whole TensorFlow.js graph model ({error}); get it again"
            ) from None
        return cls(nodes, weights)


_STORED: Final = {"float32": "<f4", "int32": "<i4"}
_KEPT: Final = {"float32": np.float32, "int32": np.int64}


class Converter:
    """Appends a model's operations to an ONNX graph.

    Constants of shapes are computed here; a batch may have any number of images, though the model was made
    for one.

    Args:
        model: the model.
        graph: receives the nodes.
    """

    def __init__(self, model: TfjsModel, graph: OnnxGraph) -> None:
        self._model = model
        self._graph = graph
        self._constants: dict[str, Array] = dict(model.weights)
        self._made: set[str] = set()

    def tensor(self, name: str) -> str:
        """Append what makes a tensor of the model; returns the tensor's name in the graph.

        Raises:
            BoxdropError: an operation is not supported.
        """
        name = name.removeprefix("^").removesuffix(":0")
        source, _, port = name.partition(":")
        if source in self._constants:
            return self._weight(source)
        if source not in self._made:
            self._append(source)
            self._made.add(source)
        return f"{source}:{port}" if port else source

    def _append(self, name: str) -> None:
        node = self._model.nodes.get(name)
        operation = str(node["op"]) if node else "none"
        make = _OPERATIONS.get(operation)
        if node is None or make is None:
            raise BoxdropError(f"the model's operation {operation} ({name}) is not supported")
        make(self, name, node.get("input", []), node.get("attr", {}))

    def _weight(self, name: str) -> str:
        self._graph.weights.setdefault(name, self._constants[name])
        return name

    def _constant(self, name: str) -> Array:
        """The value of a tensor that depends on no image."""
        if name in self._constants:
            return self._constants[name]
        node = self._model.nodes[name]
        given = [self._constant(each) for each in node.get("input", [])]
        if node["op"] == "AddV2":
            value = given[0] + given[1]
        elif node["op"] == "SparseToDense":
            value = np.full(given[1], given[3])
            value[tuple(given[0].T)] = given[2]
        else:
            raise BoxdropError(f"the model's operation {node['op']} ({name}) is not supported as a constant")
        self._constants[name] = value
        return value

    def placeholder(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """The images are an input of the graph."""

    def unary(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """Identity, Sigmoid."""
        operation = self._model.nodes[name]["op"]
        self._graph.add(operation, [self.tensor(inputs[0])], [name])

    def leaky(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """LeakyRelu."""
        alpha = float(attributes["alpha"]["f"])
        self._graph.add("LeakyRelu", [self.tensor(inputs[0])], [name], alpha=alpha)

    def sum(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """Add."""
        self._graph.add("Add", [self.tensor(each) for each in inputs], [name])

    def transpose(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """Transpose."""
        order = [int(axis) for axis in self._constant(inputs[1])]
        self._graph.add("Transpose", [self.tensor(inputs[0])], [name], perm=order)

    def pad(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """Pad with zeros, PadV2 with a value."""
        amounts = self._constant(inputs[1])
        pads = self._graph.constant(f"{name}/pads", amounts.T.ravel())
        value = float(self._constant(inputs[2])) if len(inputs) > 2 else 0.0
        filler = self._graph.constant(f"{name}/value", value, np.float32)
        self._graph.add("Pad", [self.tensor(inputs[0]), pads, filler], [name])

    def concatenate(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """ConcatV2."""
        parts = [self.tensor(each) for each in inputs[:-1]]
        self._graph.add("Concat", parts, [name], axis=int(self._constant(inputs[-1])))

    def split(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """SplitV."""
        sizes = self._graph.constant(f"{name}/sizes", self._constant(inputs[1]))
        outputs = [name, *(f"{name}:{number}" for number in range(1, len(self._constant(inputs[1]))))]
        axis = int(self._constant(inputs[2]))
        self._graph.add("Split", [self.tensor(inputs[0]), sizes], outputs, axis=axis)

    def reshape(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """Reshape; the first axis stays what it is: the images."""
        shape = self._constant(inputs[1]).copy()
        shape[0] = 0
        given = self._graph.constant(f"{name}/shape", shape)
        self._graph.add("Reshape", [self.tensor(inputs[0]), given], [name])

    def convolve(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """Conv2D, channels-last and without padding of its own."""
        self._check_plain(name, attributes)
        # The kernel is [height, width, in, out] there, and [out, in, height, width] here.
        kernel = self._constant_kernel(inputs[1])
        weights = self._graph.constant(f"{name}/kernel", kernel.transpose(3, 2, 0, 1), np.float32)
        self._channels_first(
            name,
            inputs[0],
            "Conv",
            [weights],
            strides=_middle(attributes, "strides"),
            dilations=_middle(attributes, "dilations"),
        )

    def pool(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """MaxPool, channels-last and without padding of its own."""
        self._check_plain(name, attributes)
        sizes, strides = _middle(attributes, "ksize"), _middle(attributes, "strides")
        self._channels_first(name, inputs[0], "MaxPool", [], kernel_shape=sizes, strides=strides)

    def resize(self, name: str, inputs: list[str], attributes: dict[str, Any]) -> None:
        """ResizeBilinear about half pixels, channels-last."""
        if attributes["align_corners"].get("b") or not attributes["half_pixel_centers"].get("b"):
            raise BoxdropError(f"the model's operation ResizeBilinear ({name}) is supported for half pixels")
        source = self.tensor(inputs[0])
        size = [int(side) for side in self._constant(inputs[1])]
        self._graph.add("Transpose", [source], [f"{name}/first"], perm=_FIRST)
        # ONNX wants the whole shape; the number of images and channels is the source's.
        before = self._graph.constant(f"{name}/axes", [0, 1])
        self._graph.add("Shape", [f"{name}/first"], [f"{name}/shape"])
        self._graph.add("Gather", [f"{name}/shape", before], [f"{name}/kept"])
        wanted = self._graph.constant(f"{name}/size", size)
        self._graph.add("Concat", [f"{name}/kept", wanted], [f"{name}/sizes"], axis=0)
        self._graph.add(
            "Resize",
            [f"{name}/first", "", "", f"{name}/sizes"],
            [f"{name}/resized"],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        self._graph.add("Transpose", [f"{name}/resized"], [name], perm=_LAST)

    def _channels_first(
        self, name: str, source: str, operation: str, more: list[str], **attributes: list[int]
    ) -> None:
        self._graph.add("Transpose", [self.tensor(source)], [f"{name}/first"], perm=_FIRST)
        self._graph.add(operation, [f"{name}/first", *more], [f"{name}/done"], **attributes)
        self._graph.add("Transpose", [f"{name}/done"], [name], perm=_LAST)

    def _constant_kernel(self, name: str) -> Array:
        kernel = self._constants.get(name)
        if kernel is None or kernel.ndim != 4:
            raise BoxdropError(f"the model's kernel {name} is not a constant of four axes")
        return kernel

    def _check_plain(self, name: str, attributes: dict[str, Any]) -> None:
        padding = base64.b64decode(attributes["padding"]["s"])
        layout = base64.b64decode(attributes.get("data_format", {}).get("s", "TkhXQw=="))
        if (padding, layout) != (b"VALID", b"NHWC"):
            raise BoxdropError(
                f"the model's operation {name} is {padding.decode()} and {layout.decode()}; VALID and NHWC "
                "are supported"
            )


def _middle(attributes: dict[str, Any], name: str) -> list[int]:
    """The values for height and width of four; 1 each if there are none."""
    values = attributes.get(name, {}).get("list", {}).get("i", [1, 1, 1, 1])
    return [int(value) for value in values[1:3]]


_Make = Callable[[Converter, str, list[str], dict[str, Any]], None]

_OPERATIONS: Final[dict[str, _Make]] = {
    "Placeholder": Converter.placeholder,
    "Identity": Converter.unary,
    "Sigmoid": Converter.unary,
    "LeakyRelu": Converter.leaky,
    "Add": Converter.sum,
    "AddV2": Converter.sum,
    "Transpose": Converter.transpose,
    "Pad": Converter.pad,
    "PadV2": Converter.pad,
    "ConcatV2": Converter.concatenate,
    "SplitV": Converter.split,
    "Reshape": Converter.reshape,
    "Conv2D": Converter.convolve,
    "MaxPool": Converter.pool,
    "ResizeBilinear": Converter.resize,
}
