"""YOLO detection: one text file per image, and ``data.yaml``. https://docs.ultralytics.com/datasets/detect/"""

import json
from collections.abc import Iterator
from pathlib import Path

from boxdrop.annotate.exports import AtomicFile
from boxdrop.datasets.formats.format import Entry, Source, to_line


class Yolo:
    """Readers find labels by replacing the last ``/images/`` of an image's path by ``/labels/``.

    Class numbers must run from 0 without gaps: they are the positions of the labels, sorted by class id. Ids
    are only appended, so a number does not change when labels are added. ``classes.json`` maps one to the
    other.
    """

    name = "yolo"
    read_by = "Ultralytics, supervision, datumaro, CVAT, FiftyOne"
    keeps = "boxes, negatives, class ids (in classes.json)"
    drops = "box ids, versions, who made a box, rotation (the upright box around it), duplicate boxes"
    min_image_side = 10  # ultralytics.data.utils.verify_image refuses sides below 10 pixels

    def image_path(self, split: str, name: str) -> str:
        return f"images/{split}/{name}"

    def write(self, folder: Path, source: Source) -> Iterator[str]:
        places = {each.id: place for place, each in enumerate(source.classes)}
        for split in source.splits:
            (folder / "images" / split).mkdir(parents=True, exist_ok=True)  # readers list it, even if empty
            (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
        for entry in source.entries():
            path = f"labels/{entry.item.split}/{entry.item.stem}.txt"
            with AtomicFile(folder / path) as file:
                file.write("".join(dict.fromkeys(_rows(entry, places))))
            yield path
        with AtomicFile(folder / "classes.json") as file:
            classes = [
                {"number": place, "id": each.id, "name": each.name}
                for place, each in enumerate(source.classes)
            ]
            file.write(to_line(classes) + "\n")
        yield "classes.json"
        with AtomicFile(folder / "data.yaml") as file:
            first = source.splits[0]
            named = {"train": first, "val": first} | {split: split for split in source.splits}
            file.write("".join(f"{key}: images/{split}\n" for key, split in named.items()))
            file.write("names:\n")
            # a JSON text is a YAML text, whatever characters a label has
            file.write(
                "".join(f"  {place}: {json.dumps(each.name)}\n" for place, each in enumerate(source.classes))
            )
        yield "data.yaml"


def _rows(entry: Entry, places: dict[int, int]) -> Iterator[str]:
    width, height = entry.item.width, entry.item.height
    for box in entry.item.boxes:
        left, top, right, bottom = box.xyxy
        middle = (left + right) / 2 / width, (top + bottom) / 2 / height
        size = (right - left) / width, (bottom - top) / height
        yield f"{places[box.class_id]} {' '.join(f'{each:.8f}' for each in (*middle, *size))}\n"
