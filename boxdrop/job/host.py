"""Where a job runs, as its report states it."""

from dataclasses import dataclass

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
