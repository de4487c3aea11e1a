"""Pascal VOC: one XML file per image. http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from boxdrop.annotate.exports import AtomicFile
from boxdrop.datasets.formats.format import Entry, Source

_LABEL_MAP: Final = "labelmap.txt"


class Voc:
    """``Annotations``, ``ImageSets/Main`` and ``JPEGImages``.

    The devkit counts pixels from 1 and includes the last: a box from 0 to 10 is ``xmin`` 1, ``xmax`` 10.
    """

    name = "voc"
    read_by = "torchvision, supervision, datumaro, CVAT, MMDetection"
    keeps = "boxes in whole pixels, label names, negatives"
    drops = "fractions of a pixel, ids, versions, who made a box, rotation (the upright box around it)"
    min_image_side = 1

    def image_path(self, split: str, name: str) -> str:
        return f"JPEGImages/{name}"

    def write(self, folder: Path, source: Source) -> Iterator[str]:
        for each in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (folder / each).mkdir(parents=True, exist_ok=True)
        for entry in source.entries():
            path = f"Annotations/{entry.item.stem}.xml"
            with AtomicFile(folder / path) as file:
                file.write(_document(entry, source))
            yield path
        for split in source.splits:
            path = f"ImageSets/Main/{split}.txt"
            with AtomicFile(folder / path) as file:
                for entry in source.entries(split):
                    file.write(f"{entry.item.stem}\n")
            yield path
        with AtomicFile(folder / _LABEL_MAP) as file:  # datumaro and CVAT take no other labels without it
            file.write("# label:color_rgb:parts:actions\n")
            file.write("".join(f"{each.name.replace(':', ' ')}:::\n" for each in source.classes))
        yield _LABEL_MAP


def _document(entry: Entry, source: Source) -> str:
    item = entry.item
    root = ElementTree.Element("annotation")
    if source.predictions:
        root.set("verified", "yes" if item.verified else "no")  # as labelImg writes it

    def add(parent: ElementTree.Element, name: str, value: object = None) -> ElementTree.Element:
        child = ElementTree.SubElement(parent, name)
        if value is not None:
            child.text = str(value)
        return child

    add(root, "folder", "JPEGImages")
    add(root, "filename", entry.image.rpartition("/")[2])
    add(add(root, "source"), "database", source.project)
    size = add(root, "size")
    for name, value in (("width", item.width), ("height", item.height), ("depth", 3)):
        add(size, name, value)
    add(root, "segmented", 0)
    for box in item.boxes:
        left, top, right, bottom = whole_pixels(box.xyxy, item.width, item.height)
        thing = add(root, "object")
        for name, text in (("name", box.label), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            add(thing, name, text)
        bounds = add(thing, "bndbox")
        for name, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
            add(bounds, name, value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def whole_pixels(
    xyxy: tuple[float, float, float, float], width: int, height: int
) -> tuple[int, int, int, int]:
    """Round a box to whole pixels; it keeps at least one pixel, inside the image."""
    left, top = min(round(xyxy[0]), width - 1), min(round(xyxy[1]), height - 1)
    return left, top, max(left + 1, min(round(xyxy[2]), width)), max(top + 1, min(round(xyxy[3]), height))
