"""COCO object detection: one JSON file per split. https://cocodataset.org/#format-data"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from boxdrop.annotate.exports import AtomicFile
from boxdrop.datasets.formats.format import Entry, Source, tidy, to_line

_FOLDER: Final = "annotations"


class Coco:
    """``annotations/instances_SPLIT.json``, and images in ``images/SPLIT``."""

    name = "coco"
    read_by = "pycocotools, faster-coco-eval, torchvision, Detectron2, MMDetection, CVAT, FiftyOne"
    keeps = "boxes, image and box ids, class ids, versions, negatives, who made a box"
    drops = "rotation (the upright box around it; degrees in `attributes`)"
    min_image_side = 1

    def image_path(self, split: str, name: str) -> str:
        return f"images/{split}/{name}"

    def write(self, folder: Path, source: Source) -> Iterator[str]:
        for split in source.splits:
            path = f"{_FOLDER}/instances_{split}.json"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with AtomicFile(folder / path) as file:
                info = {"description": f"{source.project}, {split}", "version": "1.0"}
                file.write(f'{{"info":{to_line(info)},\n"licenses":[],\n"categories":[')
                categories = (
                    {"id": each.id, "name": each.name, "supercategory": ""} for each in source.classes
                )
                file.write(",\n".join(map(to_line, categories)))
                file.write('],\n"images":[')
                _join(file, (_image(each, split, source.predictions) for each in source.entries(split)))
                file.write('],\n"annotations":[')
                _join(file, (box for each in source.entries(split) for box in _annotations(each)))
                file.write("]}\n")
            yield path


def _join(file: Any, objects: Iterator[dict[str, Any]]) -> None:
    for number, each in enumerate(objects):
        file.write((",\n" if number else "\n") + to_line(each))


def _image(entry: Entry, split: str, marked: bool) -> dict[str, Any]:
    item = entry.item
    return {
        "id": item.number,
        "file_name": entry.image.removeprefix(f"images/{split}/"),
        "width": item.width,
        "height": item.height,
        "coco_url": entry.address or "",
        "image_id": item.image_id,
        "key": item.key,
        "version": item.version,
    } | ({"verified": item.verified} if marked else {})


def _annotations(entry: Entry) -> Iterator[dict[str, Any]]:
    for box in entry.item.boxes:
        width, height = box.size
        yield {
            "id": box.number,
            "image_id": entry.item.number,
            "category_id": box.class_id,
            "bbox": [tidy(box.xyxy[0]), tidy(box.xyxy[1]), tidy(width), tidy(height)],
            "area": tidy(width * height),
            "iscrowd": 0,
            "segmentation": [],
            "attributes": {"origin": box.origin} | ({"turned": box.rotation} if box.rotation else {}),
        } | ({} if box.score is None else {"score": box.score})
