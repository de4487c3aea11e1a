"""``boxdrop bundle wrap``: ONNX files in the shapes of other exporters, against readings of their outputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from boxdrop.cli import boxdrop
from boxdrop.detect import Bundle, Detector
from boxdrop.domain.labels import LabelSet
from model_export.pictures import draw
from tests.nanodet_reading import suppressed

CLASSES = ("person", "dog", "traffic light")
LABELS = LabelSet.from_short_form(", ".join(CLASSES))
SIZE = 128
Array = NDArray[Any]


class Yolox(torch.nn.Module):
    """Random heads on YOLOX's three grids: raw boxes, then objectness and classes as probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = torch.nn.ModuleList(torch.nn.Conv2d(3, 8, stride, stride) for stride in (8, 16, 32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = [head(images / 128 - 1).flatten(2).transpose(1, 2) for head in self.heads]
        raw = torch.cat(rows, dim=1)
        return torch.cat([raw[..., :4], (3 * raw[..., 4:]).sigmoid()], dim=2)


class RtDetr(torch.nn.Module):
    """RT-DETR's deployed form: the best 30 of all boxes and classes, in pixels of the sizes given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(3, 7, 16, 16)

    def forward(self, images: torch.Tensor, orig_target_sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = self.head(4 * images).flatten(2).transpose(1, 2)
        centres, spans = rows[..., :2].sigmoid(), rows[..., 2:4].sigmoid() / 2
        corners = torch.cat([centres - spans / 2, centres + spans / 2], dim=2)
        corners = corners * orig_target_sizes.repeat(1, 2)[:, None]
        scores, index = (2 * rows[..., 4:]).sigmoid().flatten(1).topk(30)
        boxes = corners.gather(1, (index // 3)[..., None].expand(-1, -1, 4))
        return index % 3, boxes, scores


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    images = torch.rand(2, 3, SIZE, SIZE)
    sizes = torch.tensor([[SIZE, SIZE]] * 2)
    for name, module, inputs, given, outputs in (
        ("yolox", Yolox(), (255 * images,), ["images"], ["output"]),
        ("rtdetr", RtDetr(), (images, sizes), ["images", "orig_target_sizes"], ["labels", "boxes", "scores"]),
    ):
        torch.onnx.export(
            module.eval(), inputs, str(folder / f"{name}.onnx"), input_names=given, output_names=outputs,
            dynamic_axes={each: {0: "batch"} for each in (*given, *outputs)}, dynamo=False, opset_version=17,
        )  # fmt: skip
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(boxdrop, ["bundle", "wrap", *map(str, arguments)])


def detect(bundle: Path, picture: Image.Image) -> list[tuple[int, float, Array]]:
    """Label, score and box of every candidate, best first."""
    detector = Detector.load(bundle, threads=1)
    pixels = [detector.preprocess(np.asarray(picture))]
    (found,) = detector.candidates(pixels, [picture.size], LABELS, limit=10**9)
    return list(zip(found.labels.tolist(), found.scores.tolist(), found.boxes, strict=True))


def compare(ours: list[tuple[int, float, Array]], theirs: list[tuple[int, float, Array]]) -> None:
    assert len(ours) == len(theirs) > 10
    for label, score, box in theirs:
        gaps = [np.abs(each[2] - box).max() + 1e4 * abs(each[1] - score) for each in ours if each[0] == label]
        assert min(gaps) < 0.1


@pytest.mark.parametrize(
    "picture", ["square", "tall"]
)  # whole pixels of the canvas: no rounding to tell apart
def test_a_yolox_shaped_file_gives_the_boxes_of_yoloxs_own_post_processing(
    models: Path, tmp_path: Path, picture: str
) -> None:
    out = tmp_path / "yolox"
    image = draw(picture)
    image.save(tmp_path / "photo.png")
    done = call(
        models / "yolox.onnx",
        "--classes",
        ", ".join(CLASSES),
        "--out",
        out,
        "--check",
        tmp_path / "photo.png",
    )
    assert done.exit_code == 0, done.output
    assert "read as yolox: boxes grid (pixel) in output" in done.output
    assert Image.open(out / "check.png").size == image.size

    # YOLOX's demo: an image in the corner of a grey canvas, blue first, 0 to 255; grids; then suppression.
    ratio = min(SIZE / image.width, SIZE / image.height)
    small = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BILINEAR)
    canvas = np.full((SIZE, SIZE, 3), 114, np.float32)
    canvas[: small.height, : small.width] = np.asarray(small)[:, :, ::-1]
    session = onnxruntime.InferenceSession(str(models / "yolox.onnx"))
    [[raw]] = session.run(None, {"images": canvas.transpose(2, 0, 1)[None]})
    theirs = []
    row = 0
    boxes, scores = [], []
    for stride in (8, 16, 32):
        for y in range(SIZE // stride):
            for x in range(SIZE // stride):
                cx, cy = (raw[row, 0] + x) * stride, (raw[row, 1] + y) * stride
                w, h = np.exp(raw[row, 2]) * stride, np.exp(raw[row, 3]) * stride
                boxes.append(np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) / ratio)
                scores.append(raw[row, 4] * raw[row, 5:])
                row += 1
    placed = np.array(boxes).clip(0, [image.width, image.height] * 2)
    inside = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
    for label in range(3):
        of_label = np.array(scores)[:, label]
        rows = np.flatnonzero(inside & (of_label >= 0.05))
        for kept in suppressed(placed[rows], of_label[rows], 0.65):
            theirs.append((label, float(of_label[rows[kept]]), placed[rows[kept]]))
    compare(detect(out, image), theirs)


@pytest.mark.parametrize("picture", ["wide", "square"])
def test_an_rt_detr_shaped_file_gives_the_boxes_that_it_gives_with_the_images_size(
    models: Path, tmp_path: Path, picture: str
) -> None:
    image = draw(picture)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(CLASSES) + "\n")
    out = tmp_path / "rtdetr"
    done = call(
        models / "rtdetr.onnx", "--classes", names, "--out", out, "--name", "mine", "--licence", "MIT"
    )
    assert done.exit_code == 0, done.output
    assert "read as rt-detr: boxes xyxy (pixel) in boxes" in done.output
    assert "suppression done inside" in done.output
    bundle = Bundle.load(out, verify=True)
    assert (bundle.name, bundle.source.licence, bundle.classes) == ("mine", "MIT", CLASSES)

    stretched = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32) / 255
    session = onnxruntime.InferenceSession(str(models / "rtdetr.onnx"))
    [labels], [boxes], [scores] = session.run(
        None,
        {
            "images": stretched.transpose(2, 0, 1)[None],
            "orig_target_sizes": np.array([[image.width, image.height]], np.int64),
        },
    )
    theirs = [
        (int(label), float(score), box.clip(0, [image.width, image.height] * 2))
        for label, box, score in zip(labels, boxes, scores, strict=True)
        if score >= 0.05
    ]
    compare(detect(out, image), theirs)


def test_a_contract_describes_what_is_not_recognised(models: Path, tmp_path: Path) -> None:
    """RT-DETR's outputs under other names."""
    import onnx

    model = onnx.load(str(models / "rtdetr.onnx"))
    for output in model.graph.output:
        for node in model.graph.node:
            node.output[:] = [f"my_{name}" if name == output.name else name for name in node.output]
        output.name = f"my_{output.name}"
    onnx.save(model, str(tmp_path / "odd.onnx"))
    done = call(tmp_path / "odd.onnx", "--classes", "a, b, c", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert (
        "its outputs are none of the shapes yolox, rt-detr, transformers, yolo-nas for 3 classes"
        in done.output
    )
    assert "--contract FILE" in done.output
    written = {
        "input": "images", "boxes": "my_boxes", "scores": "my_scores", "labels": "my_labels",
        "sizes": "orig_target_sizes", "box_format": "xyxy", "box_unit": "pixel", "score_kind": "probability",
    }  # fmt: skip
    file = tmp_path / "contract.json"
    file.write_text(json.dumps(written | {"box_format": "xxyy"}))
    wrong = call(tmp_path / "odd.onnx", "--classes", "a, b, c", "--out", tmp_path / "out", "--contract", file)
    assert "`box_format` must be one of 'cxcywh', 'xyxy', 'xywh', 'grid', not 'xxyy'" in wrong.output
    file.write_text(json.dumps(written))
    right = call(
        tmp_path / "odd.onnx", "--classes", ",".join(CLASSES), "--out", tmp_path / "out", "--contract", file
    )
    assert right.exit_code == 0, right.output
    plain = call(models / "rtdetr.onnx", "--classes", ",".join(CLASSES), "--out", tmp_path / "plain")
    assert plain.exit_code == 0
    compare(detect(tmp_path / "out", draw("wide")), detect(tmp_path / "plain", draw("wide")))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["yolox.onnx", "--classes", "a, b"], "8 numbers per box are not those of 2 classes"),
        (["none.onnx", "--classes", "a"], "there is no such file"),
        (["yolox.onnx", "--classes", " , "], "names no class"),
        (["yolox.onnx", "--classes", "a, b, c", "--size", "64x64"], "the graph takes 128x128; leave it out"),
        (["yolox.onnx", "--classes", "a, b, c", "--std", "1, 0, 1"], "must be above 0"),
        (["yolox.onnx", "--classes", "a, b, c", "--name", "ü"], "use letters, digits, dots and dashes"),
        (["yolox.onnx", "--classes", "a, b, c", "--floor", "0.9"], "is above --threshold"),
        (["text.onnx", "--classes", "a"], "cannot load it"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_and_leaves_nothing(
    models: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (models / "text.onnx").write_text("no graph")
    done = call(models / arguments[0], *arguments[1:], "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert said in done.output
    assert not (tmp_path / "out").exists()
