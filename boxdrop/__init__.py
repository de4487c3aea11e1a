"""Drop images in a bucket, get boxes to verify.

>>> from boxdrop import Detector, LabelSet
>>> from boxdrop.demo import BUNDLE
>>> Detector.load(BUNDLE).model_version(LabelSet.from_short_form("pineapple, banana"))  # doctest: +ELLIPSIS
'demo@...'

Importing this package costs nothing: the names below are imported on first use (PEP 562). Their types are in
``__init__.pyi``, so that no tool that follows imports takes what a name may need for what every module needs.
"""

from importlib import import_module
from typing import Any, Final

__version__ = "0.1.0.dev0"

_HOMES: Final = {
    "BoxdropError": "boxdrop.domain.errors",
    "Detector": "boxdrop.detect.detector",
    "Failure": "boxdrop.domain.predictions",
    "LabelSet": "boxdrop.domain.labels",
    "Prediction": "boxdrop.domain.predictions",
    "read_predictions": "boxdrop.domain.predictions",
    "verified": "boxdrop.datasets.samples",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
