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
from boxdrop.domain.identity import image_id
from boxdrop.labelstudio.connection import connect
from boxdrop.ledger import Ledger, Project, State
from boxdrop.local.resources import PRESIGN, client
from boxdrop.local.stack import Running, Stack
from boxdrop.pipeline.backfill import backfill, list_objects
from boxdrop.pipeline.dispatch import Dispatcher
from boxdrop.pipeline.labels import apply_labels
from boxdrop.pipeline.prepare import prepare
from boxdrop.pipeline.recover import fail_run
from boxdrop.pipeline.sync import sync_project
from boxdrop.servers.server import Say
from boxdrop.services import Services, Settings, WebhookTarget
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
        self._services = Services.of(
            Settings(window_s=system.window_s),
            webhook=webhook,
            ledger=Ledger(system.table, client=client("dynamodb", endpoint, region)),
            images=Bucket(system.image_bucket, client=s3),
            data=Bucket(system.data_bucket, client=s3),
            launches=Queue(system.queue("launches"), client=sqs),
            label_studio=connect(running.label_studio.url, running.label_studio.token),
        )
        self._ledger, self._images = self._services.ledger, self._services.images

    def look_at_images(self) -> int:
        """Bring the rows to what is in the image bucket; returns how many objects there are."""
        for project in self._ledger.projects():
            for run in self._ledger.list_runs(project.name, limit=1000):
                if run.is_live:  # its job's message is lost
                    reason = "the system ended while it ran"
                    fail_run(self._services, project.name, run.run_id, reason, blameless=True)
        dispatcher = Dispatcher(self._services)
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
                tasks += sync_project(self._services, project.name, wait_s=_WAIT_S).tasks
        return tasks

    def prepare_projects(self) -> None:
        """Tell Label Studio where images and the webhook are now, for each project that has labels."""
        for project in self._ledger.projects():
            if project.stored_labels is not None and project.labels is None:
                apply_labels(self._services, project.name, limit=None)
        for project in self._ledger.projects():
            if project.labels is not None:
                self._prepare(project, project.labels)

    def _prepare(self, project: Project, labels: str) -> None:
        label_set = read_label_set(self._services.data, labels)
        prepare(self._services, project.name, label_set)
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
