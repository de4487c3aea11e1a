"""Loading detectors from the data bucket: needs ONNX Runtime, so the functions never import this module."""

from pathlib import Path

from boxdrop.aws.s3 import Bucket
from boxdrop.detect.detector import Detector
from boxdrop.detect.merged import AnyDetector, merge
from boxdrop.detect.sessions import Provider
from boxdrop.store.bundles import BundleRef, fetch


def open_detector(
    data: Bucket, ref: BundleRef, cache: Path, provider: Provider = "cpu", threads: int | None = None
) -> AnyDetector:
    """Fetch a detector, or two that work together, and load it.

    Args:
        data: the data bucket.
        ref: which.
        cache: a folder for bundles, see `boxdrop.store.bundles.fetch`.
        provider: ``cuda`` or ``cpu``; a detector never falls back to the other one.
        threads: of one run on the processor; None takes all cores.

    Raises:
        BundleError: it is not in the bucket, or its files do not match their sha256.
        BoxdropError: CUDA was requested and is not available.
    """
    return merge([Detector.load(fetch(data, each, cache), provider, threads) for each in ref.singles])
