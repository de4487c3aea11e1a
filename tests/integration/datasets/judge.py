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


def torchvision_voc(folder: Path) -> Read:
    """It looks for ``VOCdevkit/VOC2012`` below its root, and for images that end in ``.jpg``."""
    from torchvision.datasets import VOCDetection

    place = folder.parent / "torchvision/VOCdevkit/VOC2012"
    place.parent.mkdir(parents=True)
    place.symlink_to(folder)
    found = {}
    for image, target in VOCDetection(str(folder.parent / "torchvision"), "2012", "train"):
        document = target["annotation"]
        size = {name: int(value) for name, value in document["size"].items()}
        assert image.size == (size["width"], size["height"])
        boxes = []
        for each in document.get("object", []):
            left, top, right, bottom = (
                int(each["bndbox"][name]) for name in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append([each["name"], left - 1, top - 1, right, bottom])
        found[document["filename"]] = boxes
    return {"boxes": found}


def ultralytics_yolo(folder: Path) -> Read:
    """Its check of a data set, and the data set that it trains on."""
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    checked = check_det_dataset(str(folder / "data.yaml"))
    data = YOLODataset(img_path=checked["train"], data=checked, task="detect", augment=False, imgsz=64)
    found = {}
    for each in data.labels:
        height, width = each["shape"]
        boxes = []
        for number, (x, y, w, h) in zip(each["cls"][:, 0], each["bboxes"].astype(float), strict=True):
            corners = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
            boxes.append([checked["names"][int(number)], *corners])
        found[Path(each["im_file"]).name] = boxes
    return {"boxes": found}


def fiftyone_coco(folder: Path) -> Read:
    from fiftyone.utils.coco import COCODetectionDatasetImporter

    return _fiftyone(
        COCODetectionDatasetImporter(
            data_path=str(folder / "images/train"),
            labels_path=str(folder / "annotations/instances_train.json"),
            label_types="detections",
        )
    )


def fiftyone_yolo(folder: Path) -> Read:
    from fiftyone.utils.yolo import YOLOv5DatasetImporter

    return _fiftyone(YOLOv5DatasetImporter(yaml_path=str(folder / "data.yaml"), split="train"))


def fiftyone_voc(folder: Path) -> Read:
    """It takes the devkit's count from 1 as it is."""
    from fiftyone.utils.voc import VOCDetectionDatasetImporter

    importer = VOCDetectionDatasetImporter(
        data_path=str(folder / "JPEGImages"), labels_path=str(folder / "Annotations")
    )
    return _fiftyone(importer, 1)


def _fiftyone(importer: Any, first: int = 0) -> Read:
    """What its importers yield, before they write to a database."""
    import PIL.Image

    found: Read = {}
    with importer:
        for path, _, label in importer:
            with PIL.Image.open(path) as image:
                width, height = image.size
            boxes = []
            for each in label.detections if label is not None else ():
                x, y, w, h = each.bounding_box
                left, top = x * width - first, y * height - first
                boxes.append([each.label, left, top, (x + w) * width, (y + h) * height])
            found[Path(path).name] = boxes
    return {"boxes": found}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
