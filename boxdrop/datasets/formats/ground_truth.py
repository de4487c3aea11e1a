"""SageMaker Ground Truth's output manifest, which SageMaker and Rekognition Custom Labels read.

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html#sms-output-box
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from boxdrop.annotate.exports import AtomicFile
from boxdrop.datasets.formats.format import Entry, Source, to_line
from boxdrop.datasets.formats.voc import whole_pixels
from boxdrop.domain.times import time_text

_ATTRIBUTE: Final = "boxes"


class GroundTruth:
    """``SPLIT.manifest``: one line per image. It refers to images in S3, since AWS reads them there."""

    name = "ground-truth"
    read_by = "SageMaker Ground Truth, SageMaker training, Rekognition Custom Labels"
    keeps = "boxes in whole pixels, class ids, negatives, time of verification"
    drops = "fractions of a pixel, box ids, rotation (the upright box around it)"
    min_image_side = 1

    def image_path(self, split: str, name: str) -> str:
        return f"images/{split}/{name}"

    def write(self, folder: Path, source: Source) -> Iterator[str]:
        names = {str(each.id): each.name for each in source.classes}
        for split in source.splits:
            path = f"{split}.manifest"
            with AtomicFile(folder / path) as file:
                for entry in source.entries(split):
                    file.write(to_line(_line(entry, names)) + "\n")
            yield path


def _line(entry: Entry, names: dict[str, str]) -> dict[str, Any]:
    item = entry.item
    boxes = []
    for box in item.boxes:
        left, top, right, bottom = whole_pixels(box.xyxy, item.width, item.height)
        size = {"width": right - left, "height": bottom - top}
        boxes.append({"class_id": box.class_id, "left": left, "top": top, **size})
    used = {str(box.class_id) for box in item.boxes}
    return {
        "source-ref": item.address,
        _ATTRIBUTE: {
            "image_size": [{"width": item.width, "height": item.height, "depth": 3}],
            "annotations": boxes,
        },
        f"{_ATTRIBUTE}-metadata": {
            "job-name": "boxdrop",
            "class-map": {number: name for number, name in names.items() if number in used},
            "human-annotated": "yes" if item.verified else "no",
            "objects": [{"confidence": 1 if box.score is None else box.score} for box in item.boxes],
            "creation-date": time_text(item.reviewed_at).removesuffix("Z"),
            "type": "groundtruth/object-detection",
        },
    }
