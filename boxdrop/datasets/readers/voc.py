"""Pascal VOC: one XML file per image. http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf"""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from boxdrop.datasets.readers.reader import (
    Corners,
    Fault,
    Files,
    ReadBox,
    ReadImage,
    Reading,
    numbers,
    size_of,
)

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(folder: Path, paths: Sequence[Path], files: Files) -> Reading:
    """Read XML files.

    The devkit counts pixels from 1, so the box of ``xmin`` 1 begins at the left edge. Other tools count from
    0, which shows where a box has an ``xmin`` or ``ymin`` of 0: then all of the source is read that way.
    """
    faults: list[Fault] = []
    found: list[tuple[str, list[tuple[str, Corners]], tuple[int, int] | None]] = []
    for path in paths:
        where = path.relative_to(folder).as_posix()
        body = files.read(path)
        if b"<!ENTITY" in body:  # entities that stand for others can fill the memory
            faults.append(Fault("file that defines entities", where))
            continue
        try:
            root = ElementTree.fromstring(body)  # noqa: S314
        except ElementTree.ParseError as error:
            faults.append(Fault("file that is not XML", where, str(error)))
            continue
        if root.tag != "annotation":
            continue
        name = (root.findtext("filename") or "").strip().replace("\\", "/")
        inner = (root.findtext("path") or "").strip().replace("\\", "/")
        boxes = []
        for number, each in enumerate(root.iter("object"), 1):
            bounds = each.find("bndbox")
            texts = [None if bounds is None else bounds.findtext(corner) for corner in _CORNERS]
            corners = numbers(texts, 4)
            label = (each.findtext("name") or "").strip()
            if corners is None or not label:
                faults.append(Fault("object without a name and four corners", f"{where}: object {number}"))
                continue
            left, top, right, bottom = corners
            boxes.append((label, (left, top, right, bottom)))
        size = size_of(root.findtext("size/width"), root.findtext("size/height"))
        found.append((_name(where, name, inner), boxes, size))
    first = 0 if any(min(xyxy[:2]) < 1 for _, boxes, _ in found for _, xyxy in boxes) else 1
    images = tuple(
        ReadImage(
            name,
            tuple(
                ReadBox(label, (left - first, top - first, right, bottom))
                for label, (left, top, right, bottom) in boxes
            ),
            size,
        )
        for name, boxes, size in found
    )
    labels = tuple(dict.fromkeys(box.label for image in images for box in image.boxes))
    return Reading("voc", labels, images, tuple(faults), files.digest)


def _name(where: str, name: str, inner: str) -> str:
    """``filename``, if it agrees with the XML file's name or there is nothing better; many tools leave an
    older one."""
    stem = where.rpartition("/")[2].rpartition(".")[0]
    for each in (name, inner):
        if each and each.rpartition("/")[2].rpartition(".")[0] == stem:
            return each
    return stem
