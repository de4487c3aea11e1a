"""Hugging Face's image folder. https://huggingface.co/docs/datasets/image_dataset#object-detection"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boxdrop.annotate.exports import AtomicFile
from boxdrop.datasets.formats.format import Entry, Source, tidy, to_line


class HuggingFace:
    """``data/SPLIT/metadata.jsonl`` beside the images.

    The loader infers column types from the first rows, so a split's first row has a box if any row has one.
    """

    name = "huggingface"
    read_by = 'Hugging Face `load_dataset("imagefolder")`, transformers, AutoTrain'
    keeps = "boxes, image and box ids, class ids, versions, negatives, who made a box, rotation"
    drops = "nothing"
    min_image_side = 1

    def image_path(self, split: str, name: str) -> str:
        return f"data/{split}/{name}"

    def write(self, folder: Path, source: Source) -> Iterator[str]:
        for split in source.splits:
            first = next((each for each in source.entries(split) if each.item.boxes), None)
            if first is None and next(source.entries(split), None) is None:
                continue  # the loader refuses an empty split
            path = f"data/{split}/metadata.jsonl"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with AtomicFile(folder / path) as file:
                if first is not None:
                    file.write(to_line(_row(first, source.predictions)) + "\n")
                for entry in source.entries(split):
                    if first is None or entry.item.image_id != first.item.image_id:
                        file.write(to_line(_row(entry, source.predictions)) + "\n")
            yield path


def _row(entry: Entry, marked: bool) -> dict[str, Any]:
    item = entry.item
    sizes = [box.size for box in item.boxes]
    return {
        "file_name": entry.image.rpartition("/")[2],
        "image_id": item.number,
        "width": item.width,
        "height": item.height,
        "objects": {
            "id": [box.number for box in item.boxes],
            "bbox": [
                [tidy(box.xyxy[0]), tidy(box.xyxy[1]), tidy(size[0]), tidy(size[1])]
                for box, size in zip(item.boxes, sizes, strict=True)
            ],
            "area": [tidy(width * height) for width, height in sizes],
            "category": [box.class_id for box in item.boxes],
            "label": [box.label for box in item.boxes],
            "origin": [box.origin for box in item.boxes],
            "rotation": [float(box.rotation) for box in item.boxes],
            **({"score": [1.0 if box.score is None else box.score for box in item.boxes]} if marked else {}),
        },
        "key": item.key,
        "version": item.version,
    } | ({"verified": item.verified} if marked else {})
