"""Boxes of another tool for the images of a folder: matched by name, labels mapped, turned upright, checked.

Nothing is dropped silently: each box or image that cannot be taken over is a `Fault`.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from boxdrop.datasets.items import DatasetError
from boxdrop.datasets.readers import Fault, ReadBox, ReadImage, Reading
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.image_names import is_image_name
from boxdrop.domain.images import ImageHeader
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.yaml_nodes import YamlError, read_nodes
from boxdrop.store.boxes import DroppedBox, DroppedBoxes

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_LENGTH: Final = 40
_BEYOND_PX: Final = 1.0
"""Tools round; a box that reaches further than this beyond the image is reported, and clipped like others."""

Corners = tuple[float, float, float, float]


@dataclass(slots=True)
class Faults:
    """Faults, counted by kind and listed."""

    listed: list[Fault] = field(default_factory=list)

    def add(self, faults: Iterable[Fault]) -> None:
        """Take in some more."""
        self.listed += faults

    @property
    def counts(self) -> Counter[str]:
        """How many there are of each kind."""
        return Counter(each.what for each in self.listed)


def read_label_map(path: Path) -> dict[str, str | None]:
    """Read a label map: YAML or JSON, ``their name: our label`` per line; an empty label leaves boxes out.

    Raises:
        DatasetError: naming the line.
    """
    try:
        root = read_nodes(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: this is not UTF-8") from None
    except YamlError as error:
        line = "" if error.line is None else f" line {error.line}:"
        raise DatasetError(f"{path}:{line} {error}") from None
    if root is None or root.entries is None:
        raise DatasetError(f"{path}: write one line per class: THEIR NAME: YOUR LABEL")
    found: dict[str, str | None] = {}
    for name, label in root.entries:
        if name.text is None or label.text is None:
            raise DatasetError(f"{path}: line {name.line}: write THEIR NAME: YOUR LABEL")
        if name.text in found:
            raise DatasetError(f"{path}: line {name.line}: {name.text!r} is mapped twice; keep one line")
        found[name.text] = None if label.is_null or not label.text.strip() else label.text.strip()
    return found


class Source:
    """Boxes that a file or folder brings.

    Args:
        path: where `reading` is from; its name becomes part of `model_version`.
        label_map: labels by the names that the source uses; see `read_label_map`. Names that are not in it
            stay as they are.
        verified: whether the boxes count as verified.

    Attributes:
        model_version: names the source and everything that decides about its boxes.
    """

    def __init__(
        self,
        path: Path,
        reading: Reading,
        label_map: Mapping[str, str | None] | None = None,
        verified: bool = False,
    ) -> None:
        self.reading = reading
        self.verified = verified
        self._map = dict(label_map or {})
        unused = sorted(self._map.keys() - {*reading.labels, *_classes(reading)})
        self.faults = [
            *reading.faults,
            *(Fault("class of the label map that the source does not have", name) for name in unused),
        ]
        said = repr((reading.digest, sorted(self._map.items(), key=str), verified))
        name = _UNSAFE.sub("-", path.resolve().name).strip("-.")[:_NAME_LENGTH] or "boxes"
        self.model_version = f"{name}@{hashlib.sha256(said.encode()).hexdigest()[:8]}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the source has by the label map, in its order: those of a new project."""
        return tuple(dict.fromkeys(filter(None, map(self.label_of, self.reading.labels))))

    def label_set(self) -> LabelSet:
        """A label set of these labels, each with its name as prompt.

        Raises:
            LabelSetError: a class cannot be a label; a label map gives it another name.
        """
        lines = "".join(f"- {json.dumps(label, ensure_ascii=False)}\n" for label in self.labels)
        return LabelSet.from_yaml(f"labels:\n{lines}", "the classes of --boxes")

    def label_of(self, name: str) -> str | None:
        """Our label of a class; None where its boxes are to be left out."""
        return self._map.get(name, name)

    def match(self, files: Iterable[str]) -> tuple[dict[str, ReadImage], list[Fault]]:
        """Find the file of each image of the source.

        A name matches the file that shares most of the end of its path, folder by folder; without an
        ending, or with another one, the file of the same stem.

        Args:
            files: paths below the folder, with ``/``.

        Returns:
            Images by file, and what could not be matched.
        """
        by_name: dict[str, list[str]] = {}
        by_stem: dict[str, list[str]] = {}
        for each in files:
            last = each.rpartition("/")[2]
            by_name.setdefault(last, []).append(each)
            by_stem.setdefault(_stem(last), []).append(each)
        found: dict[str, list[ReadImage]] = {}
        faults = []
        for image in self.reading.images:
            name = image.name.removeprefix("./").strip("/")
            last = name.rpartition("/")[2]
            candidates = by_name.get(last) or by_stem.get(_stem(last) if is_image_name(last) else last, [])
            best = _best(name, candidates)
            if not candidates:
                faults.append(Fault("image that is not in the folder", image.name))
            elif len(best) > 1:
                faults.append(Fault("image name that several files have", image.name, ", ".join(best[:3])))
            else:
                found.setdefault(best[0], []).append(image)
        matched = {}
        for file, images in found.items():
            if all(_same(image, images[0]) for image in images):
                matched[file] = images[0]
            else:
                names = ", ".join(each.name for each in images[:3])
                faults.append(Fault("file with several different entries", file, names))
        return matched, faults

    def convert(
        self,
        file: str,
        image: ReadImage,
        header: ImageHeader,
        identity: tuple[str, str],
        labels: Sequence[str],
        now: datetime,
    ) -> tuple[DroppedBoxes | None, list[Fault]]:
        """The boxes of an image as they are stored: in upright pixels, inside the image, of known labels.

        Args:
            file: the image's path, for faults.
            header: of the image file.
            identity: image_id and version.
            labels: of the project.
            now: the present.

        Returns:
            None where the source has another image in mind; and what was left out.
        """
        width, height = header.width, header.height
        stored = (height, width) if header.orientation >= 5 else (width, height)
        if image.size not in (None, (width, height), stored):
            said = "{}×{}".format(*image.size or ())
            detail = f"the source says {said}, the file has {width}×{height}"
            return None, [Fault("image of another size", file, detail)]
        is_raw = image.size == stored != (width, height)
        boxes: dict[DroppedBox, None] = {}
        faults = []
        for number, box in enumerate(image.boxes, 1):
            where = f"{file}: box {number}"
            label = self.label_of(box.label)
            if label is None:
                faults.append(Fault("box that the label map leaves out", where, box.label))
                continue
            if label not in labels:
                faults.append(Fault(f"box of the unknown class {label!r}", where))
                continue
            corners = _in_pixels(box, image.in_shares, stored if is_raw else (width, height))
            if is_raw:
                corners = _turned(corners, stored, header.orientation)
            inside, beyond = _clipped(corners, width, height)
            if inside is None:
                faults.append(Fault("box outside the image, or without an area", where, _said(corners)))
                continue
            if beyond > _BEYOND_PX:
                faults.append(Fault("box that reached beyond the image: cut off", where, _said(corners)))
            stored_box = DroppedBox(label, inside, 1.0 if box.score is None else box.score)
            if stored_box in boxes:
                faults.append(Fault("box given twice", where))
            boxes[stored_box] = None
        found = DroppedBoxes(
            *identity, self.model_version, width, height, tuple(boxes), now, verified=self.verified
        )
        return found, faults


def load_source(path: Path, label_map: Path | None = None, verified: bool = False) -> Source:
    """Read a source of boxes and its label map.

    Raises:
        DatasetError: one of them cannot be read.
    """
    from boxdrop.datasets.readers import read_boxes

    reading = read_boxes(path)
    if not reading.images:
        first = f": {reading.faults[0].what} ({reading.faults[0].where})" if reading.faults else ""
        raise BoxdropError(f"{path} names no image{first}")
    return Source(path, reading, None if label_map is None else read_label_map(label_map), verified)


def _classes(reading: Reading) -> set[str]:
    return {box.label for image in reading.images for box in image.boxes}


def _same(one: ReadImage, other: ReadImage) -> bool:
    return (one.boxes, one.size) == (other.boxes, other.size)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _best(name: str, candidates: Sequence[str]) -> list[str]:
    """The candidates that share most folders with a name, counted from the end."""
    if len(candidates) < 2:
        return list(candidates)
    folders = name.split("/")[-2::-1]

    def shared(candidate: str) -> int:
        count = 0
        for own, other in zip(folders, candidate.split("/")[-2::-1], strict=False):
            if own != other:
                break
            count += 1
        return count

    most = max(map(shared, candidates))
    best = [each for each in candidates if shared(each) == most]
    exact = [each for each in best if each == name]
    return exact or best


def _in_pixels(box: ReadBox, in_shares: bool, size: tuple[int, int]) -> Corners:
    left, top, right, bottom = box.xyxy
    if not in_shares:
        return box.xyxy
    width, height = size
    return left * width, top * height, right * width, bottom * height


def _turned(corners: Corners, size: tuple[int, int], orientation: int) -> Corners:
    """Corners in stored pixels as corners of the upright image; see EXIF's tag 0x0112."""
    width, height = size
    places = {
        5: lambda x, y: (y, x),
        6: lambda x, y: (height - y, x),
        7: lambda x, y: (height - y, width - x),
        8: lambda x, y: (y, width - x),
    }
    one, other = places[orientation](*corners[:2]), places[orientation](*corners[2:])
    return min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1])


def _clipped(corners: Corners, width: int, height: int) -> tuple[Corners | None, float]:
    """The part inside the image, None if there is none; and by how many pixels the box reached beyond."""
    left, top, right, bottom = corners
    beyond = max(-left, -top, right - width, bottom - height, 0.0)
    inside = (
        round(max(left, 0.0), 3),
        round(max(top, 0.0), 3),
        round(min(right, float(width)), 3),
        round(min(bottom, float(height)), 3),
    )
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        return None, beyond
    return inside, beyond


def _said(corners: Corners) -> str:
    return ", ".join(f"{each:g}" for each in corners)
