"""dispatch: mark events of the image bucket in the ledger, and request a launch.

It only marks. A crash loses nothing: the message is delivered again, and marking is idempotent.

A project is a folder of the image bucket: the deepest one above an image that has a ``labels.yaml``, else the
first of its key (``fruit`` for ``fruit/2026/a.jpg``). An image keeps the project in which it was first seen;
only while it waits for labels does it move to a folder further down that becomes a project.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from boxdrop.aws.s3_events import Happened, ObjectEvent, parse_events
from boxdrop.aws.sqs import Queue
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import image_id
from boxdrop.domain.image_names import is_image_name, is_own_key, reason_of_key
from boxdrop.domain.left_out import LeftOut
from boxdrop.domain.times import time_text
from boxdrop.iterables import chunked
from boxdrop.ledger import Image, Outcome, Project, Result, Sighting, State
from boxdrop.pipeline.labels import FILE, Stored, ancestors, store_labels
from boxdrop.services import Services

_LOOKS: Final = 20  # tries at an object whose row keeps changing
_IN_VAIN: Final = 3  # consecutive messages that cannot be marked, after which the others are not tried
_IMAGES_CHANGED: Final = "IMAGES_CHANGED"  # `boxdrop.labelstudio.webhook.IMAGES_CHANGED`
_TASKS_IN_A_MESSAGE: Final = 20  # collect reads each of them from Label Studio


@dataclass(frozen=True, slots=True)
class DispatchSummary:
    """The outcome for a batch of messages.

    Attributes:
        failed: ids of the messages to retry, each with the reason.
        wanted, gone: images by project that changed to this state.
        labels: by project, the outcome for a ``labels.yaml``.
        ignored: events about anything but an image or a ``labels.yaml`` in a folder of the image bucket.
        left_out: the reasons of those in the image bucket, except for boxdrop's own files.
        asked: projects for which a launch was requested.
    """

    failed: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, int] = field(default_factory=dict)
    gone: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, Stored] = field(default_factory=dict)
    ignored: int = 0
    left_out: Mapping[LeftOut, int] = field(default_factory=dict)
    asked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Event:
    """An event and its message."""

    message: str
    about: ObjectEvent

    @property
    def key(self) -> str:
        return self.about.key


def dispatch(services: Services, messages: Mapping[str, str]) -> DispatchSummary:
    """Mark the events of messages in the ledger; see `Dispatcher.dispatch`."""
    return Dispatcher(services).dispatch(messages)


class Dispatcher:
    """Marks events about objects of the image bucket in the ledger; ignores other events."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ledger = services.ledger
        self._images = services.images

    def dispatch(self, messages: Mapping[str, str]) -> DispatchSummary:
        """Mark the events of messages, given by message id: S3 events as `boxdrop.aws.s3_events` reads them.

        A message that cannot be handled fails alone, whatever the error. If the ledger cannot be reached, all
        fail.
        """
        failed: dict[str, str] = {}
        labels: dict[str, Stored] = {}
        counts: dict[str, Counter[str]] = {"wanted": Counter(), "gone": Counter()}
        asked: set[str] = set()
        left_out: Counter[LeftOut] = Counter()
        events, ignored = self._read(messages, failed, left_out)
        uploads: list[_Event] = []
        for event in events:
            project, _, name = event.key.rpartition("/")
            if name != FILE:
                uploads.append(event)
            elif event.about.happened != Happened.DELETED:  # if the file is deleted, the labels in force stay
                with _failing(failed, event.message):
                    labels[project] = store_labels(self._services, project, event.about.sequencer)
                    if labels[project] in (Stored.STORED, Stored.UNCHANGED):
                        asked.add(project)
        self._mark_all(uploads, failed, counts, asked)
        try:
            window_s = self._services.settings.window_s
            ask_for_launch(self._services.launches, sorted(asked), window_s, self._services.clock())
        except BoxdropError as error:  # retry all: it is unknown for which projects the request failed
            failed |= dict.fromkeys(messages, str(error))
        return DispatchSummary(
            failed,
            dict(counts["wanted"]),
            dict(counts["gone"]),
            labels,
            ignored,
            dict(left_out),
            tuple(sorted(asked)),
        )

    def _read(
        self, messages: Mapping[str, str], failed: dict[str, str], left_out: Counter[LeftOut]
    ) -> tuple[list[_Event], int]:
        events: dict[_Event, None] = {}
        doubtful: list[_Event] = []
        ignored = 0
        for number, body in messages.items():
            try:
                for about in parse_events(body):
                    if about.happened == Happened.OTHER:  # tags and test events do not concern us
                        continue
                    event = _Event(number, about)
                    if about.bucket != self._images.name:
                        ignored += 1
                    elif is_own_key(about.key):
                        if about.key.endswith(f"/{FILE}"):
                            events[event] = None
                        else:
                            ignored += 1
                    elif (reason := reason_of_key(about.key)) is None:
                        events[event] = None
                    elif reason == LeftOut.HIDDEN and is_image_name(about.key):
                        doubtful.append(event)
                    else:
                        ignored += 1
                        left_out[reason] += 1
            except Exception as error:  # a message is external input: whatever it causes, it fails alone
                failed[number] = _reason(error)
        known = self._known(doubtful, failed)
        events |= dict.fromkeys(known)
        if len(known) < len(doubtful):
            left_out[LeftOut.HIDDEN] += len(doubtful) - len(known)
        return list(events), ignored + len(doubtful) - len(known)

    def _known(self, events: Sequence[_Event], failed: dict[str, str]) -> list[_Event]:
        """The events about images with a row: earlier versions accepted images in hidden folders."""
        if not events:
            return []
        try:
            rows = self._ledger.images(image_id(self._images.name, event.key) for event in events)
        except Exception as error:
            failed |= {event.message: _reason(error) for event in events}
            return []
        return [event for event in events if image_id(self._images.name, event.key) in rows]

    def _mark_all(
        self,
        events: Sequence[_Event],
        failed: dict[str, str],
        counts: Mapping[str, Counter[str]],
        asked: set[str],
    ) -> None:
        """Mark events together, since twenty parallel writes take as long as one; if that fails, message by
        message."""
        messages: dict[str, list[_Event]] = {}
        for event in events:
            messages.setdefault(event.message, []).append(event)
        try:
            return self._mark(events, failed, counts, asked)
        except Exception as error:
            reason = _reason(error)
        if len(messages) < 2:
            failed |= dict.fromkeys(messages, reason)
            return None
        marked = 0
        for number, (message, some) in enumerate(messages.items()):
            # the ledger is unreachable: each message would wait for it again
            if number == _IN_VAIN and not marked:
                failed |= dict.fromkeys(list(messages)[number:], reason)
                break
            with _failing(failed, message):
                self._mark(some, failed, counts, asked)
                marked += 1
        return None

    def _mark(
        self,
        events: Sequence[_Event],
        failed: dict[str, str],
        counts: Mapping[str, Counter[str]],
        asked: set[str],
    ) -> None:
        folders = {event.key.rpartition("/")[0] for event in events}
        projects = self._projects(folders)
        marked: list[tuple[_Event, Result[Image]]] = []
        looked: list[tuple[_Event, Image | None]] = []
        by_project: dict[tuple[str, bool], list[tuple[_Event, Sighting]]] = {}
        rows = self._ledger.images(
            image_id(self._images.name, event.key)
            for event in events
            if event.about.happened == Happened.VERSION_DELETED
        )
        for event in events:
            sighting = self._sighting(event.about, projects[event.key.rpartition("/")[0]].name)
            if event.about.happened == Happened.DELETED or sighting.version is not None:
                gone = event.about.happened == Happened.DELETED
                by_project.setdefault((sighting.project, gone), []).append((event, sighting))
            else:  # the event does not say what the object is now
                looked.append((event, rows.get(sighting.image_id)))
        for (name, gone), some in by_project.items():
            sightings = [sighting for _, sighting in some]
            results = (
                self._ledger.mark_gone(sightings)
                if gone
                else self._ledger.want(sightings, projects_by_name(projects)[name].generation)
            )
            for (event, _), result in zip(some, results, strict=True):
                if result.outcome == Outcome.UNORDERED:
                    looked.append((event, result.row))
                else:
                    marked.append((event, result))
        for event, row in looked:
            with _failing(failed, event.message):
                seen = self._look(event.about, row, projects[event.key.rpartition("/")[0]])
                if seen is not None:
                    marked.append((event, seen))
        self._catch_up(marked, folders, projects)
        self._show(row for _, result in marked if (row := result.row) is not None)
        for _, result in marked:
            if result.row is None:
                continue
            if result.outcome == Outcome.APPLIED and result.row.state == State.GONE:
                counts["gone"][result.row.project] += 1
            elif result.outcome == Outcome.APPLIED:
                counts["wanted"][result.row.project] += 1
            # Even if it was marked before: the process that marked it may have crashed before the request.
            if result.row.state == State.WANTED:
                asked.add(result.row.project)

    def _show(self, rows: Iterable[Image]) -> None:
        """Ask collect to mark the tasks of overwritten or deleted images; twice is harmless."""
        if "reviews" not in self._services.makers:  # then the next publication marks them
            return
        due: dict[str, list[int]] = {}
        for row in rows:
            if row.flag_is_due and row.task_id is not None:
                due.setdefault(row.project, []).append(row.task_id)
        if not due:
            return
        numbers = {name: each.label_studio_id for name, each in self._ledger.projects_named(due).items()}
        self._services.reviews.send_all(
            {"action": _IMAGES_CHANGED, "project": number, "tasks": list(some), "annotations": []}
            for name, tasks in due.items()
            if (number := numbers.get(name)) is not None
            for some in chunked(tasks, _TASKS_IN_A_MESSAGE)
        )

    def _sighting(self, event: ObjectEvent, project: str) -> Sighting:
        identity = image_id(event.bucket, event.key)
        return Sighting(identity, project, event.bucket, event.key, event.version, event.sequencer)

    def _look(self, event: ObjectEvent, row: Image | None, project: Project) -> Result[Image] | None:
        """Events without an order, or about one version: ask S3 what the object is now."""
        for _ in range(_LOOKS):
            version = self._images.version(event.key)
            if row is None:
                if version is None and event.happened == Happened.VERSION_DELETED:
                    return None  # an unknown image that does not exist
                sighting = replace(self._sighting(event, project.name), version=version)
                (result,) = (
                    self._ledger.mark_gone([sighting])
                    if version is None
                    else self._ledger.want([sighting], project.generation)
                )
                if result.outcome != Outcome.UNORDERED:
                    return result
            else:
                generation = project.generation if row.project == project.name else row.generation
                result = self._ledger.observe(row, version, generation)
                if result.outcome != Outcome.SUPERSEDED:
                    return result
            row = result.row
        raise BoxdropError(f"s3://{event.bucket}/{event.key} changes faster than it can be read; try again")

    def _catch_up(
        self,
        marked: list[tuple[_Event, Result[Image]]],
        folders: Iterable[str],
        before: Mapping[str, Project],
    ) -> None:
        """Labels may have come into force while rows were written: their sweep did not see these rows."""
        now = self._projects(folders)
        named = projects_by_name(now)
        behind: dict[str, list[int]] = {}
        for number, (event, result) in enumerate(marked):
            row = result.row
            if row is None or row.state in (State.GONE, State.VERIFIED, State.STALE):
                continue
            heir = now[event.key.rpartition("/")[0]]
            if row.state == State.WAITING and row.project != heir.name:
                (adopted,) = self._ledger.adopt([row], heir.name, heir.generation)
                marked[number] = event, Result(result.outcome, adopted.row)
            elif row.project in named and row.generation < named[row.project].oldest_generation:
                behind.setdefault(row.project, []).append(number)
        for name, numbers in behind.items():
            ids = [row.image_id for number in numbers if (row := marked[number][1].row) is not None]
            for number, renewed in zip(numbers, self._ledger.renew(ids, named[name].generation), strict=True):
                event, result = marked[number]
                marked[number] = event, Result(result.outcome, renewed.row)

    def _projects(self, folders: Iterable[str]) -> dict[str, Project]:
        """The project of each folder. A project without labels is created as well, so `status` can list
        it."""
        candidates = {folder: [folder, *ancestors(folder)] for folder in folders}
        names = {name for listed in candidates.values() for name in listed}
        known = self._ledger.projects_named(names)
        found: dict[str, Project] = {}
        for folder, listed in candidates.items():
            name = next((each for each in listed if each in known), listed[-1])
            if name not in known:
                made = self._ledger.make_project(name, self._images.name).row
                assert made is not None
                known[name] = made
            found[folder] = known[name]
        return found


def projects_by_name(projects: Mapping[str, Project]) -> dict[str, Project]:
    """Maps names to the projects of several folders."""
    return {project.name: project for project in projects.values()}


def ask_for_launch(
    launches: Queue, projects: Iterable[str], window_s: float = 0, asked_at: datetime | None = None
) -> None:
    """Ask launch to check projects for due labels and wanted images.

    Args:
        window_s: how long to let images gather.
        asked_at: now, for requests that are sent per batch of uploads: a later launch covers all earlier
            requests. Without it, launch always checks.

    Raises:
        QueueError: retry.
    """
    mark = {} if asked_at is None else {"asked_at": time_text(asked_at)}
    launches.send_all(({"project": project, **mark} for project in projects), window_s)


@contextmanager
def _failing(failed: dict[str, str], message: str) -> Iterator[None]:
    """One message fails; the others continue."""
    try:
        yield
    except Exception as error:
        failed[message] = _reason(error)


def _reason(error: Exception) -> str:
    """The log text for a failed message."""
    return str(error) if isinstance(error, BoxdropError) else f"{type(error).__name__}: {error}"
