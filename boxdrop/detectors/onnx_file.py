"""Writing an ONNX file without the ``onnx`` package, which boxdrop does not need otherwise.

An ONNX file is a protocol buffer: fields of a number, a wire type (0: a whole number, 2: bytes of a given
length, 5: a 32-bit float) and a value. The numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_OPSET: Final = 17
_IR_VERSION: Final = 8
_TYPES: Final = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7  # AttributeProto.AttributeType

Attribute = int | float | str | Sequence[int]


@dataclass(slots=True)
class OnnxGraph:
    """A graph in the making.

    Attributes:
        nodes: in an order in which they can run.
        weights: constants by name, float32 or int64.
        inputs, outputs: shapes of float32 tensors by name; text is a size that varies.
    """

    inputs: Mapping[str, Sequence[int | str]]
    outputs: Mapping[str, Sequence[int | str]]
    nodes: list[bytes] = field(default_factory=list)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(
        self, operation: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Attribute
    ) -> None:
        """Append a node."""
        encoded = [_text(1, name) for name in inputs] + [_text(2, name) for name in outputs]
        encoded += [_text(3, outputs[0]), _text(4, operation)]
        encoded += [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
        self.nodes.append(b"".join(encoded))

    def constant(self, name: str, value: Any, dtype: type = np.int64) -> str:
        """Add a constant; returns its name."""
        self.weights[name] = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        return name

    def to_bytes(self, name: str) -> bytes:
        """The file."""
        graph = [_bytes(1, node) for node in self.nodes]
        graph.append(_text(2, name))
        graph += [_bytes(5, _tensor(key, value)) for key, value in self.weights.items()]
        graph += [_bytes(11, _value(key, shape)) for key, shape in self.inputs.items()]
        graph += [_bytes(12, _value(key, shape)) for key, shape in self.outputs.items()]
        opset = _text(1, "") + _number(2, _OPSET)
        return b"".join(
            (_number(1, _IR_VERSION), _text(2, "boxdrop"), _bytes(7, b"".join(graph)), _bytes(8, opset))
        )


def _varint(value: int) -> bytes:
    value &= 2**64 - 1  # negative numbers are in two's complement
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, str):
        kind, encoded = _STRING, _text(4, value)
    elif isinstance(value, float):
        kind, encoded = _FLOAT, _varint(2 << 3 | 5) + struct.pack("<f", value)
    elif isinstance(value, int):
        kind, encoded = _INT, _number(3, value)
    else:
        kind, encoded = _INTS, b"".join(_number(8, each) for each in value)
    return _text(1, name) + encoded + _number(20, kind)


def _tensor(name: str, value: NDArray[Any]) -> bytes:
    shape = b"".join(_number(1, size) for size in value.shape)
    raw = value.astype(value.dtype.newbyteorder("<")).tobytes()
    return shape + _number(2, _TYPES[value.dtype]) + _text(8, name) + _bytes(9, raw)


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    sizes = [_number(1, size) if isinstance(size, int) else _text(2, size) for size in shape]
    dimensions = b"".join(_bytes(1, size) for size in sizes)
    tensor = _number(1, _TYPES[np.dtype(np.float32)]) + _bytes(2, dimensions)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))
