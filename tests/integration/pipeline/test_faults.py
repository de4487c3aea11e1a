"""Whatever breaks at whichever call: one task an image, one prediction each, and the ledger agrees.

A proxy stands before Label Studio and one before DynamoDB. A fault strikes one call of a publication; then
the publication is repeated until it succeeds, as a queue would repeat it, late commits come in, and the
project is reconciled. In the gate: each fault at a chunk's boundary, and a sample of all others. All of them:

    BOXDROP_FAULTS=all make check PYTEST_ARGS="-s tests/integration/pipeline/test_faults.py"
"""

import itertools
import multiprocessing
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import boto3
import pytest
import requests
from botocore.config import Config

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import image_id
from boxdrop.domain.predictions import Box, Failure, Prediction, Record
from boxdrop.labelstudio import connection as connections
from boxdrop.labelstudio import publishing, tasks
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.labelstudio.project import ensure_project
from boxdrop.labelstudio.publishing import PublishSummary
from boxdrop.ledger import Ledger, State, create_table, states
from boxdrop.local.label_studio import Server
from boxdrop.pipeline.sync import sync_project
from boxdrop.services import Services, Settings
from tests.fault_proxy import BEGINNING, DELAY_S, Call, Fault, FaultProxy
from tests.integration.labelstudio.conftest import BOXES, FRUIT, tasks_of

from .published import NAME, bring, claim, known

SEED: Final = 20261124
SAMPLE: Final = 9
LEASE_S: Final = 1.0
_KILLS: Final = (Fault.KILL_BEFORE, Fault.KILL_AFTER)
_BOUNDARIES: Final = {
    "create": ("POST /api/projects/N/import",),
    "replace": ("PATCH /api/predictions/N/", "PATCH /api/projects/N/", "PATCH /api/tasks/N/"),
}
_SHARDS: Final = "3a"
"""Shards of the ledger's index that the images are in. The others are empty, and asking an emulator for
each of them takes most of this test's time."""

_SET: Final = (
    (connections, "TIMEOUT_S", DELAY_S - 2),
    (tasks, "IMPORT_TIMEOUT_S", DELAY_S - 2),
    (publishing, "_PAUSES_S", (0.0, 0.2, 0.5)),
    (states, "SHARDS", _SHARDS),
)
_images = itertools.count()


@dataclass(frozen=True, slots=True)
class Clients:
    """What a publisher is given: addresses and names only, so that a child process can have them, too."""

    label_studio: str
    token: str
    dynamodb: str
    table: str

    def connect(self) -> tuple[Ledger, Connection]:
        """Impatient clients: a delayed answer is a lost one."""
        for module, name, value in _SET:
            setattr(module, name, value)
        client = boto3.client(
            "dynamodb",
            endpoint_url=self.dynamodb,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"mode": "standard", "max_attempts": 2}, read_timeout=DELAY_S - 2),
        )
        return Ledger(self.table, client=client, workers=2), connect(self.label_studio, self.token)


def publish_once(clients: Clients, records: Sequence[Record], generation: int) -> None:
    """One attempt, in a process that will be killed."""
    ledger, connection = clients.connect()
    for proxy in (clients.label_studio, clients.dynamodb):
        requests.get(proxy + BEGINNING, timeout=60)
    attempt(ledger, connection, records, generation)


def attempt(ledger: Ledger, connection: Connection, records: Sequence[Record], generation: int) -> None:
    """Publish in chunks of two."""
    options: dict[str, Any] = {"chunk": 2, "lease_s": LEASE_S, "wait_s": 60}
    bring(ledger, connection, records, generation=generation, run_id=f"run-{generation}", **options)


class World:
    """Both servers behind proxies, one project, and images that no other fault has seen."""

    def __init__(self, server: Server, endpoint: str, client: Any) -> None:
        self.studio, self.dynamodb = FaultProxy(server.url), FaultProxy(endpoint)
        self.direct = connect(server.url, server.token)
        self.project = ensure_project(self.direct, FRUIT, "faults", key="faults")
        self._client, self._token = client, server.token
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload([__name__])

    def begin(self) -> None:
        """A new table: moto looks through all of it for each query."""
        table = f"faults-{next(_images)}"
        create_table(self._client, table)
        self.ledger = Ledger(table, client=self._client, workers=4)
        known(self.ledger, self.project)
        self.clients = Clients(self.studio.url, self._token, self.dynamodb.url, table)

    def proxy(self, name: str) -> FaultProxy:
        return self.studio if name == "studio" else self.dynamodb

    def records(self, version: str = "demo@1", count: int = 3) -> list[Record]:
        """Some new images, the last one of which is broken."""
        new = (f"image {number}.jpg" for number in _images)
        names = list(itertools.islice((name for name in new if image_id("", name)[0] in _SHARDS), count + 1))
        good: list[Record] = [
            Prediction(name, image_id("", name), "v1", version, 640, 480, BOXES) for name in names[:-1]
        ]
        return [*good, Failure(names[-1], image_id("", names[-1]), "v1", version, "broken", "no image")]

    def renewed(self, records: Sequence[Record]) -> list[Record]:
        """What newer labels find in the same images."""
        box = Box("apple", 0.8, (10.0, 10.0, 100.0, 100.0), "apple")
        return [
            replace(each, model_version="demo@2", boxes=(box,))
            if isinstance(each, Prediction)
            else replace(each, model_version="demo@2")
            for each in records
        ]

    def run(self, scenario: str, where: str, number: int | None, fault: Fault = Fault.REFUSE) -> list[Call]:
        """Let a fault strike, repeat, reconcile, check; return the calls of the attempt that was struck."""
        self.begin()
        records, generation = self.records(count=3 if scenario == "create" else 2), 1
        claim(self.ledger, records)
        if scenario == "replace":
            bring(self.ledger, self.direct, records)
            records, generation = self.renewed(records), 2
            self.ledger.renew([each.image_id for each in records], generation)
            self.ledger.claim_wanted(NAME, "run-2", generation, len(records))
        ledger, connection = self.clients.connect()
        proxy = self.proxy(where)
        proxy.arm(number, fault, at_beginning=fault in _KILLS)
        if fault in _KILLS:
            self._attempt_and_die(proxy, records, generation)
        else:
            self._attempt(ledger, connection, records, generation)
        calls = list(proxy.calls)
        proxy.arm()
        for _ in range(5):
            if self._attempt(ledger, connection, records, generation):
                break
        else:
            raise AssertionError("five more attempts failed")
        self.studio.release()
        self.dynamodb.release()
        services = Services.of(Settings(lease_s=LEASE_S), ledger=self.ledger, label_studio=self.direct)
        sync_project(services, NAME, wait_s=60)  # nothing is annotated, so no bucket is needed
        self.check(records)
        return calls

    def _attempt(
        self, ledger: Ledger, connection: Connection, records: Sequence[Record], generation: int
    ) -> bool:
        try:
            attempt(ledger, connection, records, generation)
        except BoxdropError:
            return False
        return True

    def _attempt_and_die(self, proxy: FaultProxy, records: Sequence[Record], generation: int) -> None:
        child = self.processes.Process(target=publish_once, args=(self.clients, records, generation))
        proxy.kill = lambda: child.kill()
        child.start()
        child.join(120)
        assert child.exitcode in (0, -9), child.exitcode
        proxy.kill = lambda: None

    def check(self, records: Sequence[Record]) -> None:
        """One task an image, one prediction each, and the ledger agrees."""
        wanted = {each.image_id: each for each in records}
        listed = [task for task in tasks_of(self.direct, self.project) if task.data.get("image_id") in wanted]
        rows = self.ledger.images(wanted)
        by_image = {task.data["image_id"]: task for task in listed}
        good = [each for each in records if isinstance(each, Prediction)]
        assert len(listed) == len(by_image) == len(good), [task.data["file_name"] for task in listed]
        for shown in good:
            task, row = by_image[shown.image_id], rows[shown.image_id]
            assert [each.model_version for each in task.predictions] == [shown.model_version]
            assert len(task.predictions[0].result) == len(shown.boxes) == task.data["boxes"]
            assert (row.state, row.task_id) == (State.TASKED, task.id)
            assert row.prediction_id == task.data["prediction_id"] == shown.prediction_id
        for each in records:
            if isinstance(each, Failure):
                assert rows[each.image_id].state == State.FAILED


@pytest.fixture(scope="module")
def world(server: Server, endpoint: str, client: Any) -> Iterator[World]:
    made = World(server, endpoint, client)
    before = [getattr(module, name) for module, name, _ in _SET]
    with made.studio, made.dynamodb:
        yield made
    for (module, name, _), value in zip(_SET, before, strict=True):
        setattr(module, name, value)


Point = tuple[str, str, int, Fault]


def fault_points(world: World) -> tuple[list[Point], list[Point]]:
    """Each fault at each call of each scenario: those at a chunk's boundaries, and all others."""
    boundaries: list[Point] = []
    others: list[Point] = []
    for scenario, where in itertools.product(_BOUNDARIES, ("studio", "dynamodb")):
        seen: set[str] = set()
        for number, call in enumerate(world.run(scenario, where, None)):
            points = [(scenario, where, number, fault) for fault in Fault]
            # One chunk's boundary is as good as another's.
            is_boundary = call.what in _BOUNDARIES[scenario] and call.what not in seen
            seen.add(call.what)
            (boundaries if is_boundary else others).extend(points)
    return boundaries, others


def test_every_fault_ends_with_one_task_an_image(world: World) -> None:
    boundaries, others = fault_points(world)
    if os.environ.get("BOXDROP_FAULTS") == "all":
        chosen = boundaries + others
    else:
        chosen = boundaries + random.Random(SEED).sample(others, SAMPLE)
    broken = []
    for point in chosen:
        print(*point, flush=True)
        try:
            world.run(*point)
        except AssertionError as error:
            broken.append((point, str(error)))
    print(f"{len(chosen)} of {len(boundaries) + len(others)} fault points, seed {SEED}")
    assert not broken, f"{len(broken)} of {len(chosen)}: {broken[:10]}"


def test_two_publishers_at_once_make_one_task_an_image(
    ledger: Ledger, connection: Connection, project: Any
) -> None:
    known(ledger, project)
    names = [f"image {number}.jpg" for number in range(500)]
    records = [Prediction(name, image_id("", name), "v1", "demo@1", 640, 480, BOXES) for name in names]
    claim(ledger, records)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(bring, ledger, connection, records, chunk=100, wait_s=300) for _ in range(2)]
    summaries = sorted((job.result() for job in jobs), key=lambda summary: summary.created)
    assert summaries == [PublishSummary(unchanged=500), PublishSummary(created=500)]
    listed = connection.sdk.tasks.list(
        project=project.id, fields="task_only", include="id,data", page_size=1000
    )
    by_image = {task.data["image_id"]: task.id for task in listed}
    rows = ledger.images(by_image)
    assert {row.image_id: row.task_id for row in rows.values()} == by_image
    assert len(by_image) == 500
