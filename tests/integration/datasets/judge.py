"""Reads exports with the tools that the formats are for; runs in their own venv, without boxdrop.

    judge.py TOOL FOLDER

Prints JSON: by image file name, a list of [label, left, top, right, bottom] in pixels; for formats that keep
ids, also ``{"ids": {image id: [box ids]}}``.
"""

import json
import sys
from pathlib import Path
from typing import Any

Read = dict[str, Any]


def supervision_yolo(folder: Path) -> Read:
    import supervision as sv

    data = sv.DetectionDataset.from_yolo(
        str(folder / "images/train"), str(folder / "labels/train"), str(folder / "data.yaml")
    )
    return _supervision(data)


def supervision_coco(folder: Path) -> Read:
    import supervision as sv

    data = sv.DetectionDataset.from_coco(
        str(folder / "images/train"), str(folder / "annotations/instances_train.json")
    )
    return _supervision(data)


def supervision_voc(folder: Path) -> Read:
    import supervision as sv

    data = sv.DetectionDataset.from_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    return _supervision(data)


def _supervision(data: Any) -> Read:
    return {
        "boxes": {
            Path(path).name: [
                [data.classes[int(label)], *map(float, corners)]
                for corners, label in zip(found.xyxy, found.class_id, strict=True)
            ]
            for path, _, found in data
        }
    }


def datumaro_coco(folder: Path) -> Read:
    return _datumaro(folder, "coco_instances")


def datumaro_voc(folder: Path) -> Read:
    """It takes the devkit's count from 1 as it is, so its left and top are one pixel further in."""
    return _datumaro(folder, "voc_detection", 1)


def datumaro_yolo(folder: Path) -> Read:
    return _datumaro(folder, "yolo")


def _datumaro(folder: Path, format: str, first: int = 0) -> Read:
    from datumaro import AnnotationType, Dataset

    data = Dataset.import_from(str(folder), format)
    names = [each.name for each in data.categories()[AnnotationType.label]]
    found = {}
    for item in data:
        boxes = [each for each in item.annotations if each.type == AnnotationType.bbox]
        found[Path(item.media.path).name] = [
            [names[each.label], each.x - first, each.y - first, each.x + each.w, each.y + each.h]
            for each in boxes
        ]
    return {"boxes": found}


def faster_coco_eval_coco(folder: Path) -> Read:
    from faster_coco_eval import COCO

    data = COCO(str(folder / "annotations/instances_train.json"))
    boxes: Read = {}
    ids: Read = {}
    for number, image in data.imgs.items():
        found = data.loadAnns(data.getAnnIds(imgIds=[number]))
        ids[str(number)] = sorted(each["id"] for each in found)
        boxes[image["file_name"]] = []
        for each in found:
            left, top, width, height = each["bbox"]
            name = data.cats[each["category_id"]]["name"]
            boxes[image["file_name"]].append([name, left, top, left + width, top + height])
    return {"boxes": boxes, "ids": ids}


def datasets_huggingface(folder: Path) -> Read:
    from datasets import load_dataset

    data = load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(folder.parent / "cache"))["train"]
    boxes: Read = {}
    ids: Read = {}
    for row in data:
        objects = row["objects"]
        assert row["image"].size == (row["width"], row["height"])
        name = Path(row["image"].filename).name
        labels = objects["label"]
        boxes[name] = [
            [label, left, top, left + width, top + height]
            for label, (left, top, width, height) in zip(labels, objects["bbox"], strict=True)
        ]
        ids[str(row["image_id"])] = sorted(objects["id"])
    return {"boxes": boxes, "ids": ids}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
