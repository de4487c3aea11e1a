from boxdrop.datasets.samples import verified as verified
from boxdrop.detect.detector import Detector as Detector
from boxdrop.errors import BoxdropError as BoxdropError
from boxdrop.labels import LabelSet as LabelSet
from boxdrop.predictions import Failure as Failure
from boxdrop.predictions import Prediction as Prediction
from boxdrop.predictions import read_predictions as read_predictions

__all__ = [
    "BoxdropError",
    "Detector",
    "Failure",
    "LabelSet",
    "Prediction",
    "read_predictions",
    "verified",
]
__version__: str
_HOMES: dict[str, str]
