"""Everything that can go wrong, at once: uploads, events, labels, kills; and at the end, all agree.

    BOXDROP_STORM_SEED=7 pytest tests/e2e/test_storm.py

The whole local system, with real processes: MiniStack, Label Studio, the functions, the job. S3's own events
are caught on their way, and delivered late, in another order, twice, and in another dialect. What is random
follows from the seed that is printed; when processes are killed also depends on how fast the machine is.
"""

import dataclasses
import io
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import PIL.Image
import pytest

from boxdrop.aws.launchers import LocalLauncher
from boxdrop.aws.s3 import Bucket
from boxdrop.aws.sqs import Queue
from boxdrop.demo import SCENES
from boxdrop.domain.identity import image_id, object_version
from boxdrop.labelstudio.connection import connect
from boxdrop.ledger import Image, Ledger, State
from boxdrop.local.resources import client
from boxdrop.local.stack import Running, Stack
from boxdrop.pipeline.recover import recover
from boxdrop.servers import processes
from boxdrop.services import Services, Settings
from tests.aws_server import aws_with_shared_venv
from tests.e2e.crashing_runtime import POINTS
from tests.label_studio_server import quiet, with_empty_database
from tests.ports import free_port

PROJECT = "storm"
UPLOADS = 1000
DUPLICATES = 0.2
REPLAYS = 100
BAD = 0.03
OVERWRITTEN, DELETED, BACK_AGAIN = 80, 40, 10
JOB_KILLS = 3
RANDOM_KILLS = 6
STUDIO_DOWN_S = 20
PATIENCE_S = 900  # some two minutes on two idle cores
PACE_S = 0.02  # between two uploads begun, so that the weather meets some of each
BACKLOG = 100  # events that wait for dispatch before uploads pause

FIRST_LABELS = "caption: fruit in a storm\nlabels: [pineapple, banana]\n"
SECOND_LABELS = "caption: fruit in a storm\nlabels: [pineapple, banana, apple]\n"

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@dataclasses.dataclass
class Expected:
    """What the bucket holds at the end, by key: the version and whether it is an image; None if deleted."""

    versions: dict[str, tuple[str, bool] | None] = dataclasses.field(default_factory=dict)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


def pictures() -> list[PIL.Image.Image]:
    """The sample scenes, small: the detector sees 224 pixels anyway."""
    scenes = []
    for path in sorted(SCENES.glob("*.jpg")):
        with PIL.Image.open(path) as scene:
            scene.thumbnail((160, 160))
            scenes.append(scene.convert("RGB"))
    return scenes


def good_bytes(scene: PIL.Image.Image, comment: str) -> bytes:
    """A JPEG that no other is equal to."""
    file = io.BytesIO()
    scene.save(file, "jpeg", quality=70, comment=comment.encode())
    return file.getvalue()


def bad_bytes(kind: int, scene: PIL.Image.Image, comment: str) -> bytes:
    """One of the ways in which files are broken."""
    whole = good_bytes(scene, comment)
    return (
        whole[: len(whole) // 2],
        b"<html>404 " + comment.encode() + b"</html>",
        b"\0" * 1000 + comment.encode(),
        whole[:40] + comment.encode(),
    )[kind % 4]


class Storm:
    """The system and everything that is done to it."""

    def __init__(self, stack: Stack, running: Running, seed: int) -> None:
        self.stack, self.running, self.seed = stack, running, seed
        self.random = random.Random(seed)
        self.system = running.system
        endpoint, region = running.system.endpoint_url, running.system.region
        assert endpoint
        self.s3 = client("s3", endpoint, region)
        self.sqs = client("sqs", endpoint, region)
        self.ledger = Ledger(self.system.table, client=client("dynamodb", endpoint, region), workers=4)
        self.expected = Expected()
        self.counts: Counter[str] = Counter()
        self.uploaded = threading.Event()  # everything; the rest of the weather stops soon after
        self._catch_events(client("events", endpoint, region))
        self._seen_events: list[str] = []

    # The sky: events on their way

    def _catch_events(self, events: Any) -> None:
        self._sky = self.sqs.create_queue(QueueName="sky")["QueueUrl"]
        arn = f"arn:aws:sqs:{self.system.region}:000000000000:sky"
        events.put_targets(Rule="uploads", Targets=[{"Id": "queue", "Arn": arn}])

    def deliver(self) -> None:
        """Take events out of the sky, and let them fall: in disorder, some twice, some in another dialect."""
        dice = random.Random(self.random.random())
        held: list[str] = []
        quiet_rounds = 0
        while not (self.uploaded.is_set() and quiet_rounds > 3 and not held):
            caught = self._take()
            quiet_rounds = 0 if caught else quiet_rounds + 1
            again = [body for body in caught if dice.random() < DUPLICATES]
            self.counts["events"] += len(caught)
            self.counts["duplicate events"] += len(again)
            held += caught + again
            dice.shuffle(held)
            count = len(held) if quiet_rounds > 3 else len(held) * 2 // 3
            falling, held = held[:count], held[count:]
            self._let_fall([self._translated(body) if dice.random() < 0.2 else body for body in falling])
        replayed = dice.sample(self._seen_events, min(REPLAYS, len(self._seen_events)))
        self._let_fall(replayed)
        self.counts["replayed events"] += len(replayed)

    def _take(self) -> list[str]:
        taken: list[str] = []
        while len(taken) < 200:
            answer = self.sqs.receive_message(QueueUrl=self._sky, MaxNumberOfMessages=10, WaitTimeSeconds=0)
            messages = answer.get("Messages", [])
            if not messages:
                time.sleep(0.1)
                break
            taken += [each["Body"] for each in messages]
            receipts = enumerate(each["ReceiptHandle"] for each in messages)
            entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in receipts]
            self.sqs.delete_message_batch(QueueUrl=self._sky, Entries=entries)
        self._seen_events += taken
        return taken

    def _let_fall(self, bodies: list[str]) -> None:
        Queue(self.system.queue("uploads"), client=self.sqs).send_texts(bodies)

    @staticmethod
    def _translated(body: str) -> str:
        """The same event as S3 sends it straight to SQS."""
        event = json.loads(body)
        content = event["detail"]["object"]
        created = event["detail-type"] == "Object Created"
        told = {"key": quote_plus(content["key"]), "sequencer": content["sequencer"]}
        if created:
            told |= {"size": content["size"], "eTag": content["etag"]}
        name = "ObjectCreated:Put" if created else "ObjectRemoved:Delete"
        s3 = {"bucket": {"name": event["detail"]["bucket"]["name"]}, "object": told}
        return json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": name, "s3": s3}]})

    # The bucket

    def upload(self) -> None:
        """A thousand images, labels in the middle, another label later; overwritten and deleted keys."""
        dice = random.Random(self.random.random())
        scenes = pictures()
        keys = [f"{PROJECT}/{number % 7}/a b+%25 é {number:04}.jpg" for number in range(UPLOADS)]
        bad = set(dice.sample(keys, int(BAD * UPLOADS)))
        work: list[tuple[str, str]] = [("put", key) for key in keys]
        changed = dice.sample(keys, OVERWRITTEN + DELETED)
        overwritten, deleted = changed[:OVERWRITTEN], changed[OVERWRITTEN:]
        for verb, some in (("put", overwritten), ("delete", deleted), ("put", deleted[:BACK_AGAIN])):
            for key in some:  # after what is there for the key already
                last = max(place for place, (_, each) in enumerate(work) if each == key)
                work.insert(dice.randint(last + 1, len(work)), (verb, key))
        work.insert(len(work) * 2 // 5, ("labels", FIRST_LABELS))
        work.insert(len(work) * 4 // 5, ("labels", SECOND_LABELS))
        self.counts |= Counter({"uploads": UPLOADS, "bad": len(bad), "overwritten": OVERWRITTEN})
        self.counts |= Counter({"deleted": DELETED, "of these back again": BACK_AGAIN})

        def put(number: int, key: str) -> None:
            scene = scenes[number % len(scenes)]
            is_bad = key in bad
            body = bad_bytes(number, scene, str(number)) if is_bad else good_bytes(scene, str(number))
            answer = self.s3.put_object(Bucket=self.system.image_bucket, Key=key, Body=body)
            version = object_version(None, answer["ETag"], len(body))
            assert version
            with self.expected.lock:
                self.expected.versions[key] = version, not is_bad

        def do(number: int, verb: str, what: str) -> None:
            if verb == "labels":
                self.s3.put_object(Bucket=self.system.image_bucket, Key=f"{PROJECT}/labels.yaml", Body=what)
            elif verb == "put":
                put(number, what)
            else:
                self.s3.delete_object(Bucket=self.system.image_bucket, Key=what)
                with self.expected.lock:
                    self.expected.versions[what] = None

        pending: dict[str, Any] = {}
        with ThreadPoolExecutor(8) as pool:
            for number, (verb, what) in enumerate(work):
                if what in pending:  # changes of one key follow each other
                    pending[what].result()
                if number % 20 == 0:
                    self._wait_for_dispatch()
                if what == SECOND_LABELS:  # when some images have boxes already
                    self._wait_for_tasks()
                pending[what] = pool.submit(do, number, verb, what)
                time.sleep(PACE_S)
            for each in pending.values():
                each.result()
        self.uploaded.set()

    def _wait_for_dispatch(self) -> None:
        """Not all events at once: labels and images shall meet in every order."""
        while sum(self.messages("uploads")) > BACKLOG:
            time.sleep(0.1)

    def _wait_for_tasks(self) -> None:
        while not self.ledger.count_images(PROJECT, [State.TASKED])[State.TASKED]:
            time.sleep(0.2)

    # Lightning

    def kill_jobs(self) -> None:
        """End the job by force, three times, in the middle of a run: each time after another part."""
        parts = 0
        while self.counts["job killed"] < JOB_KILLS:
            listed = self.s3.list_objects_v2(Bucket=self.system.data_bucket, Prefix=f"predictions/{PROJECT}/")
            pid = self.stack.worker()
            if listed["KeyCount"] > parts and pid is not None and self._is_busy("jobs"):
                parts = listed["KeyCount"]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.counts["job killed"] += 1
            time.sleep(0.2)

    def kill_functions(self) -> None:
        """End processes of functions by force, wherever they are."""
        dice = random.Random(self.random.random())
        names = ("dispatch", "launch", "publish")
        for number in range(RANDOM_KILLS):
            time.sleep(dice.uniform(2, 6))
            for pid in processes.find([f"functions.{names[number % 3]}.handler"]):
                if processes.parent(pid) == self.running.pump:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        self.counts["functions killed anywhere"] += 1

    def stop_label_studio(self) -> None:
        """Label Studio is away for a while, once it has work to do."""
        self._wait_for_tasks()
        port = int(self.running.label_studio.url.rpartition(":")[2])
        self.stack.label_studio.down(quiet)
        time.sleep(STUDIO_DOWN_S)
        self.stack.label_studio.up(port, quiet)
        self.counts["Label Studio stopped"] += 1

    def _is_busy(self, queue: str) -> bool:
        return self.messages(queue)[1] > 0

    def messages(self, queue: str) -> tuple[int, int]:
        """Waiting, and being worked on."""
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesNotVisible",
        )
        url = self.system.queue(queue)
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))["Attributes"]
        waiting, delayed, hidden = (int(found[name]) for name in names)
        return waiting + delayed, hidden

    # Calm

    def pass_time(self, weather: list[threading.Thread], until: float) -> None:
        """Until the weather is over and nothing moves any more.

        Runs that died wait for their deadline, so time is told to pass whenever only they are left.
        """
        calm = 0
        while calm < 3 or any(each.is_alive() for each in weather):
            blowing = [each.name for each in weather if each.is_alive()]
            assert time.monotonic() < until, f"after {PATIENCE_S} s: {blowing}, {self.weather()}"
            time.sleep(0.5)
            if any(sum(self.messages(name)) for name in ("uploads", "launches", "jobs", "parts")):
                calm = 0
                continue
            calm += 1
            undone = self.ledger.count_images(PROJECT, [State.WAITING, State.WANTED, State.RUNNING])
            if calm > 2 and undone[State.WANTED] + undone[State.RUNNING]:
                calm = 0
                self._hours_later()
                self.counts["looks of reconcile, hours later"] += 1

    def _hours_later(self) -> None:
        system, later = self.system, timedelta(hours=2)

        def clock() -> datetime:
            return datetime.now(UTC) + later

        assert system.endpoint_url
        dynamodb = client("dynamodb", system.endpoint_url, system.region)
        services = Services.of(
            Settings(window_s=system.window_s),
            clock,
            ledger=Ledger(system.table, client=dynamodb, clock=clock, workers=4),
            images=Bucket(system.image_bucket, client=self.s3),
            data=Bucket(system.data_bucket, client=self.s3),
            launches=Queue(system.queue("launches"), client=self.sqs),
            parts=Queue(system.queue("parts"), client=self.sqs),
            launcher=LocalLauncher(Queue(system.queue("jobs"), client=self.sqs)),
        )
        found = recover(services)
        assert not found.problems, found.problems
        self.counts["runs that died"] += len(found.failed)

    def weather(self) -> dict[str, Any]:
        queues = {name: self.messages(name) for name in self.system.queues}
        states = {str(state): count for state, count in self.ledger.count_images(PROJECT).items() if count}
        return {"queues": {name: each for name, each in queues.items() if any(each)}, "states": states}

    def rows(self) -> dict[str, Image]:
        """The ledger's rows by key."""
        rows: dict[str, Image] = {}
        for state in State:
            cursor = None
            while True:
                page = self.ledger.list_images(PROJECT, state, cursor=cursor)
                rows |= {row.key: row for row in page.rows}
                cursor = page.cursor
                if cursor is None:
                    break
        return rows


@pytest.fixture
def storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storm]:
    seed = int(os.environ.get("BOXDROP_STORM_SEED") or random.SystemRandom().randrange(10_000))
    home = tmp_path / "home"
    with_empty_database(home / "label-studio")
    aws_with_shared_venv(home / "aws")
    crashes = home / "crashes"
    crashes.mkdir()
    for point in POINTS:
        (crashes / point).touch()
    monkeypatch.setenv("BOXDROP_HOME", str(home))
    stack = Stack(home, "tests.e2e.crashing_pump")
    running = stack.up(free_port(), free_port(), quiet)
    yield Storm(stack, running, seed)
    stack.down(quiet)


def test_after_a_storm_every_image_is_where_it_belongs(
    storm: Storm, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nstorm: BOXDROP_STORM_SEED={storm.seed}")
    began = time.monotonic()
    weather = [
        threading.Thread(target=each, name=each.__name__, daemon=True)
        for each in (
            storm.upload,
            storm.deliver,
            storm.kill_jobs,
            storm.kill_functions,
            storm.stop_label_studio,
        )
    ]
    for each in weather:
        each.start()
    storm.pass_time(weather, began + PATIENCE_S)
    seconds = time.monotonic() - began

    left = list((storm.stack.folder / "crashes").iterdir())
    assert not left, "these deaths did not happen"
    outcome = agreement(storm)
    storm.counts["functions killed at fixed points"] = len(POINTS)
    with capsys.disabled():
        print(f"storm: {seconds:.0f} s; {counted(storm.counts)}\nstorm: at the end {counted(outcome)}")


def agreement(storm: Storm) -> Counter[str]:
    """Check the bucket, the ledger and Label Studio against each other; returns what there is."""
    project = storm.ledger.project(PROJECT)
    assert project is not None
    assert project.label_studio_id is not None
    assert project.generation == 2
    connection = connect(storm.running.label_studio.url, storm.running.label_studio.token)
    tasks: dict[str, list[Any]] = {}
    for task in connection.sdk.tasks.list(project=project.label_studio_id, fields="all", page_size=500):
        tasks.setdefault(task.data["image_id"], []).append(task)
    rows = storm.rows()
    assert rows.keys() == storm.expected.versions.keys()
    outcome: Counter[str] = Counter()
    wrong: list[str] = []
    for key, expected in storm.expected.versions.items():
        row, own = rows[key], tasks.pop(image_id(storm.system.image_bucket, key), [])
        if expected is None:
            right = row.state == State.GONE and len(own) <= 1
            right &= all(task.data.get("state") == "gone" for task in own)
            outcome["gone"] += 1
        elif not expected[1]:
            right = (row.state, row.version) == (State.FAILED, expected[0]) and bool(row.reason) and not own
            outcome[f"failed: {row.reason}"] += 1
        else:
            right = len(own) == 1 and shows(own[0], row, expected[0], project.model_version)
            outcome["tasked, with the newest version's boxes"] += 1
        if not right:
            wrong.append(f"{key}: expected {expected}, {row}, tasks {own}")
    assert not wrong, f"{len(wrong)} images, first {wrong[0]}"
    assert not tasks, "tasks of images that never were"
    dead = {name: storm.messages(name) for name in storm.system.queues if name.endswith("-dlq")}
    assert not any(map(sum, dead.values())), dead
    outcome["tasks"] = outcome["tasked, with the newest version's boxes"]
    outcome["dead letters"] = 0
    return outcome


def shows(task: Any, row: Image, version: str, model_version: str | None) -> bool:
    """Whether a task has the one prediction of this version, and the ledger knows it."""
    (state, shown) = row.state, (row.version, row.task_version, row.task_id)
    if state != State.TASKED or shown != (version, version, task.id) or len(task.predictions) != 1:
        return False
    data = task.data
    told = (data["version"], data["prediction_id"], data["model_version"])
    return told == (version, row.prediction_id, model_version) and (
        task.predictions[0].model_version == model_version
    )


def counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())
