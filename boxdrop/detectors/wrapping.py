"""A bundle around somebody else's ONNX file: its contract is guessed from the outputs, or given.

A guess is one of the shapes in which detectors are usually exported:

``yolox``
    One output [B, N, 5 + C]: four numbers of a box, objectness, classes. Raw (N is the number of cells of
    strides 8, 16 and 32) or decoded.
``rt-detr``
    ``labels``, ``boxes``, ``scores``, and an input with the image's size: RT-DETR's, D-FINE's and DEIM's own.
``transformers``
    ``logits`` [B, N, C or C + 1] and ``pred_boxes`` [B, N, 4], 0 to 1.
``yolo-nas``
    Boxes [B, N, 4] in pixels of the input and scores [B, N, C]; or, with suppression inside, their number,
    boxes, scores [B, N] and classes [B, N].
"""

import dataclasses
import difflib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from boxdrop.detect.bundle import (
    CARD,
    IMAGE_GRAPH,
    Bundle,
    Contract,
    Defaults,
    Preprocess,
    Source,
    digest_of,
    is_valid_name,
)
from boxdrop.detect.contract import FIXED
from boxdrop.detect.detector import Detector
from boxdrop.documents import DocumentError, from_fields
from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.images import Limits, decode, read_file
from boxdrop.domain.label import Label, color_of
from boxdrop.domain.labels import LabelSet

SHAPES: Final = ("yolox", "rt-detr", "transformers", "yolo-nas")
_MOST_SIDE: Final = 8_192
_STRIDES: Final = (8, 16, 32)
_NOTHING: Final = (0.0, 0.0, 0.0)
_WHOLE: Final = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What a graph takes and gives.

    Attributes:
        inputs: shapes by name; a size that varies is text or None.
        outputs: shapes by name, as they were for one black image, or as stated where it could not run.
    """

    path: Path
    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]

    @classmethod
    def read(cls, path: Path, size: tuple[int, int] | None = None) -> "OnnxFile":
        """Open a file with ONNX Runtime, and run it once.

        Args:
            path: the file.
            size: width and height of its input, if the graph leaves them open.

        Raises:
            BoxdropError: there is none, or it cannot be loaded.
        """
        import onnxruntime

        if not path.is_file():
            raise BoxdropError(f"{path}: there is no such file; give the detector's .onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception classes have no common base but this
            raise BoxdropError(
                f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {str(error)[:300]}"
            ) from None
        stated = cls(
            path,
            {each.name: each.shape for each in session.get_inputs()},
            {each.name: each.shape for each in session.get_outputs()},
        )
        width, height = stated.size() or size or (0, 0)
        if max(width, height) > _MOST_SIDE:
            raise BoxdropError(
                f"{path}: an input of {width}x{height} pixels is larger than boxdrop's limit, "
                f"{_MOST_SIDE:,} on a side"
            )
        feed: dict[str, Any] = {
            name: np.zeros((1, 3, height, width), np.float32)
            if name == stated.images
            else np.array([[width, height]], np.int64)
            for name in stated.inputs
        }
        try:
            answer = session.run(None, feed)
        except Exception:  # wrong inputs: the contract, or the check picture, will say what is wrong
            return stated
        given = zip(stated.outputs, answer, strict=True)
        return replace(stated, outputs={name: list(value.shape) for name, value in given})

    @property
    def images(self) -> str:
        """The input with four axes.

        Raises:
            BoxdropError: there is none, or several.
        """
        named = [name for name, shape in self.inputs.items() if len(shape) == 4]
        if len(named) != 1:
            raise self.unlike(
                "it has no input of images [B, 3, H, W]" if not named else "it has several images"
            )
        return named[0]

    def size(self) -> tuple[int, int] | None:
        """Width and height of the input; None if they vary."""
        height, width = self.inputs[self.images][2:]
        return (width, height) if isinstance(width, int) and isinstance(height, int) else None

    def unlike(self, why: str) -> BoxdropError:
        """An error for a graph that no shape fits."""
        listed = "; ".join(
            f"{kind} {name} {shape}"
            for kind, shapes in (("input", self.inputs), ("output", self.outputs))
            for name, shape in shapes.items()
        )
        return BoxdropError(
            f"{self.path}: {why} ({listed}); describe it with --contract FILE, see docs/detectors.md"
        )


@dataclass(frozen=True, slots=True)
class Wrapping:
    """How a graph is used: its contract, and what happens to images before it."""

    shape: str
    contract: Contract
    preprocess: Preprocess


def guess(
    graph: OnnxFile, classes: int, size: tuple[int, int] | None = None, decoded: bool = False
) -> Wrapping:
    """Find the shape that a graph has.

    Args:
        graph: the file.
        classes: how many classes it has.
        size: width and height of its input, if the graph leaves them open.
        decoded: whether YOLOX's boxes are in pixels already; the outputs do not tell.

    Raises:
        BoxdropError: no shape fits, or the size is missing.
    """
    width, height = _size_of(graph, size)
    sizes = [name for name, shape in graph.inputs.items() if len(shape) == 2]
    by_rank = {rank: [name for name, shape in graph.outputs.items() if len(shape) == rank] for rank in (2, 3)}
    outputs, images = set(graph.outputs), graph.images
    if {"labels", "boxes", "scores"} <= outputs:
        return Wrapping(
            "rt-detr",
            Contract(
                images, "boxes", "scores", "xyxy", "pixel", "probability",
                labels="labels", sizes=sizes[0] if sizes else None,
            ),
            Preprocess(height, width, "bilinear", _NOTHING, _WHOLE),
        )  # fmt: skip
    if {"logits", "pred_boxes"} <= outputs:
        columns = graph.outputs["logits"][-1]
        softmax = columns == classes + 1
        return Wrapping(
            "transformers",
            Contract(
                images, "pred_boxes", "logits", "cxcywh", "fraction", "softmax" if softmax else "logit",
                no_object="last" if softmax else None,
            ),
            Preprocess(height, width, "bilinear", _NOTHING, _WHOLE),
        )  # fmt: skip
    if len(outputs) == 1 and by_rank[3]:
        return Wrapping("yolox", *_yolox(graph, images, by_rank[3][0], classes, width, height, decoded))
    letterbox = Preprocess(height, width, "letterbox", _NOTHING, _WHOLE, fill=114)
    boxes = [name for name in by_rank[3] if graph.outputs[name][-1] == 4]
    scores = [name for name in by_rank[3] if graph.outputs[name][-1] == classes and name not in boxes[:1]]
    if len(boxes) == 1 and len(scores) == 1:
        contract = Contract(images, boxes[0], scores[0], "xyxy", "pixel", "probability", nms_iou=0.7)
        return Wrapping("yolo-nas", contract, letterbox)
    numbers = {part: [name for name in by_rank[2] if part in name] for part in ("num", "score", "class")}
    if len(boxes) == 1 and all(len(names) == 1 for names in numbers.values()):
        contract = Contract(
            images, boxes[0], numbers["score"][0], "xyxy", "pixel", "probability",
            labels=numbers["class"][0], count=numbers["num"][0],
        )  # fmt: skip
        return Wrapping("yolo-nas", contract, letterbox)
    raise graph.unlike(f"its outputs are none of the shapes {', '.join(SHAPES)} for {classes} classes")


def read_contract(file: Path, graph: OnnxFile, size: tuple[int, int] | None) -> Wrapping:
    """Read a contract that somebody wrote: the fields of `Contract`, and those of ``preprocess`` that differ.

    Raises:
        BoxdropError: it cannot be read, or a field is wrong.
    """
    width, height = _size_of(graph, size)
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise DocumentError("must hold one JSON object")
        _check_known(fields, Contract, "preprocess")
        _check_known(fields.get("preprocess", {}), Preprocess)
        contract = from_fields(Contract, fields)
        image = {"height": height, "width": width, "resize": "bilinear", "mean": [0, 0, 0], "std": [1, 1, 1]}
        preprocess = from_fields(Preprocess, image | fields.get("preprocess", {}), "preprocess")
    except OSError as error:
        raise BoxdropError(f"{file}: cannot be read: {error.strerror}") from None
    except (DocumentError, ValueError, TypeError, AttributeError) as error:
        raise BoxdropError(f"{file}: {error}; docs/detectors.md describes the fields") from None
    return Wrapping("its contract", contract, preprocess)


def _check_known(given: Any, kind: type[Contract] | type[Preprocess], *others: str) -> None:
    names = [*(each.name for each in dataclasses.fields(kind)), *others]
    if unknown := [name for name in given if name not in names]:
        close = difflib.get_close_matches(unknown[0], names, n=1)
        hint = f" (did you mean `{close[0]}`?)" if close else ""
        raise DocumentError(f"`{unknown[0]}` is no field{hint}; there are {', '.join(names)}")


def wrap(
    graph: OnnxFile,
    out: Path,
    name: str,
    classes: Sequence[str],
    wrapping: Wrapping,
    defaults: Defaults,
    licence: str | None = None,
) -> Bundle:
    """Make a bundle; the graph is copied, with the weights beside it, and runs once on a grey picture.

    Args:
        graph: the file.
        out: a folder, made here.
        name: the bundle's.
        classes: names in the order of the scores.
        wrapping: how to use it.
        defaults: scores.
        licence: of the weights.

    Raises:
        BoxdropError: the folder exists, a name cannot be used, or the graph does not fit the contract.
    """
    if not is_valid_name(name):
        raise BoxdropError(
            f"--name {name!r}: use letters, digits, dots and dashes, beginning with a letter or digit"
        )
    if out.exists():
        raise BoxdropError(f"{out}: exists; choose another --out")
    out.mkdir(parents=True)
    try:
        files = [IMAGE_GRAPH]
        shutil.copyfile(graph.path, out / IMAGE_GRAPH)
        for data in sorted(
            graph.path.parent.glob(f"{graph.path.name}*data")
        ):  # large weights, named in the graph
            shutil.copyfile(data, out / data.name)
            files.append(data.name)
        digests = {file: digest_of(out / file) for file in files}
        bundle = Bundle(
            path=out,
            name=name,
            family=FIXED,
            precision="fp32",
            source=Source(
                graph.path.name, f"sha256:{digests[IMAGE_GRAPH].sha256[:16]}", "none", "none", licence
            ),
            preprocess=wrapping.preprocess,
            text=None,
            defaults=defaults,
            files=digests,
            parity={"checked": "not compared: wrapped as it was"},
            classes=tuple(classes),
            contract=wrapping.contract,
        )
        (out / CARD).write_text(bundle.to_json(), encoding="utf-8")
        _try(Detector.load(Bundle.load(out, verify=True)))
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return bundle


def _try(detector: Detector) -> None:
    """Look at a grey picture, since many exports do not state the shapes of their outputs.

    Raises:
        BoxdropError: the graph cannot run, or gives other numbers than its contract says.
    """
    detector.detect([np.full((480, 640, 3), 127, np.uint8)], _all_classes(detector.bundle))


def _all_classes(bundle: Bundle) -> LabelSet:
    names = dict.fromkeys(name for name in bundle.classes if name)
    return LabelSet(tuple(Label(name, (name,), None, number) for number, name in enumerate(names, 1)))


def open_picture(file: Path) -> NDArray[np.uint8]:
    """The upright pixels of a picture.

    Raises:
        BoxdropError: it cannot be read.
    """
    try:
        return decode(read_file(file, Limits()), Limits()).pixels
    except ImageError as error:
        raise BoxdropError(f"--check {file}: {error}") from None


def draw_check(bundle: Bundle, pixels: NDArray[np.uint8], file: Path) -> int:
    """Draw what a bundle finds in a picture, for people to judge; returns how many boxes.

    Raises:
        BoxdropError: the graph cannot run, or gives other numbers than its contract says.
    """
    labels = _all_classes(bundle)
    names = labels.names
    [found] = Detector.load(bundle).detect([pixels], labels)
    drawn = Image.fromarray(pixels)
    pen = ImageDraw.Draw(drawn)
    for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
        color = color_of(int(label))
        pen.rectangle(tuple(float(side) for side in box), outline=color, width=max(2, drawn.width // 300))
        text = f"{names[int(label)]} {score:.2f}".encode("latin-1", "replace").decode("latin-1")
        pen.text((float(box[0]) + 3, float(box[1]) + 2), text, fill=color)
    drawn.save(file)
    return len(found)


def with_image(wrapping: Wrapping, **changes: Any) -> Wrapping:
    """Change how images are prepared; None leaves a field as it is."""
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(wrapping, preprocess=replace(wrapping.preprocess, **given))


def _yolox(
    graph: OnnxFile, images: str, output: str, classes: int, width: int, height: int, decoded: bool
) -> tuple[Contract, Preprocess]:
    """One output with everything; raw numbers of YOLOX's grids, or boxes in pixels of the input."""
    shape = graph.outputs[output]
    transposed = shape[1] in (4 + classes, 5 + classes) and shape[2] not in (4 + classes, 5 + classes)
    columns, boxes = (shape[1], shape[2]) if transposed else (shape[2], shape[1])
    if columns not in (4 + classes, 5 + classes):
        raise graph.unlike(f"{columns} numbers per box are not those of {classes} classes")
    cells = sum((width // stride) * (height // stride) for stride in _STRIDES)
    with_objectness = columns == 5 + classes
    of_yolox = with_objectness and not transposed and (boxes == cells or not isinstance(boxes, int))
    raw = of_yolox and not decoded
    contract = Contract(
        images, output, output, "grid" if raw else "cxcywh", "pixel", "probability",
        objectness=with_objectness, transposed=transposed, strides=_STRIDES if raw else (), nms_iou=0.65,
    )  # fmt: skip
    if not of_yolox:
        return contract, Preprocess(height, width, "letterbox", _NOTHING, _WHOLE, fill=114)
    # YOLOX reads blue first, from 0 to 255, and puts the image into the corner of a grey canvas.
    level = 1 / 255
    return contract, Preprocess(
        height, width, "letterbox-corner", _NOTHING, (level, level, level), channels="bgr", fill=114
    )


def _size_of(graph: OnnxFile, size: tuple[int, int] | None) -> tuple[int, int]:
    stated = graph.size()
    if stated is not None and size is not None and stated != size:
        raise BoxdropError(
            f"--size {size[0]}x{size[1]}: the graph takes {stated[0]}x{stated[1]}; leave it out"
        )
    found = stated or size
    if found is None:
        raise BoxdropError(
            f"{graph.path}: takes images of any size; give the one that it was made for: --size 640x640"
        )
    return found
