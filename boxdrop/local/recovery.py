"""After a start: report changed addresses to Label Studio, and recover what a crash lost.

The local AWS saves tables and queues when it stops cleanly. After a crash, objects and annotators' work are
complete (each object is on disk before its PUT returns; Label Studio has its own database), but rows are old
and messages lost. All rows can be rebuilt from those two; only the detector has to run again.
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
from boxdrop.pipeline.boxes import restore_boxes
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
    """Recover after a start; usually there is nothing to do.

    Raises:
        BoxdropError: run `boxdrop local up` again; it continues where this stopped.
    """
    if not (running.crashed or running.moved):
        return
    repair = Repair(running, stack.webhook())
    if running.crashed:
        say("AWS was not stopped cleanly: checking every image, and every task in Label Studio …")
        images = repair.look_at_images()
        tasks = repair.look_at_tasks()
        say(f"… checked {images:,} images and {tasks:,} tasks; lost boxes are detected again")
        stack.aws.recovered()
    else:
        say("An address has changed since last time: updating Label Studio …")
        repair.prepare_projects()
    stack.told()


class Repair:
    """Rebuilds rows from buckets and Label Studio. May run while the system is up, and be repeated.

    From then on, this process connects only to that system.

    Args:
        running: the system.
        webhook: the address for Label Studio's webhook.
    """

    def __init__(self, running: Running, webhook: WebhookTarget) -> None:
        system = running.system
        system.enter()
        os.environ.update(PRESIGN)  # for the bucket that is set up in Label Studio
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
        """Update the rows from the image bucket; returns how many objects there are."""
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
            restore_boxes(self._services, project.name)
            for state in _WITH_OBJECTS:
                self._find_gone(project.name, state, seen)
        return done.listed

    def look_at_tasks(self) -> int:
        """Update the rows from Label Studio; returns how many tasks of boxdrop there are."""
        self.prepare_projects()
        tasks = 0
        for project in self._ledger.projects():
            if project.label_studio_id is not None:
                tasks += sync_project(self._services, project.name, wait_s=_WAIT_S).tasks
        return tasks

    def prepare_projects(self) -> None:
        """Update the addresses of images and webhook in Label Studio, for each project that has labels."""
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
