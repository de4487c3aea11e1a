"""What a shard used: the GPU's mean utilisation and the process's peak memory."""

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final


def no_utilisation() -> float | None:
    """The GPU's utilisation where there is no GPU."""
    return None


REPORT_S: Final = 60.0
"""How often a working job reports its GPU's utilisation. A job that hangs goes on reporting: that is what the
alarm on an idle GPU sees."""


class Meter:
    """Samples the GPU's utilisation once a second during the ``with`` block.

    Args:
        utilisation: of the GPU now, 0 to 1; None where it is not known.
        report: called with the mean of each `every_s` seconds, 0 to 1, and once more at the end.
        every_s: how often, seconds.
    """

    def __init__(
        self,
        utilisation: Callable[[], float | None],
        report: Callable[[float], None] | None = None,
        every_s: float = REPORT_S,
    ) -> None:
        self._utilisation = utilisation
        self._report, self._every_s = report, every_s
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
        total, samples, begun = 0.0, 0, time.monotonic()
        while True:
            value = self._utilisation()
            if value is None:
                return
            self._sum += value
            self._samples += 1
            total, samples = total + value, samples + 1
            over = self._over.wait(1.0)
            if over or time.monotonic() - begun >= self._every_s:
                if self._report is not None:
                    self._report(total / samples)
                total, samples, begun = 0.0, 0, time.monotonic()
            if over:
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
