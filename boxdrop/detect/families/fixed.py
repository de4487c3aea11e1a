"""Detectors with fixed classes: boxes and scores as the bundle's contract describes them, no words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.classes import Classes
from boxdrop.detect.families.arrays import corners, sigmoid, stacked
from boxdrop.detect.families.words import Words
from boxdrop.detect.preprocess import placement_of
from boxdrop.domain.errors import BundleError
from boxdrop.domain.labels import LabelSet

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from boxdrop.detect.bundle import Bundle

Floats = NDArray[np.float32]

_ROUNDING: Final = 1e-3
"""How far a probability may lie outside 0 to 1: half precision rounds by as much."""


class FixedClasses:
    """Reads what one bundle's graph gives; see `boxdrop.detect.families.Decoder`.

    Args:
        bundle: has a contract.

    Raises:
        BundleError: it has none.
    """

    def __init__(self, bundle: "Bundle") -> None:
        if bundle.contract is None:
            raise BundleError(f"{bundle.path}: a bundle of the family {bundle.family} needs a contract")
        self.contract = bundle.contract
        self.outputs = bundle.contract.outputs
        self._bundle = bundle
        self._classes = Classes(bundle.classes, bundle.name)

    def words(self, label_set: LabelSet) -> tuple[Words, ...]:
        """The classes that a label set asks for, as the one pass of the graph.

        Raises:
            LabelSetError: the detector has no class for a label.
        """
        prompts, columns = self._classes.columns(label_set)
        return (Words(prompts, {}, columns=columns),) if len(prompts) else ()

    def images(self, pixels: Sequence[Floats] | Floats) -> dict[str, NDArray[Any]]:
        """A batch of one size. A graph that scales boxes to the image's size is given that of its input."""
        batch = stacked(pixels)
        inputs: dict[str, NDArray[Any]] = {self.contract.input: batch}
        if self.contract.sizes is not None:
            size = np.array([batch.shape[3], batch.shape[2]], np.int64)
            inputs[self.contract.sizes] = np.tile(size, (len(batch), 1))
        return inputs

    def decode(
        self, outputs: list[NDArray[np.float32]], sizes: NDArray[np.int64], words: Words
    ) -> tuple[Floats, Floats]:
        """Scores of the classes asked for, and boxes in the image's pixels.

        Raises:
            BundleError: the outputs are not what the contract says.
        """
        assert words.columns is not None
        named = dict(zip(self.outputs, outputs, strict=True))
        if self.contract.transposed:
            named = {name: each.swapaxes(1, 2) if each.ndim == 3 else each for name, each in named.items()}
        self._check_shapes(named)
        scores = self._scores(named, words.columns)
        return scores, self._boxes(named[self.contract.boxes][..., :4], sizes)

    def check(self, session: "InferenceSession") -> None:
        """Compare the contract with the graph, as far as the graph states its names and shapes.

        Raises:
            BundleError: they do not fit.
        """
        contract, classes = self.contract, len(self._bundle.classes)
        given = {each.name: each.shape for each in session.get_outputs()}
        taken = {each.name: (each.type, each.shape) for each in session.get_inputs()}
        lacking = [name for name in self.outputs if name not in given]
        if lacking:
            raise self._error(f"the graph has no output {lacking[0]!r}; it has {', '.join(given)}")
        inputs = {contract.input} | ({contract.sizes} if contract.sizes else set())
        if inputs != taken.keys():
            named, has = ", ".join(sorted(inputs)), ", ".join(sorted(taken))
            raise self._error(f"the contract names the inputs {named}, but the graph takes {has}")
        self._check_input(*taken[contract.input])
        if contract.sizes is not None and taken[contract.sizes][0] != "tensor(int64)":
            kind = taken[contract.sizes][0]
            raise self._error(f"input {contract.sizes!r} is a {kind}, but sizes are given as int64")
        shape = given[contract.scores]
        width = shape[1 if contract.transposed else -1] if len(shape) == 3 else None
        if contract.labels is None and isinstance(width, int) and width != contract.columns(classes):
            raise self._error(
                f"output {contract.scores!r} has {width} numbers per box, but {classes} classes need "
                f"{contract.columns(classes)}"
            )

    def _check_input(self, kind: str, shape: list[int | str | None]) -> None:
        name = self.contract.input
        if kind != "tensor(float)":
            raise self._error(f"input {name!r} is a {kind}, but images are given as float32")
        if len(shape) == 4 and isinstance(shape[1], int) and shape[1] != 3:
            raise self._error(
                f"input {name!r} is {shape}, but images are given as [B, 3, H, W]: red, green and blue first"
            )
        if shape and isinstance(shape[0], int) and shape[0] != 1:
            raise self._error(
                f"input {name!r} takes {shape[0]} images at once; export the model for one image, or for any "
                "number"
            )

    def _check_shapes(self, named: dict[str, Floats]) -> None:
        """Compare the shapes of the outputs with the contract; [B, N, …] by now."""
        contract = self.contract
        columns = contract.columns(len(self._bundle.classes))
        boxes, scores = named[contract.boxes], named[contract.scores]
        if boxes.ndim != 3 or boxes.shape[2] < 4:
            raise self._unlike(contract.boxes, boxes, "boxes are [B, N, 4]")
        per_box = [contract.scores] + ([contract.labels] if contract.labels is not None else [])
        for name in per_box:
            of_one = (1,) if contract.labels is not None else (columns,)
            allowed = (boxes.shape[:2], boxes.shape[:2] + of_one)
            if named[name].shape not in (allowed if contract.labels is not None else allowed[1:]):
                said = "[B, N]" if contract.labels is not None else f"[B, N, {columns}]"
                raise self._unlike(name, named[name], f"{said} is needed beside boxes {list(boxes.shape)}")
        if contract.count is not None and named[contract.count].size != len(scores):
            raise self._unlike(contract.count, named[contract.count], "a number of boxes is [B] or [B, 1]")

    def _unlike(self, name: str, given: Floats, needed: str) -> BundleError:
        turned = ", its last two axes swapped" if self.contract.transposed else ""
        return self._error(f"output {name!r} is {list(given.shape)}{turned}, but {needed}")

    def _probable(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Scores from 0 to 1, but for rounding.

        Raises:
            BundleError: they are something else: probably logits.
        """
        low, high = (scores.min(), scores.max()) if scores.size else (0, 1)
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise self._error(
                f"output {self.contract.scores!r} has scores from {low:g} to {high:g}, which are no "
                "probabilities (`score_kind` of the contract: logit or softmax?)"
            )
        return np.clip(scores, 0, 1)

    def _scores(self, named: dict[str, Floats], columns: NDArray[np.int64]) -> Floats:
        contract = self.contract
        given = named[contract.scores]
        if contract.labels is not None:
            given = given[..., 0] if given.ndim == 3 else given
            classes = named[contract.labels]
            classes = classes[..., 0] if classes.ndim == 3 else classes
            if contract.no_object == "first":
                classes = classes - 1
            best = sigmoid(given) if contract.score_kind == "logit" else self._probable(given)
            self._check_labels(classes, self._counted(best[..., None], named)[..., 0])
            asked = np.where(classes[..., None] == columns, best[..., None], 0)
            return self._counted(asked, named)
        values = given[..., 4:] if contract.boxes == contract.scores else given
        objectness = None
        if contract.objectness:
            objectness, values = values[..., :1], values[..., 1:]
        if contract.score_kind == "probability":
            values = self._probable(values)
            objectness = None if objectness is None else self._probable(objectness)
        if contract.score_kind == "softmax":
            values = np.exp(values - values.max(axis=-1, keepdims=True))
            values = values / values.sum(axis=-1, keepdims=True)
        asked = values[..., columns + (contract.no_object == "first")]
        if contract.score_kind == "logit":
            asked = sigmoid(asked)
            objectness = None if objectness is None else sigmoid(objectness)
        if objectness is not None:
            asked = asked * objectness
        return self._counted(asked, named)

    def _check_labels(self, classes: Floats, scores: Floats) -> None:
        """Refuse boxes of classes that have no name: the list of names is another one than the graph's."""
        names = len(self._bundle.classes)
        last = names if self.contract.no_object == "last" else names - 1
        beyond = classes[(scores >= self._bundle.defaults.floor) & (classes > last)]
        if len(beyond):
            raise self._error(
                f"output {self.contract.labels!r} names class number {int(beyond.max())}, but only {names} "
                "classes have names, counted from 0"
            )

    def _counted(self, scores: NDArray[Any], named: dict[str, Floats]) -> Floats:
        """Scores [B, N, P], 0 for the boxes that do not count."""
        if self.contract.count is not None:
            counted = named[self.contract.count].reshape(-1, 1, 1)
            scores = np.where(np.arange(scores.shape[1])[:, None] < counted, scores, 0)
        return scores.astype(np.float32)

    def _boxes(self, boxes: Floats, sizes: NDArray[np.int64]) -> Floats:
        """Boxes of the model's input, in the contract's format, to corners in pixels of the images."""
        contract, settings = self.contract, self._bundle.preprocess
        if contract.box_format == "grid":
            boxes = self._off_grid(boxes)
        if contract.box_format in ("cxcywh", "grid"):
            boxes = corners(boxes)
        elif contract.box_format == "xywh":
            boxes = np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)
        placed = np.empty(boxes.shape, np.float32)
        for number, (width, height) in enumerate(sizes):
            place = placement_of(int(width), int(height), settings)
            of_input = (place.input_width, place.input_height) if contract.box_unit == "fraction" else (1, 1)
            scale = np.array([width / place.width, height / place.height] * 2)
            offset = np.array([place.left, place.top] * 2)
            placed[number] = (boxes[number] * np.array(of_input * 2) - offset) * scale
        return placed

    def _off_grid(self, boxes: Floats) -> Floats:
        """YOLOX's raw boxes to centres and sizes in pixels of the model's input."""
        height, width = self._bundle.preprocess.height, self._bundle.preprocess.width
        cells, strides = [], []
        for stride in self.contract.strides:
            down, across = np.mgrid[: height // stride, : width // stride]
            cells.append(np.stack([across.ravel(), down.ravel()], axis=1))
            strides.append(np.full((len(cells[-1]), 1), stride))
        origins, scale = np.concatenate(cells), np.concatenate(strides)
        if boxes.shape[1] != len(origins):
            raise self._error(
                f"the graph gives {boxes.shape[1]} boxes, but grids of strides "
                f"{', '.join(map(str, self.contract.strides))} have {len(origins)} cells"
            )
        centres = (boxes[..., :2] + origins) * scale
        with np.errstate(over="ignore"):
            spans = np.exp(boxes[..., 2:]) * scale
        return np.concatenate([centres, spans], axis=-1).astype(np.float32)

    def _error(self, message: str) -> BundleError:
        return BundleError(f"{self._bundle.path}: {message}; wrap or export the model again")
