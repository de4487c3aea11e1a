"""The formats that data sets are written in: one module each, in one table.

To add a format, write a module with a class like those here (see `Format`), put an instance of it into
`FORMATS`, and add a row to docs/datasets.md, which a test compares with this table.
"""

from collections.abc import Mapping
from typing import Final

from boxdrop.datasets.formats.coco import Coco
from boxdrop.datasets.formats.format import Entry, Format, Source
from boxdrop.datasets.formats.ground_truth import GroundTruth
from boxdrop.datasets.formats.hugging_face import HuggingFace
from boxdrop.datasets.formats.jsonl import JsonLines
from boxdrop.datasets.formats.voc import Voc
from boxdrop.datasets.formats.yolo import Yolo

__all__ = ["FORMATS", "Entry", "Format", "Source"]

FORMATS: Final[Mapping[str, Format]] = {
    each.name: each for each in (Coco(), Yolo(), Voc(), GroundTruth(), HuggingFace(), JsonLines())
}
"""Every format by the name that ``--format`` takes."""
