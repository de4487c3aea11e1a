"""The detector at run time: ONNX Runtime, numpy, tokenizers and Pillow; never torch, transformers or boto3.

    detector = Detector.load("bundle/")
    detections = detector.detect([image], LabelSet.from_short_form("pineapple, banana"))

Importing this package costs nothing: the names below are imported on first use (PEP 562).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boxdrop.detect.bundle import Bundle
    from boxdrop.detect.detector import Detector

__all__ = ["Bundle", "Detector"]


def __getattr__(name: str) -> Any:
    if name == "Bundle":
        from boxdrop.detect.bundle import Bundle

        return Bundle
    if name == "Detector":
        from boxdrop.detect.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
