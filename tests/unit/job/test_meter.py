"""What a shard used is measured while it works, and reported while it hangs."""

import time

from boxdrop.job.meter import Meter, no_utilisation


def test_a_working_job_reports_its_gpu_again_and_again() -> None:
    reported: list[float] = []
    with Meter(lambda: 0.5, reported.append, every_s=0) as meter:
        time.sleep(0.05)
    assert meter.mean == 0.5
    assert reported == [0.5]


def test_a_hanging_job_keeps_reporting() -> None:
    reported: list[float] = []
    meter = Meter(lambda: 0.0, reported.append, every_s=0)

    def over(timeout: float | None = None) -> bool:
        return len(reported) >= 3

    meter._over.wait = over  # type: ignore[method-assign]
    with meter:
        pass
    assert reported[:3] == [0.0, 0.0, 0.0]


def test_without_a_gpu_nothing_is_reported() -> None:
    reported: list[float] = []
    with Meter(no_utilisation, reported.append, every_s=0) as meter:
        pass
    assert meter.mean is None
    assert reported == []
