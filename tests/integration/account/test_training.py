"""Training in the account: the command line, moto's Batch, and the process that Batch would run.

The container's exact command line runs with the environment of the job definition. Its calls of AWS are
written down and compared with what its role allows.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

from boxdrop.account.placement import Orders, offer_of
from boxdrop.aws.batch import BatchJobs
from boxdrop.aws.s3 import Bucket
from boxdrop.cli.train import order_arguments
from boxdrop.datasets.frozen import open_frozen
from boxdrop.services import now
from boxdrop.store.bundles import list_bundles
from boxdrop.store.layout import checkpoint_key
from boxdrop.store.orders import Order, list_orders, order_id, read_meter
from boxdrop.store.trainings import read_trainings
from boxdrop.system import System
from boxdrop.training.filling import classes_in
from boxdrop.training.plan import Plan
from tests.integration.aws.test_launchers import batch
from tests.integration.datasets.conftest import Verified
from tests.integration.pipeline.conftest import client, ledger
from tests.integration.training.test_train import call, start, things
from tests.moto_server import MakeClient, aws, endpoint

from .container import REPOSITORY, Container, check_access, describe, offers

__all__ = ["aws", "batch", "client", "endpoint", "ledger", "start", "things"]


@pytest.fixture
def deployed(things: Verified, aws: MakeClient, monkeypatch: pytest.MonkeyPatch) -> System:
    """A system in AWS with machines for long work, whose verified images are frozen as a data set."""
    world = things.world
    table, images, data = world.ledger._table.name, world.images.name, world.data.name
    system = System("prod", "us-east-1", table, images, data, jobs=offers("train"))
    describe(system, aws)
    monkeypatch.setenv("BOXDROP_SYSTEM", "prod")
    splits = ("--split", "train=60,val=20,test=20", "--near-duplicates", "ignore")
    assert call("dataset", "freeze", "fruit", "v1", *splits).exit_code == 0
    return system


def test_the_command_line_submits_one_job_and_says_what_it_may_cost(
    deployed: System, things: Verified, batch: Any
) -> None:
    command = ("train", "fruit", "v1", "--from", "small", "--name", "new", "--in-account", "--yes")
    said = call(*command, "--at-most", "2h")
    assert said.exit_code == 0, said.output
    assert "new: at most 2 h on g5.xlarge, at $1.01 per hour or less: at most $2.02" in said.output
    assert "Nothing was started" in call(*command, "--at-most", "2h").output
    (order,) = list_orders(things.world.data, "fruit")
    (job,) = batch.describe_jobs(jobs=[order.job_id])["jobs"]
    assert job["timeout"] == {"attemptDurationSeconds": 7200}
    assert job["container"]["command"] == ["--order", order.id, "--project", "fruit"]
    shown = json.loads(call("status", "fruit", "--json").output)["projects"][0]
    assert isinstance(shown["account_work"], list)
    for options, refusal in (
        (("--at-most", "5"), "write hours such as 4h"),
        (("--at-most", "99h"), "24 h or less"),
        (("--from", str(REPOSITORY)), "is a folder of this machine"),
        (("--folder", "here"), "leave it out with --in-account"),
        (("--system", "prod", "--cancel", "--name", "other"), "nothing like this was started"),
    ):
        assert refusal in call(*command, *options).output
    assert "--at-most goes with --in-account" in call("train", "fruit", "--at-most", "4h").output


def test_a_training_that_spot_interrupts_goes_on_on_another_machine_within_one_budget(
    deployed: System, things: Verified, batch: Any, start: Path, tmp_path: Path
) -> None:
    data = things.world.data
    classes = classes_in(open_frozen(data, "fruit", "v1"))
    plan = Plan(
        "mine", "fruit", "v1", "d" * 16, str(start), classes, side=128, patience=3, batch=4, rate=1e-3
    )
    arguments = order_arguments(replace(plan, device="cpu", threads=1, save_every_s=1), push=True)
    offer = offer_of(deployed, "train")
    wanted = Order(
        order_id("train", "fruit", "mine"), "train", "fruit", "mine", tuple(arguments), now(), 7200, 1.01
    )
    standing, _ = Orders(data, offer, now, BatchJobs(batch)).place(wanted)
    order = standing.order
    (job,) = batch.describe_jobs(jobs=[order.job_id])["jobs"]

    first = Container(deployed, "train", job, tmp_path / "first")
    first.interrupt(lambda: data.exists(checkpoint_key("fruit", "mine")))
    read = read_meter(data, order)
    assert read is not None
    assert 600 < read[0].used_s < 1200
    assert [each.state for each in read_trainings(data, "fruit")] == ["stopped"]

    second = Container(deployed, "train", job, tmp_path / "second")
    assert "The last checkpoint came from the data bucket." in second.finish()
    read = read_meter(data, order)
    assert read is not None
    assert (read[0].attempts, read[0].exit_code) == (2, 0)
    assert read[0].used_s > 1200
    (training,) = read_trainings(data, "fruit")
    assert (training.state, training.pushed) == ("finished", True)
    assert "mine" in {each.bundle.name for each in list_bundles(Bucket(data.name))}
    check_access([*first.calls(), *second.calls()], "train", deployed)
