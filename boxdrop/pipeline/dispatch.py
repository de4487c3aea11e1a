"""dispatch: what happened in the image bucket is marked in the ledger, and a launch is asked for.

It only marks. A crash anywhere loses nothing: the message comes again, and marking twice is marking once.

A project is a folder of the image bucket: the deepest one above an image that has a ``labels.yaml``, else the
first of its key (``fruit`` for ``fruit/2026/a.jpg``). An image keeps the project that it was first seen in;
only while it waits for labels, it goes along when a folder further down becomes a project.
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

_LOOKS: Final = 20  # at one object whose row changes meanwhile
_IN_VAIN: Final = 3  # messages in a row that cannot be marked, after which the others are not tried
_IMAGES_CHANGED: Final = "IMAGES_CHANGED"  # `boxdrop.labelstudio.webhook.IMAGES_CHANGED`
_TASKS_IN_A_MESSAGE: Final = 20  # collect reads each of them from Label Studio


@dataclass(frozen=True, slots=True)
class DispatchSummary:
    """What became of some messages.

    Attributes:
        failed: ids of the messages to try again, each with the reason.
        wanted, gone: images by project that are so now, and were not before.
        labels: by project, what became of a ``labels.yaml``.
        ignored: events about anything but an image or a ``labels.yaml`` in a folder of the image bucket.
        left_out: the reasons of those of the image bucket, but for what boxdrop itself keeps there.
        asked: projects that a launch was asked for.
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
    """An event, and the message that it came in."""

    message: str
    about: ObjectEvent

    @property
    def key(self) -> str:
        return self.about.key


def dispatch(services: Services, messages: Mapping[str, str]) -> DispatchSummary:
    """Mark in the ledger what messages say; see `Dispatcher.dispatch`."""
    return Dispatcher(services).dispatch(messages)


class Dispatcher:
    """Marks in the ledger what messages say about objects of the image bucket; others are ignored."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ledger = services.ledger
        self._images = services.images

    def dispatch(self, messages: Mapping[str, str]) -> DispatchSummary:
        """Mark what messages say: S3's events, as `boxdrop.aws.s3_events` reads them, by message id.

        A message that cannot be handled, whatever the error, fails alone. Where the ledger cannot be reached,
        that is every one of them.
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
            elif event.about.happened != Happened.DELETED:  # without the file, the labels in force stay
                with _failing(failed, event.message):
                    labels[project] = store_labels(self._services, project, event.about.sequencer)
                    if labels[project] in (Stored.STORED, Stored.UNCHANGED):
                        asked.add(project)
        self._mark_all(uploads, failed, counts, asked)
        try:
            window_s = self._services.settings.window_s
            ask_for_launch(self._services.launches, sorted(asked), window_s, self._services.clock())
        except BoxdropError as error:  # everything again: nobody knows whose project was not asked for
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
                    if about.happened == Happened.OTHER:  # tags, test events: about nothing of ours
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
            except Exception as error:  # a message is somebody else's text: whatever it does, it does alone
                failed[number] = _reason(error)
        known = self._known(doubtful, failed)
        events |= dict.fromkeys(known)
        if len(known) < len(doubtful):
            left_out[LeftOut.HIDDEN] += len(doubtful) - len(known)
        return list(events), ignored + len(doubtful) - len(known)

    def _known(self, events: Sequence[_Event], failed: dict[str, str]) -> list[_Event]:
        """Those about images that have a row: earlier versions took images in hidden folders, too."""
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
        """Mark events together, as one write takes as long as twenty; if that fails, message by message."""
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
            if number == _IN_VAIN and not marked:  # the ledger is away: each would wait for it again
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
            else:  # the event tells not what the object is now
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
            # Also if it was so before: whoever marked it may have died before asking.
            if result.row.state == State.WANTED:
                asked.add(result.row.project)

    def _show(self, rows: Iterable[Image]) -> None:
        """Ask collect to mark the tasks of images that were overwritten or deleted: once more if in doubt."""
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
        """Events without an order, or about one version: what counts is what the object is now."""
        for _ in range(_LOOKS):
            version = self._images.version(event.key)
            if row is None:
                if version is None and event.happened == Happened.VERSION_DELETED:
                    return None  # an image that was never heard of, and is not there
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
        raise BoxdropError(
            f"s3://{event.bucket}/{event.key} changes faster than it can be looked at; try again"
        )

    def _catch_up(
        self,
        marked: list[tuple[_Event, Result[Image]]],
        folders: Iterable[str],
        before: Mapping[str, Project],
    ) -> None:
        """Labels may have come while rows were written: whoever brought them did not see these rows."""
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
            elif row.project in named and row.generation < named[row.project].generation:
                behind.setdefault(row.project, []).append(number)
        for name, numbers in behind.items():
            ids = [row.image_id for number in numbers if (row := marked[number][1].row) is not None]
            for number, renewed in zip(numbers, self._ledger.renew(ids, named[name].generation), strict=True):
                event, result = marked[number]
                marked[number] = event, Result(result.outcome, renewed.row)

    def _projects(self, folders: Iterable[str]) -> dict[str, Project]:
        """The project of each folder. One without labels is made, so that `status` can tell of it."""
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
    """Projects of several folders by their names."""
    return {project.name: project for project in projects.values()}


def ask_for_launch(
    launches: Queue, projects: Iterable[str], window_s: float = 0, asked_at: datetime | None = None
) -> None:
    """Ask for a look at projects: labels that are due, images that are wanted.

    Args:
        window_s: how long to let images gather.
        asked_at: now, where others ask, too, for each batch of uploads: a launch that came later answers
            this one. Without it, the look is taken in any case.

    Raises:
        QueueError: ask again.
    """
    mark = {} if asked_at is None else {"asked_at": time_text(asked_at)}
    launches.send_all(({"project": project, **mark} for project in projects), window_s)


@contextmanager
def _failing(failed: dict[str, str], message: str) -> Iterator[None]:
    """One message fails, and the others go on."""
    try:
        yield
    except Exception as error:
        failed[message] = _reason(error)


def _reason(error: Exception) -> str:
    """What the log says of a message that failed."""
    return str(error) if isinstance(error, BoxdropError) else f"{type(error).__name__}: {error}"
