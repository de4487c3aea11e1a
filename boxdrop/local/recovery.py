"""After a start: what moved is told to Label Studio, and what a crash has lost is found again.

AWS on this machine writes tables and queues down when it is stopped in order. After a crash, objects and
people's work are all there (each object on disk before its PUT was answered, Label Studio's own database),
while rows are old and messages gone. All rows can be made anew from those two; only the detector's time is
spent twice.
"""

import os
from collections.abc import Iterator
from typing import Final

from boxdrop.aws.s3 import Bucket, ListedObject
from boxdrop.aws.sqs import Queue
from boxdrop.identity import image_id
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.ledger import Ledger, Project, State
from boxdrop.local.resources import PRESIGN, client
from boxdrop.local.stack import Running, Stack
from boxdrop.pipeline.backfill import backfill, list_objects
from boxdrop.pipeline.collect import collect
from boxdrop.pipeline.dispatch import Dispatcher
from boxdrop.pipeline.labels import apply_labels
from boxdrop.pipeline.prepare import WebhookTarget, prepare
from boxdrop.pipeline.recover import fail_run
from boxdrop.pipeline.sync import sync_project
from boxdrop.servers.server import Say
from boxdrop.store.labelsets import read_label_set

_WAIT_S: Final = 600.0
_WITH_OBJECTS: Final = tuple(state for state in State if state != State.GONE)


def settle(stack: Stack, running: Running, say: Say) -> None:
    """Do what a start calls for; nothing, as a rule.

    Raises:
        BoxdropError: run `boxdrop local up` again: it goes on where this stopped.
    """
    if not (running.crashed or running.moved):
        return
    repair = Repair(running, stack.webhook())
    if running.crashed:
        say("AWS was not stopped in order: looking at every image, and at every task in Label Studio …")
        images = repair.look_at_images()
        tasks = repair.look_at_tasks()
        say(f"… {images:,} images and {tasks:,} tasks are in order; boxes that were lost are found again")
        stack.aws.recovered()
    else:
        say("An address is another one than last time: telling Label Studio …")
        repair.prepare_projects()


class Repair:
    """Makes rows anew from buckets and Label Studio. May run beside the system, and be repeated.

    From then on, this process talks to that system alone.

    Args:
        running: the system.
        webhook: where Label Studio shall tell that people worked.
    """

    def __init__(self, running: Running, webhook: WebhookTarget) -> None:
        system = running.system
        system.enter()
        os.environ.update(PRESIGN)  # for the bucket that Label Studio is told of
        assert system.endpoint_url is not None
        endpoint, region = system.endpoint_url, system.region
        s3, sqs = client("s3", endpoint, region), client("sqs", endpoint, region)
        self._ledger = Ledger(system.table, client=client("dynamodb", endpoint, region))
        self._images = Bucket(system.image_bucket, client=s3)
        self._data = Bucket(system.data_bucket, client=s3)
        self._launches = Queue(system.queue("launches"), client=sqs)
        self._window_s = system.window_s
        self._webhook = webhook
        self._connection: Connection = connect(running.label_studio.url, running.label_studio.token)

    def look_at_images(self) -> int:
        """Bring the rows to what is in the image bucket; returns how many objects there are."""
        for project in self._ledger.projects():
            for run in self._ledger.list_runs(project.name, limit=1000):
                if run.is_live:  # its job's message is lost
                    reason = "the system ended while it ran"
                    fail_run(self._ledger, self._launches, project.name, run.run_id, reason, blameless=True)
        dispatcher = Dispatcher(self._ledger, self._images, self._data, self._launches, self._window_s)
        seen: set[str] = set()

        def listing() -> Iterator[ListedObject]:
            for listed in list_objects(self._images, ""):
                seen.add(image_id(self._images.name, listed.key))
                yield listed

        done = backfill(dispatcher, self._images.name, listing())
        for project in self._ledger.projects():
            for state in _WITH_OBJECTS:
                self._find_gone(project.name, state, seen)
        return done.listed

    def look_at_tasks(self) -> int:
        """Bring the rows to what is in Label Studio; returns how many tasks of ours there are."""
        self.prepare_projects()
        tasks = 0
        for project in self._ledger.projects():
            if project.label_studio_id is not None:
                tasks += self._compare(project.name)
        return tasks

    def _compare(self, name: str) -> int:
        def look(number: int, image: str) -> object:
            return collect(self._ledger, self._connection, self._data, name, number, image_id=image)

        return sync_project(self._ledger, self._connection, name, collect=look, wait_s=_WAIT_S).tasks

    def prepare_projects(self) -> None:
        """Tell Label Studio where images and the webhook are now, for each project that has labels."""
        for project in self._ledger.projects():
            if project.stored_labels is not None and project.labels is None:
                apply_labels(self._ledger, self._data, project.name, limit=None)
        for project in self._ledger.projects():
            if project.labels is not None:
                self._prepare(project, project.labels)

    def _prepare(self, project: Project, labels: str) -> None:
        label_set = read_label_set(self._data, labels)
        prepare(self._ledger, self._connection, project.name, label_set, webhook=self._webhook)
        self._ledger.record_prepared(project.name, labels)

    def _find_gone(self, project: str, state: State, seen: set[str]) -> None:
        cursor: str | None = None
        while True:
            page = self._ledger.list_images(project, state, cursor=cursor)
            for row in page.rows:
                if row.image_id not in seen and self._images.version(row.key) is None:
                    self._ledger.observe(row, None, row.generation)
            cursor = page.cursor
            if cursor is None:
                return
