"""``boxdrop bundle wrap``: a bundle around an ONNX file from elsewhere."""

import re
import shutil
from pathlib import Path
from typing import Final

import click

from boxdrop.cli.numbers import SCORE
from boxdrop.cli.terminal import counted, say, shortened
from boxdrop.domain.errors import BoxdropError

_SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_MOST: Final = 1e6
_RESIZES: Final = ("bilinear", "letterbox", "letterbox-corner", "short-edge")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The bundle's folder, made here.")
@click.option(
    "--classes",
    required=True,
    help="Names in the order of the scores: a file with a name per line, 'coco', or 'cat, dog'.",
)
@click.option("--name", help="The bundle's name. Default: the file's.")
@click.option("--size", help="Width and height of the input, such as 640x640, if the graph leaves them open.")
@click.option("--resize", type=click.Choice(_RESIZES), help="How an image becomes that size.")
@click.option("--channels", type=click.Choice(["rgb", "bgr"]), help="Their order in the input.")
@click.option("--mean", help="Three numbers, of red, green and blue from 0 to 1: '0.485, 0.456, 0.406'.")
@click.option("--std", help="Three numbers: '0.229, 0.224, 0.225'.")
@click.option(
    "--contract",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A JSON file that describes inputs and outputs, where they are not recognised.",
)
@click.option("--decoded", is_flag=True, help="YOLOX exported with --decode_in_inference.")
@click.option("--threshold", type=SCORE, default=0.3, show_default=True, help="Lowest score shown.")
@click.option("--floor", type=SCORE, default=0.05, show_default=True, help="Lowest score stored.")
@click.option("--licence", help="Of the weights, for the record.")
@click.option(
    "--check",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A picture to detect in; check.png in the bundle shows the boxes. Look at it before you use it.",
)
def wrap(
    model: Path,
    out: Path,
    classes: str,
    name: str | None,
    size: str | None,
    resize: str | None,
    channels: str | None,
    mean: str | None,
    std: str | None,
    contract: Path | None,
    decoded: bool,
    threshold: float,
    floor: float,
    licence: str | None,
    check: Path | None,
) -> None:
    """Make a bundle of MODEL, a detector's .onnx file with fixed classes.

    \b
      boxdrop bundle wrap yolox_s.onnx --classes coco --out yolox --check a.jpg
      boxdrop bundle wrap mine.onnx --classes names.txt --out bundles/mine

    Exports of YOLOX, RT-DETR, D-FINE, YOLO-NAS and transformers are recognised by their outputs, with or
    without suppression inside; others need --contract. Nothing is compared: the picture of --check shows
    whether boxes and names are right.
    """
    from boxdrop.detect.bundle import Defaults
    from boxdrop.detectors.wrapping import (
        OnnxFile,
        draw_check,
        guess,
        open_picture,
        read_contract,
        with_image,
    )
    from boxdrop.detectors.wrapping import wrap as wrap_file

    if floor > threshold:
        raise BoxdropError(f"--floor {floor:g} is above --threshold {threshold:g}")
    names = _names(classes)
    of_input = _size(size)
    picture = None if check is None else open_picture(check)
    graph = OnnxFile.read(model, of_input)
    if contract is not None:
        wrapping = read_contract(contract, graph, of_input)
    else:
        wrapping = guess(graph, len(names), of_input, decoded)
    wrapping = with_image(
        wrapping, resize=resize, channels=channels, mean=_three(mean, "--mean"), std=_three(std, "--std")
    )
    title = name or re.sub(r"[^A-Za-z0-9._-]+", "-", model.stem).strip("-._")
    bundle = wrap_file(graph, out, title, names, wrapping, Defaults(threshold, floor), licence)
    given, image = wrapping.contract, wrapping.preprocess
    overlap = "done inside" if given.nms_iou is None else f"at an IoU of {given.nms_iou:g}"
    say(
        f"{out}: {bundle.name}, {counted(len(names), 'class', 'classes')}; read as {wrapping.shape}: boxes "
        f"{given.box_format} ({given.box_unit}) in {given.boxes}, scores {given.score_kind} in "
        f"{given.scores}, suppression {overlap}; images {image.width}x{image.height}, {image.resize}, "
        f"{image.channels}"
    )
    if picture is not None:
        try:
            found = draw_check(bundle, picture, out / "check.png")
        except BoxdropError:
            shutil.rmtree(out, ignore_errors=True)
            raise
        say(f"{counted(found, 'box', 'boxes')} in {check}: look at {out / 'check.png'}")


def _names(classes: str) -> list[str]:
    from boxdrop.detectors.coco import COCO_NAMES

    if classes.strip().lower() == "coco":
        return list(COCO_NAMES)
    file = Path(classes)
    try:
        is_file = file.is_file()
    except OSError:
        is_file = False
    if not is_file and (
        "/" in classes or file.suffix.lower() in (".txt", ".names", ".csv", ".json", ".yaml")
    ):
        raise BoxdropError(f"--classes {shortened(classes)}: there is no such file")
    try:
        text = file.read_text(encoding="utf-8-sig") if is_file else classes.replace(",", "\n")
    except UnicodeDecodeError:
        raise BoxdropError(f"--classes {classes}: is not UTF-8; save it as UTF-8, a name per line") from None
    names = [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    if not any(names):
        raise BoxdropError(
            f"--classes {classes!r}: names no class; give a file, 'coco', or names with commas"
        )
    return names


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise BoxdropError(f"--size {text!r}: give width and height, such as 640x640")
    return int(match[1]), int(match[2])


def _three(text: str | None, option: str) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(number) for number in text.replace(",", " ").split())
    except ValueError:
        raise BoxdropError(f"{option} {text!r}: give three numbers, such as '0.5, 0.5, 0.5'") from None
    if not all(abs(number) <= _MOST for number in (red, green, blue)):  # nan is not, either
        raise BoxdropError(f"{option} {text!r}: give three numbers, such as '0.5, 0.5, 0.5'")
    if option == "--std" and min(red, green, blue) <= 0:
        raise BoxdropError(f"--std {text!r}: must be above 0")
    return red, green, blue
