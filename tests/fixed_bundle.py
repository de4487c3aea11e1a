"""A detector with fixed classes whose graph answers every image with the same numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from boxdrop.detect.bundle import CARD, Bundle, Contract, Defaults, Preprocess, Source, digest_of
from boxdrop.detect.contract import FIXED


def write_fixed_bundle(
    folder: Path,
    outputs: Mapping[str, NDArray[Any]],
    contract: Contract,
    classes: tuple[str, ...],
    *,
    resize: str = "bilinear",
    size: tuple[int, int] = (64, 64),
    one_image: bool = False,
    floor: float = 0.05,
    name: str = "fixed",
) -> Path:
    """Write a detector with fixed classes that answers every image with the same numbers.

    Args:
        folder: to make.
        outputs: by name, what it gives for one image, without the axis of images.
        contract: see `Contract`.
        classes: names.
        resize: see `Preprocess`.
        size: width and height of its input.
        one_image: whether the graph takes one image only.
        floor: lowest score kept.
        name: of the bundle.
    """
    folder.mkdir(parents=True)
    tensor = helper.make_tensor_value_info
    images = 1 if one_image else "images"
    sides = ["height", "width"] if resize == "short-edge" else [size[1], size[0]]
    inputs = [tensor(contract.input, TensorProto.FLOAT, [images, 3, *sides])]
    if contract.sizes is not None:
        inputs.append(tensor(contract.sizes, TensorProto.INT64, [images, 2]))
    nodes = [
        helper.make_node("Shape", [contract.input], ["counted"], end=1),
    ]
    constants: dict[str, NDArray[Any]] = {}
    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}
    for output, value in outputs.items():
        constants[f"{output}_of_one"] = value[None]
        constants[f"{output}_shape"] = np.array(value.shape, np.int64)
        nodes.append(helper.make_node("Concat", ["counted", f"{output}_shape"], [f"{output}_whole"], axis=0))
        nodes.append(helper.make_node("Expand", [f"{output}_of_one", f"{output}_whole"], [output]))
    given = [tensor(name, kinds[value.dtype.kind], [images, *value.shape]) for name, value in outputs.items()]
    graph = helper.make_graph(
        nodes,
        "fixed",
        inputs,
        given,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "image.onnx"))
    bundle = Bundle(
        path=folder,
        name=name,
        family=FIXED,
        precision="fp32",
        source=Source("toy", "1", "none", "none"),
        preprocess=Preprocess(size[1], size[0], resize, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        text=None,
        defaults=Defaults(threshold=max(0.3, floor), floor=floor),
        files={"image.onnx": digest_of(folder / "image.onnx")},
        classes=classes,
        contract=contract,
    )
    (folder / CARD).write_text(bundle.to_json(), encoding="utf-8")
    return folder
