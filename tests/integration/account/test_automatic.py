"""``teach: auto`` in the account: reconcile orders one job for each doubling of verified images."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from boxdrop.account.automatic import DueTeaching, place_due_teachings
from boxdrop.account.placement import Offer, Orders, sentence_of
from boxdrop.aws.batch import BatchJobs
from boxdrop.store.orders import Meter, list_orders, write_meter
from boxdrop.store.teachings import read_teachings
from boxdrop.system import System
from functions.resources import services, teaching_offer
from tests.integration.aws.test_launchers import batch
from tests.integration.pipeline.conftest import client, ledger, world
from tests.integration.pipeline.test_handlers import Functions
from tests.integration.pipeline.test_labels import in_force
from tests.integration.pipeline.test_retry_and_apply import Call, call
from tests.integration.pipeline.test_teach_itself import STARS, badges
from tests.integration.pipeline.test_teaching_dies import LABELS, labels_yaml, verify
from tests.integration.pipeline.world import World
from tests.kept_batch import KeptBatch
from tests.moto_server import aws, endpoint

from .container import Container, check_access, offers
from .test_teaching import deployed, job_of

__all__ = ["aws", "badges", "batch", "call", "client", "deployed", "endpoint", "ledger", "world"]

OFFER = Offer(**offers("teach")["teach"])


@pytest.fixture
def functions(world: World, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    """The deployed functions of an account that teaches."""
    found = Functions(world, endpoint, monkeypatch)
    found.variables["BOXDROP_TEACHING"] = json.dumps(offers("teach")["teach"])
    for cached in (services, teaching_offer):
        cached.cache_clear()
    yield found
    for cached in (services, teaching_offer):
        cached.cache_clear()


def test_reconcile_orders_one_job_at_ten_and_one_at_twenty(
    deployed: System, badges: World, functions: Functions, call: Call, batch: Any, tmp_path: Path
) -> None:
    for seed in STARS[:9]:
        verify(badges, seed)
    functions.call("reconcile", {"source": "aws.events"})
    assert list_orders(badges.data, "fruit") == ()
    calls = []
    for round, (more, verified) in enumerate(((STARS[9:11], 11), (STARS[11:20], 20)), 1):
        for seed in more:
            verify(badges, seed)
        for _ in range(2):
            functions.call("reconcile", {"source": "aws.events"})
        order, job = job_of(badges, batch)
        assert (order.round, order.occasion) == (round, verified)
        assert order.arguments == ("teach", "fruit", "--due")
        container = Container(deployed, "teach", job, tmp_path / f"machine-{round}")
        said = container.finish()
        number = labels_yaml(badges).lesson
        assert any(
            line.startswith(f"fruit: lesson {number} teaches 1 label from {verified}") for line in said
        )
        functions.call("reconcile", {"source": "aws.events", "sync": True})
        assert [each.round for each in list_orders(badges.data, "fruit")] == [round]
        calls += container.calls()
    check_access(calls, "teach", deployed)
    assert [each.verified for each in read_teachings(badges.data, "fruit")] == [11, 20]
    [shown] = json.loads(call("status", "fruit", "--json").output)["projects"]
    assert (shown["teaching"]["lesson"], shown["account_work"]) == (number, [])


def test_a_job_that_fails_is_seen_and_not_tried_again_until_the_images_have_doubled(badges: World) -> None:
    batch = KeptBatch()

    def look() -> list[DueTeaching]:
        return [*place_due_teachings(badges.services, OFFER, BatchJobs(batch))]

    for seed in STARS[:10]:
        verify(badges, seed)
    batch.refuse = "Job definition boxdrop-prod-teach not found"
    [refused] = look()
    assert refused.order is None
    assert "not found" in refused.problem
    assert refused.passes

    with ThreadPoolExecutor(4) as pool:
        every = [*pool.map(lambda _: look(), range(4))]
    assert len(batch.jobs) == 1
    (order,) = (due.order for found in every for due in found if due.order is not None)
    assert (order.occasion, order.arguments) == (10, ("teach", "fruit", "--due"))
    assert look() == []  # it waits for a machine

    job_id = str(order.job_id)
    assert write_meter(
        badges.data, order, Meter(job_id, badges.clock(), 700.0, exit_code=1, why="no GPU"), None
    )
    batch.end(job_id, "FAILED", "Essential container in task exited", 1)
    standing = Orders(badges.data, OFFER, badges.clock, BatchJobs(batch)).look(order)
    assert sentence_of(standing) == (
        "teaching fruit in the account: failed, 12 min of at most 1 h used: no GPU"
    )
    verify(badges, STARS[10])
    assert look() == []
    for seed in STARS[11:20]:
        verify(badges, seed)
    [again] = look()
    assert again.order is not None
    assert (again.order.round, again.order.occasion) == (order.round + 1, 20)
    assert batch.requests[-1]["timeout"] == {"attemptDurationSeconds": 3600}  # machine time of its own


def test_a_project_that_does_not_ask_is_not_taught_and_a_lost_lesson_is_no_passing_problem(
    badges: World,
) -> None:
    batch = KeptBatch()
    for seed in STARS[:10]:
        verify(badges, seed)
    text = f"teach: auto\nlesson: {'0' * 16}\n{LABELS}"
    badges.images.put("fruit/labels.yaml", text.encode())
    [lost] = place_due_teachings(badges.services, OFFER, BatchJobs(batch))
    assert "there is no such lesson" in lost.problem
    assert not lost.passes
    in_force(badges, LABELS)
    assert [*place_due_teachings(badges.services, OFFER, BatchJobs(batch))] == []
    assert batch.jobs == {}


def test_what_batch_refuses_fails_the_call_after_all_else_was_done(
    badges: World, functions: Functions, batch: Any
) -> None:
    for seed in STARS[:10]:
        verify(badges, seed)
    offer = offers("teach")["teach"] | {"definition": "gone"}
    functions.variables["BOXDROP_TEACHING"] = json.dumps(offer)
    with pytest.raises(Exception, match="fruit: AWS Batch refused the job boxdrop-teach-fruit-"):
        functions.call("reconcile", {"source": "aws.events"})
