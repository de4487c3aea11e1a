"""One job at a time for each order, and never more machine time than was said. S3 is moto's, over HTTP."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from boxdrop.account.placement import Offer, Orders, sentence_of
from boxdrop.aws.batch import BatchError, BatchJobs
from boxdrop.aws.s3 import Bucket
from boxdrop.store.orders import (
    Kind,
    Meter,
    Order,
    OrderError,
    list_orders,
    order_id,
    read_meter,
    read_order,
    write_meter,
    write_order,
)
from tests.integration.pipeline.conftest import data_bucket, s3
from tests.kept_batch import KeptBatch
from tests.moto_server import aws, endpoint

__all__ = ["aws", "data_bucket", "endpoint", "s3"]

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
OFFER = Offer("boxdrop-prod-long", "boxdrop-prod-train", "g5.xlarge", 1.0, 24.0)


def wanted(hours: float = 4.0, *options: str, kind: Kind = "train") -> Order:
    arguments = ("train", "--name", "mine", *options, "--", "fruit", "v1")
    number = order_id(kind, "fruit", "mine")
    return Order(number, kind, "fruit", "mine", arguments, NOW, round(hours * 3600), 1.0)


class Account:
    """Orders in a bucket, with a clock and a Batch that the test moves."""

    def __init__(self, data: Bucket) -> None:
        self.data, self.batch, self.now = data, KeptBatch(), NOW

    @property
    def orders(self) -> Orders:
        """As another caller sees them."""
        return Orders(self.data, OFFER, lambda: self.now, BatchJobs(self.batch))

    def use(self, job_id: str, hours: float, exit_code: int | None = None, why: str = "") -> None:
        """Let a job use machine time."""
        order = list_orders(self.data, "fruit")[-1]
        read = read_meter(self.data, order)
        meter = Meter(job_id, self.now, hours * 3600, exit_code=exit_code, why=why)
        assert write_meter(self.data, order, meter, None if read is None else read[1])


@pytest.fixture
def account(data_bucket: Bucket) -> Account:
    return Account(data_bucket)


def test_the_same_command_twice_starts_one_training(account: Account) -> None:
    first, is_new = account.orders.place(wanted())
    again, is_new_again = account.orders.place(wanted())
    assert (is_new, is_new_again, len(account.batch.jobs)) == (True, False, 1)
    assert first.order == again.order
    (request,) = account.batch.requests
    assert request["jobName"] == f"boxdrop-{wanted().id}-1"
    assert request["containerOverrides"] == {"command": ["--order", wanted().id, "--project", "fruit"]}
    assert request["timeout"] == {"attemptDurationSeconds": 4 * 3600}
    with pytest.raises(OrderError, match=r"other options \(--epochs\): give the same, or another --name"):
        account.orders.place(wanted(4, "--epochs", "9"))


def test_a_lost_answer_of_batch_makes_no_second_job(account: Account) -> None:
    account.batch.lose_answers = 1
    standing, _ = account.orders.place(wanted())
    assert [*account.batch.jobs] == [standing.order.job_id]


def test_a_caller_that_dies_before_it_submits_holds_nobody_up_for_long(account: Account) -> None:
    assert write_order(account.data, wanted(), None)
    standing, is_new = account.orders.place(wanted())
    assert (standing.state, is_new) == ("submitting", False)
    account.now += timedelta(seconds=91)
    standing, is_new = account.orders.place(wanted())
    assert (standing.order.round, is_new, len(account.batch.jobs)) == (1, True, 1)


def test_a_caller_that_dies_after_it_submitted_leaves_a_job_that_the_next_one_finds(account: Account) -> None:
    account.orders.place(wanted())
    read = read_order(account.data, "fruit", wanted().id)
    assert read is not None
    assert write_order(account.data, replace(read[0], job_id=None), read[1])
    account.now += timedelta(hours=1)
    again, is_new = account.orders.place(wanted())
    assert (again.state, is_new, len(account.batch.jobs)) == ("queued", False, 1)


def test_a_training_that_failed_goes_on_with_the_time_that_is_left(account: Account) -> None:
    first, _ = account.orders.place(wanted(4))
    job_id = str(first.order.job_id)
    account.use(job_id, 3.0, exit_code=1, why="--batch 64: CUDA out of memory")
    account.batch.end(job_id, "FAILED", "Essential container in task exited", 1)
    failed = account.orders.look(first.order)
    assert sentence_of(failed) == (
        "training mine in the account: failed, 3 h of at most 4 h used: --batch 64: CUDA out of memory"
    )
    second, is_new = account.orders.place(wanted(4))
    assert (is_new, second.order.round) == (True, 2)
    assert account.batch.requests[-1]["timeout"] == {"attemptDurationSeconds": 3600}
    account.use(str(second.order.job_id), 3.9, exit_code=3)
    account.batch.end(str(second.order.job_id), "FAILED", "exited", 3)
    with pytest.raises(OrderError, match=r"has used 3\.9 h .* less than 20 min of 4 h are left"):
        account.orders.place(wanted(4))
    assert account.orders.place(wanted(6))[1]


def test_a_training_that_is_over_is_not_done_again_but_an_export_is(account: Account) -> None:
    for kind, again in (("train", False), ("export", True)):
        order = wanted(1, kind=kind)  # type: ignore[arg-type]
        standing, _ = account.orders.place(order)
        account.batch.end(str(standing.order.job_id), "SUCCEEDED")
        assert write_meter(account.data, order, Meter("other", NOW, 3000.0, exit_code=0), None)
        placed, is_new = account.orders.place(order)
        assert (is_new, placed.order.limit_s) == (again, 6600 if again else 3600)


def test_a_cancelled_training_ends_and_may_begin_again(account: Account) -> None:
    with pytest.raises(OrderError, match="nothing like this was started"):
        account.orders.cancel("fruit", wanted().id)
    first, _ = account.orders.place(wanted())
    assert account.orders.cancel("fruit", wanted().id).state == "cancelled"
    assert account.batch.jobs[str(first.order.job_id)]["statusReason"] == "cancelled with boxdrop"
    with pytest.raises(OrderError, match="cancelled: there is nothing to cancel"):
        account.orders.cancel("fruit", wanted().id)
    assert account.orders.place(wanted())[1]


def test_what_batch_refuses_is_a_sentence_and_the_next_call_tries_again(account: Account) -> None:
    account.batch.refuse = "Job definition boxdrop-prod-train not found"
    with pytest.raises(BatchError, match=r"not found .*; deploy the system again: npx cdk deploy --all"):
        account.orders.place(wanted())
    assert account.orders.place(wanted())[1]
    assert len(account.batch.jobs) == 1


def test_why_a_job_waits_is_said_in_batchs_words(account: Account) -> None:
    first, _ = account.orders.place(wanted())
    job = account.batch.jobs[str(first.order.job_id)]
    job["statusReason"] = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
    assert "queued: MISCONFIGURATION:COMPUTE" in sentence_of(account.orders.look(first.order))
    job["status"] = "RUNNING"
    account.use(str(first.order.job_id), 1.5)
    said = sentence_of(account.orders.look(first.order))
    assert said == "training mine in the account: running, 1.5 h of at most 4 h used"
    account.batch.jobs.clear()
    account.now += timedelta(days=30)
    assert "failed, 1.5 h of at most 4 h used: AWS Batch no longer knows" in sentence_of(
        account.orders.look(first.order)
    )
