"""What a container does before it runs a command: whose order it is, and whether machine time is left."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from boxdrop.account.attempt import BROKEN, Place, work_on
from boxdrop.aws.s3 import Bucket
from boxdrop.store.orders import (
    OVER,
    Meter,
    Order,
    OrderError,
    order_id,
    read_meter,
    write_meter,
    write_order,
)
from tests.integration.pipeline.conftest import data_bucket, s3
from tests.moto_server import aws, endpoint

__all__ = ["aws", "data_bucket", "endpoint", "s3"]

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ORDER = Order(
    order_id("train", "fruit", "mine"), "train", "fruit", "mine", ("train", "--", "fruit"), NOW, 3600, 1.0
)
Work = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def work(data_bucket: Bucket) -> Work:
    """Works on the order as the container of a job; returns the exit code and what it said."""

    def run(job_id: str = "second", at: datetime = NOW) -> tuple[int, list[str]]:
        said: list[str] = []
        place = Place(job_id, "train", lambda: at, meter_s=0.03)
        return work_on(data_bucket, "fruit", ORDER.id, place, said.append), said

    return run


def test_an_attempt_without_machine_time_runs_nothing_and_says_why(data_bucket: Bucket, work: Work) -> None:
    assert write_order(data_bucket, ORDER, None)
    assert write_meter(data_bucket, ORDER, Meter("second", NOW, 3100.0, attempts=3), None)
    code, (said,) = work()
    assert (code, said) == (OVER, f"{ORDER.id}: its machine time is used up: 1 h in 4 attempts")
    read = read_meter(data_bucket, ORDER)
    assert read is not None
    assert (read[0].used_s, read[0].exit_code, read[0].attempts) == (3700.0, OVER, 4)


def test_a_second_job_waits_for_a_dead_one_and_leaves_a_living_one_alone(
    data_bucket: Bucket, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write_order(data_bucket, ORDER, None)
    assert write_meter(data_bucket, ORDER, Meter("first", NOW, 3500.0), None)

    def other_goes_on(_: float) -> None:
        read = read_meter(data_bucket, ORDER)
        assert read is not None
        write_meter(data_bucket, ORDER, replace(read[0], at=read[0].at + timedelta(milliseconds=1)), read[1])

    with monkeypatch.context() as living:
        living.setattr("boxdrop.account.attempt.time.sleep", other_goes_on)
        code, said = work()
    assert (code, said[-1]) == (BROKEN, f"{ORDER.id}: the job first works on it already")
    code, said = work(at=NOW + timedelta(minutes=5))
    assert code == OVER


def test_a_cancelled_order_and_one_of_another_kind_run_nothing(data_bucket: Bucket, work: Work) -> None:
    with pytest.raises(OrderError, match="there is no order"):
        work()
    assert write_order(data_bucket, replace(ORDER, cancelled=True), None)
    assert work() == (BROKEN, [f"{ORDER.id}: was cancelled"])
    place = Place("second", "export", lambda: NOW)
    with pytest.raises(OrderError, match="this container does not do 'boxdrop train -- fruit'"):
        work_on(data_bucket, "fruit", ORDER.id, place, print)
