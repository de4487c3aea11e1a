"""NanoDet's TensorFlow.js graph, computed in numpy: operation by operation, with nothing of boxdrop.

It is what the bundle is compared with, from the pixels of an image to its boxes.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]

SIZE = 416
STRIDES = (8, 16, 32)
MEAN = np.array([103.53, 116.28, 123.675], np.float32)
DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)
"""Blue, green, red: NanoDet was trained on images that OpenCV had read."""


class NanoDetReading:
    """The graph.

    Args:
        model: ``nanodet.json``, with ``nanodet.bin`` beside it.
    """

    def __init__(self, model: Path) -> None:
        fields = json.loads(model.read_text())
        [group] = fields["weightsManifest"]
        raw = (model.parent / group["paths"][0]).read_bytes()
        self._nodes = {node["name"]: node for node in fields["modelTopology"]["node"]}
        self._constants: dict[str, Array] = {}
        at = 0
        for entry in group["weights"]:
            stored = np.dtype("<f2") if "quantization" in entry else np.dtype(f"<{entry['dtype'][0]}4")
            size = int(np.prod(entry["shape"])) if entry["shape"] else 1
            values = np.frombuffer(raw[at : at + size * stored.itemsize], stored).reshape(entry["shape"])
            self._constants[entry["name"]] = values.astype(entry["dtype"])
            at += size * stored.itemsize
        assert at == len(raw)

    def boxes(self, image: Image.Image) -> tuple[Array, Array]:
        """Probabilities [3549, 80] and boxes [3549, 4], xyxy in pixels of an RGB image."""
        stretched = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        pixels = (stretched[:, :, ::-1].astype(np.float32) - MEAN) / DEVIATION
        outputs = self(pixels.transpose(2, 0, 1)[None])
        scale = np.array([image.width, image.height] * 2) / SIZE
        placed = []
        for stride, sides in zip(STRIDES, outputs[3:], strict=True):
            shares = np.exp(sides[0].reshape(-1, 4, 11))
            shares /= shares.sum(axis=2, keepdims=True)
            distances = stride * (shares @ np.arange(11))
            y, x = np.divmod(np.arange(len(distances)), SIZE // stride)
            centres = (np.stack([x, y, x, y], axis=1) + 0.5) * stride
            placed.append(centres + distances * [-1, -1, 1, 1])
        return np.concatenate([scores[0] for scores in outputs[:3]]), np.concatenate(placed) * scale

    def __call__(self, pixels: Array) -> list[Array]:
        """The six outputs for pixels [1, 3, 416, 416]."""
        values: dict[str, Any] = dict(self._constants)
        values["input_1"] = pixels
        for name in self._in_order():
            node = self._nodes[name]
            given = [_of(values, each) for each in node.get("input", [])]
            values[name] = _compute(node["op"], node.get("attr", {}), given)
        return [values["Identity"], *(values[f"Identity_{number}"] for number in range(1, 6))]

    def _in_order(self) -> list[str]:
        """Names of the nodes, each after those that it needs."""
        known = {"input_1", *self._constants}
        waiting = [name for name, node in self._nodes.items() if name not in known and node["op"] != "Const"]
        order = []
        while waiting:
            ready = [
                name
                for name in waiting
                if all(each.split(":")[0] in known for each in self._nodes[name].get("input", []))
            ]
            assert ready, waiting
            order += ready
            known.update(ready)
            waiting = [name for name in waiting if name not in known]
        return order


def _of(values: dict[str, Any], name: str) -> Any:
    source, _, port = name.partition(":")
    value = values[source]
    return value[int(port or 0)] if isinstance(value, list) else value


def _compute(operation: str, attributes: dict[str, Any], given: list[Any]) -> Any:
    match operation:
        case "Add" | "AddV2":
            return given[0] + given[1]
        case "Transpose":
            return np.ascontiguousarray(given[0].transpose(given[1]))
        case "Pad":
            return np.pad(given[0], given[1])
        case "PadV2":
            return np.pad(given[0], given[1], constant_values=given[2])
        case "LeakyRelu":
            return np.where(given[0] > 0, given[0], np.float32(attributes["alpha"]["f"]) * given[0])
        case "ConcatV2":
            return np.concatenate(given[:-1], axis=int(given[-1]))
        case "Identity":
            return given[0]
        case "Sigmoid":
            return 1 / (1 + np.exp(-given[0]))
        case "Reshape":
            return given[0].reshape(given[1])
        case "SplitV":
            return np.split(given[0], np.cumsum(given[1])[:-1], axis=int(given[2]))
        case "SparseToDense":
            dense = np.full(given[1], given[3])
            for place, value in zip(given[0], np.broadcast_to(given[2], len(given[0])), strict=True):
                dense[tuple(place)] = value
            return dense
        case "MaxPool":
            return _windows(given[0], attributes["ksize"], attributes).max(axis=(4, 5))
        case "Conv2D":
            assert base64.b64decode(attributes["padding"]["s"]) == b"VALID"
            return _convolution(given[0], given[1], attributes)
        case "ResizeBilinear":
            down = _linear(given[0].shape[1], int(given[1][0]))
            across = _linear(given[0].shape[2], int(given[1][1]))
            return np.einsum("yh,bhwc,xw->byxc", down, given[0], across, optimize=True)
    raise AssertionError(operation)


def _convolution(values: Array, kernel: Array, attributes: dict[str, Any]) -> Array:
    """A sum over the kernel's places: of what is seen there, times the weights there."""
    _, down, across, _ = (int(number) for number in attributes["strides"]["list"]["i"])
    height, width = kernel.shape[:2]
    rows, columns = (values.shape[1] - height) // down + 1, (values.shape[2] - width) // across + 1
    result: Array = np.zeros((values.shape[0], rows, columns, kernel.shape[3]), np.float32)
    for y in range(height):
        for x in range(width):
            seen = values[:, y : y + down * rows : down, x : x + across * columns : across]
            result += seen @ kernel[y, x]
    return result


def _windows(values: Array, sides: dict[str, Any], attributes: dict[str, Any]) -> Array:
    """Windows [B, rows, columns, channels, height, width] of values [B, H, W, channels]."""
    (_, height, width, _), (_, down, across, _) = (
        [int(number) for number in each["list"]["i"]] for each in (sides, attributes["strides"])
    )
    seen: Array = sliding_window_view(values, (height, width), (1, 2))[:, ::down, ::across]  # type: ignore[call-overload]
    return seen


def _linear(source: int, target: int) -> Array:
    """Weights [target, source] of a line's interpolation about the centres of its pixels."""
    weights = np.zeros((target, source), np.float32)
    for row in range(target):
        place = max((row + 0.5) * source / target - 0.5, 0.0)
        below = int(place)
        weights[row, below] += 1 - (place - below)
        weights[row, min(below + 1, source - 1)] += place - below
    return weights


def suppressed(boxes: Array, scores: Array, overlap: float) -> list[int]:
    """Rows that stay: best first, without those that overlap a better one by more than this IoU."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = list(np.argsort(-scores, kind="stable"))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(int(best))
        rest = np.array(left, int)
        corners = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (corners[1] - corners[0]).clip(0).prod(axis=1)
        left = list(rest[shared <= overlap * (areas[best] + areas[rest] - shared)])
    return kept
