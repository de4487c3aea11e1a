from boxdrop.datasets.samples import verified as verified
from boxdrop.detect.detector import Detector as Detector
from boxdrop.domain.errors import BoxdropError as BoxdropError
from boxdrop.domain.labels import LabelSet as LabelSet
from boxdrop.domain.predictions import Failure as Failure
from boxdrop.domain.predictions import Prediction as Prediction
from boxdrop.domain.predictions import read_predictions as read_predictions

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
