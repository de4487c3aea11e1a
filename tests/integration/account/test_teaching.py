"""Teaching in the account: the command line, moto's Batch, and the process that Batch would run.

The container's exact command line runs with the environment of the job definition. Its calls of AWS are
written down and compared with what its role allows.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from boxdrop.store.layout import LESSONS
from boxdrop.store.lessons import read_lesson
from boxdrop.store.orders import list_orders, read_meter
from boxdrop.store.teachings import read_teachings
from boxdrop.system import System
from tests.integration.aws.test_launchers import batch
from tests.integration.pipeline.conftest import client, ledger, world
from tests.integration.pipeline.test_retry_and_apply import Call, call
from tests.integration.pipeline.test_teach_itself import STARS, badges
from tests.integration.pipeline.test_teaching_dies import labels_yaml, verify
from tests.integration.pipeline.world import World
from tests.moto_server import MakeClient, aws, endpoint

from .container import Container, check_access, describe, offers

__all__ = ["aws", "badges", "batch", "call", "client", "endpoint", "ledger", "world"]

TEACH = ("teach", "fruit", "--in-account", "--yes")


@pytest.fixture
def deployed(badges: World, call: Call, aws: MakeClient, monkeypatch: pytest.MonkeyPatch) -> System:
    """A system in AWS with a queue that teaches, and a project of which nothing is verified."""
    queues = {"launches": badges.launches.url, "parts": badges.parts.url}
    names = badges.ledger._table.name, badges.images.name, badges.data.name
    system = System("prod", "us-east-1", *names, queues, jobs=offers("teach"))
    describe(system, aws)
    monkeypatch.setenv("BOXDROP_SYSTEM", "prod")
    return system


def job_of(world: World, batch: Any) -> Any:
    """The order of the project, and its job as Batch describes it."""
    (order,) = list_orders(world.data, "fruit")
    (job,) = batch.describe_jobs(jobs=[order.job_id])["jobs"]
    return order, job


def test_a_job_that_spot_interrupts_teaches_in_its_second_attempt_and_the_system_goes_on(
    deployed: System, badges: World, call: Call, batch: Any, tmp_path: Path
) -> None:
    for seed in STARS[:11]:
        verify(badges, seed)
    said = call(*TEACH, "--json")
    assert said.exit_code == 0, said.output
    assert "fruit: at most 1 h on g5.xlarge, at $1.01 per hour or less: at most $1.01" in said.stderr
    order, job = job_of(badges, batch)
    placed = json.loads(said.stdout)
    assert (placed["submitted"], placed["kind"], placed["job"]) == (True, "teach", order.job_id)
    assert job["container"]["command"] == ["--order", order.id, "--project", "fruit"]

    first = Container(deployed, "teach", job, tmp_path / "first")
    first.interrupt(lambda: any("annotations/" in str(each["about"].get("Key")) for each in first.calls()))
    assert labels_yaml(badges).lesson is None
    assert read_teachings(badges.data, "fruit") == ()

    second = Container(deployed, "teach", job, tmp_path / "second")
    said_second = second.finish()
    number = labels_yaml(badges).lesson
    assert number is not None
    assert any(f"fruit: lesson {number} teaches 1 label from 11" in line for line in said_second), said_second
    assert len(read_lesson(badges.data, number).images) == 11
    read = read_meter(badges.data, order)
    assert read is not None
    assert (read[0].attempts, read[0].exit_code) == (2, 0)
    # The lesson in force is read where `teach: auto` is due: test_automatic.py.
    check_access([*first.calls(), *second.calls()], "teach", deployed, not_read=[LESSONS])

    badges.dispatch(badges.notify("fruit/labels.yaml"))
    badges.launch_all()
    assert badges.states() == {"verified": 11, "running": 10}
    [shown] = json.loads(call("status", "fruit", "--json").output)["projects"]
    assert (shown["teaching"]["lesson"], shown["account_work"]) == (number, [])


def test_what_cannot_be_taught_ends_well_and_is_noted(deployed: System, badges: World, call: Call) -> None:
    verify(badges, STARS[0])
    before = labels_yaml(badges)
    taught = call("teach", "fruit", "--unattended")
    assert taught.exit_code == 0, taught.output
    assert taught.output.startswith("fruit: taught nothing from 1 verified images: ")
    assert len(read_teachings(badges.data, "fruit")) == 1
    assert labels_yaml(badges) == before
    badges.images.put("fruit/labels.yaml", b"labels: [")
    mistake = call("teach", "fruit", "--unattended")
    assert (mistake.exit_code, len(read_teachings(badges.data, "fruit"))) == (1, 1)


def test_what_does_not_go_with_a_job_is_refused(deployed: System, call: Call) -> None:
    for arguments, said in (
        (("fruit", "--in-account", "--from-now"), "go without --back, --from-now"),
        (("fruit", "--in-account", "--cancel"), "give one of --in-account, --cancel and --unattended"),
        (("fruit", "--at-most", "2h"), "--at-most goes with --in-account"),
        (("fruit", "--json"), "--json goes with --in-account"),
        (("fruit", "--in-account", "--at-most", "7"), "write hours such as 4h"),
        (("fruit", "--cancel"), "nothing like this was started"),
        (("--in-account",), "give a PROJECT"),
        (("vegetables", "--in-account"), "vegetables"),
    ):
        result = call("teach", *arguments)
        assert result.exit_code == 1, result.output
        assert said in result.output
