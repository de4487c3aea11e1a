"""Attention as one operation, for the graph that ONNX Runtime runs on the CPU.

A traced attention layer consists of products, a softmax and transpositions, and stores a score for each pair
of positions: 620 MB per layer for OWLv2's 3,601. `com.microsoft.MultiHeadAttention
<https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md>`_ processes them block by block
(FlashAttention, https://arxiv.org/abs/2205.14135), with the same result up to rounding.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import helper, numpy_helper

_HEADS_FIRST: Final = [0, 2, 1, 3]  # [batch, places, heads, width] to [batch, heads, places, width], and back
_KEYS: Final = [0, 2, 3, 1]
_PROJECTIONS: Final = ("Add", "MatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")


@dataclass(frozen=True, slots=True)
class _Layer:
    """An attention layer: its inputs, and the attributes of the single operation.

    Attributes:
        sources: names of queries, keys and values, [batch, places, heads x width] each.
        biases: names of the biases to add to them first; none, or three.
        heads: number of heads.
        scale: of the scores.
    """

    sources: tuple[str, ...]
    biases: tuple[str, ...]
    heads: int
    scale: float


def fuse_attention(model: Any) -> int:
    """Replace attention without a mask in a graph that ONNX Runtime has optimised. Changes `model`.

    Only the whole pattern is replaced: projections split into heads, a scaled product, a softmax over the
    last axis, a product, heads joined again. Masked or different layers stay.

    Returns:
        How many layers were replaced.
    """
    graph = model.graph
    search = _Search(graph)
    layers = {node.output[0]: layer for node in graph.node if (layer := search.layer(node)) is not None}
    for node in graph.node:
        layer = layers.get(node.output[0])
        if layer is None:
            continue
        inputs = list(layer.sources)
        if layer.biases:
            joined = np.concatenate([search.constant(name) for name in layer.biases])
            inputs.append(f"{node.output[0]}.biases")
            graph.initializer.append(numpy_helper.from_array(joined, inputs[-1]))
        fused = helper.make_node(
            "MultiHeadAttention",
            inputs,
            list(node.output),
            name=node.name,
            domain="com.microsoft",
            num_heads=layer.heads,
            scale=layer.scale,
        )
        node.CopyFrom(fused)
    if layers:
        _remove_unused(graph)
    return len(layers)


class _Search:
    """Producers and consumers in a graph."""

    def __init__(self, graph: Any) -> None:
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._uses.update(output.name for output in graph.output)

    def constant(self, name: str) -> Any:
        """Values of a constant; None if the name is not a constant."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def layer(self, last: Any) -> _Layer | None:
        """The attention layer whose last node this is."""
        if last.op_type != "Reshape":
            return None
        joined = self._maker(last.input[0], "Transpose", perm=_HEADS_FIRST)
        mixed = self._maker(joined, "MatMul")
        weights = self._maker(mixed, "Softmax", axis=-1)
        scores = self._maker(weights, "FusedMatMul", transA=0, transB=0, transBatchA=0, transBatchB=0)
        if scores is None:
            return None
        halves = [
            self._heads(scores.input[0], _HEADS_FIRST),
            self._heads(scores.input[1], _KEYS),
            self._heads(mixed.input[1], _HEADS_FIRST),
        ]
        found = [half for half in halves if half is not None]
        shapes = {shape for _, shape in found}
        if len(found) < len(halves) or len(shapes) != 1:
            return None
        ((heads, width),) = shapes
        if self._sizes(last.input[1], axes=3) not in ((heads * width,), (-1,)):
            return None
        sources = tuple(source for source, _ in found)
        added = [self._bias(source, heads * width) for source in sources]
        plain = [pair for pair in added if pair is not None]
        alpha = _attributes(scores)["alpha"]
        if len(plain) < len(added):
            return _Layer(sources, (), heads, alpha)
        return _Layer(tuple(rest for rest, _ in plain), tuple(bias for _, bias in plain), heads, alpha)

    def _maker(self, of: Any, operation: str, **attributes: Any) -> Any:
        """The producer of a node's first input (or of a name), if it has the expected type and no other
        consumer."""
        if of is None:
            return None
        name = of if isinstance(of, str) else of.input[0]
        node = self._makers.get(name)
        if node is None or node.op_type != operation or self._uses[name] != 1:
            return None
        own = _attributes(node)
        return node if all(own.get(key) == value for key, value in attributes.items()) else None

    def _heads(self, name: str, order: Sequence[int]) -> tuple[str, tuple[int, int]] | None:
        """The tensor that is split into heads, the number of heads and their width."""
        split = self._maker(self._maker(name, "Transpose", perm=order), "Reshape")
        if split is None:
            return None
        sizes = self._sizes(split.input[1], axes=4)
        width = self._width(split.input[0])
        if len(sizes) != 2 or not width:
            return None
        heads = width // sizes[1]
        return (split.input[0], (heads, sizes[1])) if sizes[0] in (heads, -1) else None

    def _width(self, name: str) -> int:
        """The size of a projection's last axis, from its weights or its bias; 0 if it is not a projection."""
        node = self._makers.get(name)
        if node is None or node.op_type not in _PROJECTIONS:
            return 0
        constants = [values for part in node.input[:2] if (values := self.constant(part)) is not None]
        return int(constants[0].shape[-1]) if len(constants) == 1 and constants[0].ndim else 0

    def _sizes(self, name: str, axes: int) -> tuple[int, ...]:
        """The constant sizes at the end of a shape, if it has that many axes."""
        node = self._makers.get(name)
        if node is None or node.op_type != "Concat" or len(node.input) != axes:
            return ()
        values = [self.constant(part) for part in node.input[2:]]
        return tuple(int(value.item()) for value in values if value is not None and value.size == 1)

    def _bias(self, name: str, width: int) -> tuple[str, str] | None:
        """The tensor to which a constant is added, and the constant."""
        node = self._makers[name]
        if node.op_type == "Add":
            for rest, bias in (node.input, reversed(node.input)):
                values = self.constant(bias)
                if values is not None and values.shape == (width,):
                    return rest, bias
        return None


def _attributes(node: Any) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _remove_unused(graph: Any) -> None:
    """Remove unused nodes and constants."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # they are in topological order
        if any(output in needed for output in node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    nodes = list(reversed(kept))
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
