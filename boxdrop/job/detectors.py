"""The detectors that runs pin, fetched from the data bucket."""

from pathlib import Path

from boxdrop.aws.s3 import Bucket
from boxdrop.detect.merged import AnyDetector
from boxdrop.detect.sessions import PROVIDERS, Provider
from boxdrop.store.bundles import describe
from boxdrop.store.detectors import open_detector
from boxdrop.store.manifests import PinnedBundle


class Detectors:
    """Loads the detectors that runs pin. The one used last stays loaded.

    Args:
        data: the data bucket.
        cache: a folder for bundles.
        provider: ``cuda`` or ``cpu``; a detector never falls back to the other one.
        threads: of one run on the processor; None takes all cores.
    """

    def __init__(
        self, data: Bucket, cache: Path, provider: Provider = "cpu", threads: int | None = None
    ) -> None:
        self.data = data
        self.provider: Provider = provider
        self._cache = cache
        self._threads = threads
        self._loaded: AnyDetector | None = None

    @property
    def provider_name(self) -> str:
        """ONNX Runtime's name of the provider."""
        return PROVIDERS[self.provider]

    def load(self, pin: PinnedBundle) -> AnyDetector:
        """Load a detector, unless it is the one that is loaded.

        Raises:
            BundleError: it is not in the bucket, or its files do not match their sha256.
            BoxdropError: CUDA was requested and is not available.
        """
        if self._loaded is None or self._loaded.bundle.digest != pin.digest:
            self._loaded = None  # frees its memory before the new one needs it
            ref = describe(self.data, pin.name, pin.digest)
            self._loaded = open_detector(self.data, ref, self._cache, self.provider, self._threads)
        return self._loaded
