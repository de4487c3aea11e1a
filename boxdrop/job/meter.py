"""What a shard used: the GPU's mean utilisation and the process's peak memory."""

import resource
import threading
from collections.abc import Callable
from pathlib import Path


def no_utilisation() -> float | None:
    """The GPU's utilisation where there is no GPU."""
    return None


class Meter:
    """Samples the GPU's utilisation once a second during the ``with`` block.

    Args:
        utilisation: of the GPU now, 0 to 1; None where it is not known.
    """

    def __init__(self, utilisation: Callable[[], float | None]) -> None:
        self._utilisation = utilisation
        self._sum, self._samples = 0.0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="boxdrop-meter", daemon=True)

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mean(self) -> float | None:
        """0 to 1; None where it is not known."""
        return round(self._sum / self._samples, 4) if self._samples else None

    def _sample(self) -> None:
        while True:
            value = self._utilisation()
            if value is None:
                return
            self._sum += value
            self._samples += 1
            if self._over.wait(1.0):
                return


def peak_memory_mb() -> float:
    """The most memory that this process has held.

    Read from /proc where there is one: ``ru_maxrss`` of a new program starts at what its parent held.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
