"""What Batch runs for an order, as a process of this machine, and the calls of AWS that it makes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from boxdrop.store.orders import Kind
from boxdrop.system import System, parameter_name
from boxdrop.topology import ORDER_ACCESS, Access
from tests.moto_server import MakeClient

REPOSITORY = Path(__file__).parents[3]
LONG_S = 300


def describe(system: System, aws: MakeClient) -> None:
    """Deploy the description of a system, which `boxdrop --system` reads."""
    name, value = parameter_name(system.name), system.to_json()
    aws("ssm").put_parameter(Name=name, Value=value, Type="String", Overwrite=True)


def offers(*kinds: Kind) -> dict[str, dict[str, Any]]:
    """Where a system does long work: in the queue and the definition of moto's Batch."""
    offer = {"queue": "jobs", "definition": "job", "machines": "g5.xlarge", "usd_per_hour": 1.01}
    return {kind: {**offer, "most_hours": 24.0} for kind in kinds}


class Container:
    """What Batch runs for a job, on a machine of its own."""

    def __init__(self, system: System, kind: Kind, job: Mapping[str, Any], machine: Path) -> None:
        machine.mkdir()
        self._calls = machine / "calls.jsonl"
        self._calls.touch()
        given = {
            "BOXDROP_DATA_BUCKET": system.data_bucket,
            "BOXDROP_ORDER_KIND": kind,
            "BOXDROP_SYSTEM": system.name,
            "BOXDROP_HOME": str(machine / "home"),
            "AWS_BATCH_JOB_ID": job["jobId"],
            "PYTHONPATH": os.pathsep.join((str(REPOSITORY / "tests/infra/recorder"), str(REPOSITORY))),
            "BOXDROP_TEST_CALLS": str(self._calls),
            "BOXDROP_TEST_FUNCTION": kind,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "functions.job", *job["container"]["command"]],
            env={**os.environ, **given},
            cwd=machine,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lines(self) -> Iterator[str]:
        """Messages of the log, as they come."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield str(json.loads(line)["message"]) if line.startswith("{") else line.rstrip()

    def interrupt(self, when: Callable[[], bool]) -> None:
        """End it as Spot does, as soon as something is so."""
        until = time.monotonic() + LONG_S
        while not when():
            assert self.process.poll() is None, [*self.lines()]
            assert time.monotonic() < until
            time.sleep(0.02)
        self.process.send_signal(signal.SIGTERM)
        self.finish(75)

    def finish(self, code: int = 0) -> list[str]:
        """The messages of the log, once it has ended with this exit code."""
        said = [*self.lines()]
        assert self.process.wait(LONG_S) == code, "\n".join(said)
        return said

    def calls(self) -> list[dict[str, Any]]:
        """The calls of AWS that it made."""
        return [json.loads(line) for line in self._calls.read_text().splitlines()]


def check_access(
    calls: list[dict[str, Any]], kind: Kind, system: System, not_read: Collection[str] = ()
) -> None:
    """What was called is what the role allows, no less and no more.

    Args:
        not_read: prefixes that the role may read and that another test reads.
    """
    reads = {*not_read}
    writes: set[str] = set()
    ledger: set[str] = set()
    images = labels = False
    for each in calls:
        about, operation = each["about"], each["operation"]
        if each["service"] == "dynamodb":
            assert about["TableName"] == system.table
            ledger.add(operation + " of the index" * ("IndexName" in about))
        elif operation == "GetParameter" or about.get("Bucket") is None:
            assert operation == "GetParameter", each
        elif operation == "ListObjectsV2":
            assert about["Bucket"] == system.data_bucket
        elif about["Bucket"] == system.image_bucket:
            assert operation in ("GetObject", "HeadObject") or about["Key"].endswith("/labels.yaml")
            images = images or operation != "PutObject"
            labels = labels or operation == "PutObject"
        else:
            known = {
                "GetObject": reads,
                "HeadObject": reads,
                "PutObject": writes,
                "CreateMultipartUpload": writes,
            }
            known |= {"UploadPart": writes, "CompleteMultipartUpload": writes}
            known[operation].add(about["Key"].partition("/")[0] + "/")
    known_access = ORDER_ACCESS[kind]
    assert Access(tuple(sorted(reads)), tuple(sorted(writes)), images, labels, bool(ledger)) == known_access
    assert ledger in (set(), {"GetItem", "BatchGetItem", "Query of the index"})
