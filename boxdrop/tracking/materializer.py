"""How ZenML stores the predictions of a pipeline run, and the image of them in its dashboard."""

from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

import PIL.Image
import PIL.ImageDraw
from zenml.enums import VisualizationType
from zenml.io import fileio
from zenml.materializers.path_materializer import PathMaterializer

from boxdrop.annotate.thumbnails import thumbnail_path
from boxdrop.domain.predictions import Prediction, read_jsonl

PICTURE: Final = "boxes.png"
_COLUMNS: Final = 4
_IMAGES: Final = 12
_CELL: Final = 260
_MARGIN: Final = 10
_COLORS: Final = ("#e4572e", "#1f77b4", "#2e9e5b", "#b0388f", "#c48a00", "#5b5bd6")


class PredictionsMaterializer(PathMaterializer):
    """Stores ``predictions.jsonl`` unchanged, beside an image that shows sample images with their boxes.

    Thumbnails are read from the output folder in which `annotate` wrote the file.
    """

    SKIP_REGISTRATION: ClassVar[bool] = True  # other paths keep ZenML's own materializer

    def save_visualizations(self, data: Any) -> dict[str, VisualizationType]:
        """Draw the first images that have boxes."""
        picture = draw_predictions(Path(data))
        if picture is None:
            return {}
        uri = f"{self.uri}/{PICTURE}"
        with fileio.open(uri, "wb") as file:
            file.write(picture)
        return {uri: VisualizationType.IMAGE}


def draw_predictions(predictions: Path) -> bytes | None:
    """Draw the first images that have boxes, side by side.

    Args:
        predictions: a ``predictions.jsonl`` in an output folder with thumbnails.

    Returns:
        A PNG; None if no image has boxes, or none of those has a thumbnail.
    """
    with_boxes = (
        (record, thumbnail)
        for record in read_jsonl(predictions)
        if isinstance(record, Prediction)
        and record.boxes
        and (thumbnail := predictions.parent / thumbnail_path(record.image_id)).is_file()
    )
    shown = list(islice(with_boxes, _IMAGES))
    if not shown:
        return None
    colors: dict[str, str] = {}
    rows = -(-len(shown) // _COLUMNS)
    columns = min(_COLUMNS, len(shown))
    pitch = _CELL + _MARGIN
    sheet = PIL.Image.new("RGB", (columns * pitch + _MARGIN, rows * pitch + _MARGIN), "white")
    for number, (record, thumbnail) in enumerate(shown):
        row, column = divmod(number, _COLUMNS)
        cell = _draw(record, thumbnail, colors)
        left = _MARGIN + column * pitch + (_CELL - cell.width) // 2
        top = _MARGIN + row * pitch + (_CELL - cell.height) // 2
        sheet.paste(cell, (left, top))
    out = BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def _draw(record: Prediction, thumbnail: Path, colors: dict[str, str]) -> PIL.Image.Image:
    """One image with its boxes, at most `_CELL` pixels wide and high; colours are given as labels appear."""
    with PIL.Image.open(thumbnail) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((_CELL, _CELL))
    pen = PIL.ImageDraw.Draw(picture)
    scale = picture.width / record.width
    for box in reversed(record.boxes):  # the best on top
        color = colors.setdefault(box.label, _COLORS[len(colors) % len(_COLORS)])
        left, top, right, bottom = (scale * side for side in box.xyxy)
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=color, width=2)
        if top >= 11:
            pen.text((left + 1, top - 11), box.label, fill=color)
        else:
            pen.text((left + 3, top + 1), box.label, fill=color)
    return picture
