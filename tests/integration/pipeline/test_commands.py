"""`boxdrop status` and `boxdrop sync`, as a user calls them."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boxdrop.aws.s3 import Bucket
from boxdrop.cli import boxdrop
from boxdrop.domain.predictions import Failure
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project
from boxdrop.ledger import Ledger, State
from boxdrop.local.label_studio import Server
from tests.integration.labelstudio.conftest import annotate, prediction, tasks_of

from .published import NAME, bring, claim, known, row


@pytest.fixture
def environment(
    endpoint: str, ledger: Ledger, data_bucket: Bucket, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user's shell has."""
    for variable, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "BOXDROP_TABLE": ledger._table.name,
        "BOXDROP_DATA_BUCKET": data_bucket.name,
        "LABEL_STUDIO_URL": server.url,
        "LABEL_STUDIO_API_KEY": server.token,
    }.items():
        monkeypatch.setenv(variable, value)


def call(*arguments: str) -> Result:
    result: Result = CliRunner().invoke(boxdrop, arguments, env={"COLUMNS": "160"})
    return result


@pytest.mark.usefixtures("environment")
def test_status_counts_the_images_and_names_the_failures(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    known(ledger, project)
    good = [prediction(number) for number in range(3)]
    bad = Failure("x.jpg", "f" * 32, "v1", "demo@1", "broken", "not an image: [red]x[/red]")
    claim(ledger, [*good, bad])
    bring(ledger, connection, [*good[:2], bad])
    counts = call("status", NAME)
    assert counts.exit_code == 0, counts.output
    head, line, *_ = counts.output.splitlines()
    numbers = dict(zip(head.split()[1:9], line.split()[1:9], strict=True))
    assert {state: n for state, n in numbers.items() if n != "·"} == {
        "running": "1",
        "tasked": "2",
        "failed": "1",
    }
    assert line.rstrip().endswith("s running")
    failures = call("status", "--failures")
    assert "s3://photos/fruit/x.jpg: broken: not an image: [red]x[/red]" in failures.output


@pytest.mark.usefixtures("environment")
def test_status_for_programs_is_one_json_object(
    ledger: Ledger, connection: Connection, project: Project
) -> None:
    known(ledger, project)
    good, bad = prediction(0), Failure("x.jpg", "f" * 32, "v1", "demo@1", "broken", "not an image: \x1b[2J")
    claim(ledger, [good, bad])
    bring(ledger, connection, [good, bad])
    document = json.loads(call("status", "--json", "--failures").output)
    (fruit,) = document["projects"]
    assert (fruit["project"], fruit["counts"]["tasked"], fruit["counts"]["failed"]) == (NAME, 1, 1)
    assert fruit["problems"] == []
    assert document["failures"][0]["message"] == "not an image: \x1b[2J"


@pytest.mark.usefixtures("environment")
def test_a_watched_status_prints_a_line_per_change_into_a_pipe(
    ledger: Ledger, project: Project, endpoint: str
) -> None:
    known(ledger, project)
    claim(ledger, [prediction(0)])
    watching = subprocess.Popen(
        [sys.executable, "-m", "boxdrop", "status", "--watch"],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        claim(ledger, [prediction(1)])
        second = watching.stdout.readline()
    finally:
        watching.kill()
        watching.wait()
    assert "fruit: 1 running; 1 image is on the way to Label Studio" in first
    assert "fruit: 2 running; 2 images are on the way to Label Studio" in second
    assert "\x1b" not in first + second


@pytest.mark.usefixtures("environment")
def test_a_row_of_the_status_is_one_line_on_80_columns_and_in_a_pipe(
    ledger: Ledger, project: Project
) -> None:
    known(ledger, project)
    claim(ledger, [prediction(number) for number in range(3)])
    for columns in ({"COLUMNS": "80"}, {}):
        result = CliRunner().invoke(boxdrop, ["status"], env=columns)
        head, line, *_ = result.output.splitlines()
        assert head.split()[:2] == ["project", "running"] or not columns
        assert line.split()[0] == "fruit"
        assert line.rstrip().endswith("s running")
        assert not columns or max(map(len, result.output.splitlines())) <= 80


@pytest.mark.usefixtures("environment")
def test_sync_collects_what_people_did(ledger: Ledger, connection: Connection, project: Project) -> None:
    known(ledger, project)
    record = prediction(0)
    claim(ledger, [record])
    bring(ledger, connection, [record])
    annotate(connection, tasks_of(connection, project)[0])
    first, second = call("sync", NAME), call("sync", NAME)
    assert first.exit_code == second.exit_code == 0, first.output
    assert "1 task: 1 with new reviews" in first.output
    assert "1 task: all as recorded" in second.output
    assert row(ledger, record).state == State.VERIFIED


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status", "nowhere"), "there is no project nowhere; there are: none yet"),
        (("sync", "nowhere"), "there is no project nowhere; `boxdrop status` lists them"),
        (("status", "--table", "elsewhere"), "elsewhere"),
    ],
)
def test_a_wrong_name_is_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("command", "said"), [("status", "BOXDROP_TABLE"), ("sync", "BOXDROP_TABLE")])
def test_without_a_system_the_way_out_is_named(
    command: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BOXDROP_TABLE", raising=False)
    result = call(command, "fruit")
    assert result.exit_code == 1
    assert said in result.output


@pytest.mark.usefixtures("environment")
def test_an_empty_system_says_so(ledger: Ledger) -> None:
    assert "No projects yet" in call("status").output


def test_the_help_explains_the_states() -> None:
    said: Any = call("status", "--help").output
    assert all(state in said for state in State)
