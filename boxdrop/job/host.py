"""Where a job runs, as its report states it."""

import platform
from dataclasses import dataclass
from pathlib import Path

from boxdrop.store.reports import LauncherName


@dataclass(frozen=True, slots=True)
class Host:
    """Where a job runs, as far as it is known; see `boxdrop.store.reports.ShardReport`."""

    launcher: LauncherName = "local"
    job_id: str | None = None
    device: str = "unknown"
    instance_type: str | None = None
    spot: bool | None = None
    usd_per_hour: float | None = None


def processor_name() -> str:
    """Name this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
