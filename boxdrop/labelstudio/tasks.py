"""Reads, creates and changes the tasks of a project. `boxdrop.labelstudio.task_data` has what is in one."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from boxdrop.domain.annotations import time_of
from boxdrop.domain.errors import LabelStudioError
from boxdrop.labelstudio.connection import IMPORT_TIMEOUT_S, ONCE, Connection
from boxdrop.labelstudio.task_data import (
    ACCEPTED,
    LOOK_AGAIN_KEY,
    PRIORITY_KEY,
    certainty,
    fingerprint,
    shows_the_same,
    stored_version,
)

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Task:
    """A task that boxdrop made, as Label Studio lists it.

    Attributes:
        number: Label Studio's id of the task.
        image_id, version, prediction_id: what it shows, according to its data.
        state: its column *state*: tasked, accepted, verified, skipped, stale, gone or failed.
        shows: `fingerprint` of its data; empty if its prediction is missing, duplicated, or of another
            model_version than in its data, all of which a broken connection can cause.
        verified: it has a submitted annotation; a skip does not count.
        touched: an annotator worked on it: annotated, skipped, or left a draft.
        skipped: an annotator skipped it, and it has no annotation.
        reviewed_at: when the annotation that counts, else the skip, was saved, by Label Studio's clock.
    """

    number: int
    image_id: str
    version: str
    prediction_id: str
    state: str
    shows: str
    verified: bool
    touched: bool
    skipped: bool = False
    reviewed_at: datetime | None = None


class ProjectTasks:
    """The tasks of one project in Label Studio.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: its number.
        before_write: called right before each call that changes something; raises to prevent it.
    """

    def __init__(
        self, connection: Connection, project: int, before_write: Callable[[], None] = lambda: None
    ) -> None:
        self.project = project
        self._connection = connection
        self._before_write = before_write
        self._shown_version: str | None = None

    def after(self, newest: int) -> Iterator[Task]:
        """Stream boxdrop's tasks with a higher number than `newest`, lowest first; other tasks are left out.

        Each page begins after the last number of the previous one, so deletions in the meantime make it skip
        no task.
        """
        while True:
            higher = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": newest}
            query = {"filters": {"conjunction": "and", "items": [higher]}, "ordering": ["tasks:id"]}
            listed = self._list(query, fields="all", include=_KNOWN)
            yield from filter(None, map(_known, listed))
            if len(listed) < _PAGE:
                return
            newest = listed[-1]["id"]

    def read(self, numbers: Iterable[int]) -> dict[int, Task]:
        """boxdrop's tasks by number; deleted ones are missing."""
        found: dict[int, Task] = {}
        listed = list(numbers)
        for start in range(0, len(listed), _PAGE):
            query = {"selectedItems": {"all": False, "included": listed[start : start + _PAGE]}}
            for task in filter(None, map(_known, self._list(query, fields="all", include=_KNOWN))):
                found[task.number] = task
        return found

    def create(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Import tasks, all or none.

        Raises:
            InDoubtError: the connection broke, so the outcome is unknown; list the tasks.
            LabelStudioError: refused, or Label Studio made another number of tasks or predictions than were
                sent.
        """
        self._before_write()
        # the SDK walks over every value first; this takes a sixth of the time
        answer = self._connection.request(
            f"import {len(tasks)} tasks into project {self.project}",
            "POST",
            f"/api/projects/{self.project}/import",
            timeout=IMPORT_TIMEOUT_S,
            params={"return_task_ids": "true"},
            json=list(tasks),
        )
        made = answer.get("task_count"), answer.get("prediction_count")
        if made != (len(tasks), len(tasks)):
            raise LabelStudioError(
                f"Label Studio made {made[0]} tasks and {made[1]} predictions of {len(tasks)} that were sent "
                f"to project {self.project}; check its log, then run this again"
            )

    def replace(
        self, contents: Mapping[int, Mapping[str, Any]], *, verified_too: bool = False
    ) -> dict[int, Task]:
        """Replace the predictions of tasks with newer ones.

        In place, since deleting a prediction would make the submit fail for an annotator who has the task
        open. The task's data is written last: it marks that everything before it was done.

        Args:
            contents: results of `to_task`, by task number.
            verified_too: also for annotated tasks; the annotations do not change.

        Returns:
            The current tasks. A task deleted in the meantime is missing; one verified in the meantime is
            unchanged.
        """
        done: dict[int, Task] = {}
        for listed in self._list(
            {"selectedItems": {"all": False, "included": list(contents)}},
            fields="all",
            include=f"{_KNOWN},predictions",
        ):
            task, content = _known(listed), contents.get(listed["id"])
            if task is None or content is None:
                continue
            if not task.verified or verified_too:
                if task.skipped:  # a newer prediction does not undo a review
                    content = {**content, "data": {**content["data"], "state": "skipped"}}
                if task.shows and shows_the_same(listed["data"], content["data"]):
                    content = {**content, "data": {**content["data"], **_kept(listed["data"], task)}}
                    self._describe(task.number, content)
                else:
                    self._replace(listed, content)
                data = content["data"]
                task = replace(
                    task,
                    version=data["version"],
                    prediction_id=data["prediction_id"],
                    state=data["state"],
                    shows=fingerprint(data),
                )
            done[task.number] = task
        return done

    def _replace(self, listed: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        sdk, number, prediction = self._connection.sdk, listed["id"], content["predictions"][0]
        current, *twins = sorted(each["id"] for each in listed["predictions"]) or [None]
        self._before_write()
        with self._connection.explaining(f"replace the prediction of task {number}"):
            if current is None:
                sdk.predictions.create(task=number, request_options=ONCE, **prediction)
            else:
                sdk.predictions.update(current, task=number, **prediction)
            for twin in twins:  # from a call whose response was lost
                sdk.predictions.delete(twin)
        self._describe(number, content)

    def _describe(self, number: int, content: Mapping[str, Any]) -> None:
        """Write a task's data, once its prediction is there."""
        self.show(content["predictions"][0]["model_version"])
        self._before_write()
        with self._connection.explaining(f"update task {number}"):
            self._connection.sdk.tasks.update(str(number), data=content["data"])

    def show(self, model_version: str) -> None:
        """Show this version to annotators: Label Studio shows only predictions of the project's version."""
        if model_version == self.shown_version:
            return
        self._before_write()
        with self._connection.explaining(f"show predictions of {model_version} in project {self.project}"):
            self._connection.sdk.projects.update(self.project, model_version=model_version)
        self._shown_version = model_version

    @property
    def shown_version(self) -> str:
        """The model_version whose predictions annotators see in the label stream; empty before the first."""
        if self._shown_version is None:
            with self._connection.explaining(f"read project {self.project}"):
                self._shown_version = self._connection.sdk.projects.get(self.project).model_version or ""
        return self._shown_version

    def rank(self, doubts: Mapping[int, float]) -> int:
        """Set the priority of tasks that nobody has verified: the column, and the score that orders them.

        Call it under the project's lease: others that write a task's data then wait.

        Args:
            doubts: by task number; those that are gone are left out.

        Returns:
            How many tasks were changed.
        """
        same: dict[float, list[int]] = {}  # numbers of tasks by their new priority
        query = {"selectedItems": {"all": False, "included": list(doubts)}}
        for listed in self._list(query, fields="all", include=f"{_KNOWN},predictions"):
            task, data = _known(listed), listed["data"] or {}
            doubt = doubts.get(listed["id"])
            if task is None or doubt is None or task.verified or data.get(PRIORITY_KEY) == round(doubt, 2):
                continue
            self._before_write()
            with self._connection.explaining(f"set the priority of task {task.number}"):
                for prediction in listed["predictions"]:
                    self._connection.sdk.predictions.update(
                        prediction["id"], task=task.number, score=certainty(doubt)
                    )
            same.setdefault(round(doubt, 2), []).append(task.number)
        # The data comes last: it says that everything before it was done.
        for priority, numbers in same.items():
            self._write_all(numbers, PRIORITY_KEY, priority)
        return sum(map(len, same.values()))

    def note(self, texts: Mapping[int, str]) -> None:
        """Write what to look at again into tasks, and empty it in all others.

        Call it under the project's lease: others that write a task's data then wait.

        Args:
            texts: by task number; those that are gone are left out.
        """
        noted = {"filter": f"filter:tasks:data.{LOOK_AGAIN_KEY}", "operator": "empty", "type": "String"}
        query: dict[str, Any] = {
            "filters": {"conjunction": "and", "items": [{**noted, "value": False}]},
            "ordering": ["tasks:id"],
        }
        before = self._list(query, fields="task_only", include="id,data")
        listed = {each["id"]: each for each in before}
        missing = [number for number in texts if number not in listed]
        for start in range(0, len(missing), _PAGE):
            chosen = {"selectedItems": {"all": False, "included": missing[start : start + _PAGE]}}
            listed |= {each["id"]: each for each in self._list(chosen, fields="task_only", include="id,data")}
        for number, each in listed.items():
            text, data = texts.get(number, ""), each["data"] or {}
            if data.get(LOOK_AGAIN_KEY, "") != text:
                self._before_write()
                with self._connection.explaining(f"note what to look at in task {number}"):
                    self._connection.sdk.tasks.update(str(number), data={**data, LOOK_AGAIN_KEY: text})

    def mark(self, number: int, state: str) -> bool:
        """Write the image's state into the task's data; False if the task does not exist."""
        query = {"selectedItems": {"all": False, "included": [number]}}
        listed = self._list(query, fields="task_only", include="id,data")
        if not listed:
            return False
        data = listed[0]["data"] or {}
        if data.get("state") != state:
            self._before_write()
            with self._connection.explaining(f"mark task {number} as {state}"):
                self._connection.sdk.tasks.update(str(number), data={**data, "state": state})
        return True

    def mark_all(self, numbers: Sequence[int], state: str) -> None:
        """Write a state into the data of many tasks, in one call per 1,000.

        Call it under the project's lease: others that write a task's data then wait.
        """
        for start in range(0, len(numbers), _PAGE):
            self._write_all(numbers[start : start + _PAGE], "state", state)

    def _write_all(self, numbers: Sequence[int], name: str, value: str | float) -> None:
        """Write one value into the data of several tasks, by the Data Manager's own action."""
        self._before_write()
        self._connection.request(
            f"set {name} of {len(numbers)} tasks of project {self.project} to {value}",
            "POST",
            "/api/dm/actions",
            timeout=IMPORT_TIMEOUT_S,
            params={"id": "add_data_field", "project": self.project},
            json={
                "project": self.project,
                "selectedItems": {"all": False, "included": list(numbers)},
                "value_name": name,
                "value_type": "String" if isinstance(value, str) else "Number",
                "value": value,
            },
        )

    def in_state(self, state: str) -> list[Task]:
        """boxdrop's tasks whose column *state* says this, lowest number first."""
        said = {"filter": "filter:tasks:data.state", "operator": "equal", "type": "String", "value": state}
        found: list[Task] = []
        newest = 0
        while True:
            higher = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": newest}
            query = {"filters": {"conjunction": "and", "items": [said, higher]}, "ordering": ["tasks:id"]}
            listed = self._list(query, fields="all", include=_KNOWN)
            found += filter(None, map(_known, listed))
            if len(listed) < _PAGE:
                return found
            newest = listed[-1]["id"]

    def delete_twin(self, number: int) -> bool:
        """Delete the second task of an image, after checking that no annotator has worked on it."""
        task = self.read([number]).get(number)
        if task is None or task.touched:
            return False
        self._before_write()
        with self._connection.explaining(f"delete task {number}, the second one of its image"):
            self._connection.sdk.tasks.delete(str(number))
        return True

    def _list(self, query: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
        """List at most `_PAGE` tasks, as plain JSON: the SDK's models take as long as the server itself.

        Without ``resolve_uri``, image addresses come as stored, and a third faster.
        """
        which = {"project": self.project, "query": json.dumps(query), "page_size": _PAGE}
        listed: list[dict[str, Any]] = self._connection.request(
            f"list the tasks of project {self.project}",
            "GET",
            "/api/tasks/",
            params={**which, "resolve_uri": "false", **options},
        )["tasks"]
        return listed


_KNOWN: Final = (
    "id,data,total_annotations,cancelled_annotations,draft_exists,"
    "total_predictions,predictions_model_versions,annotations,was_cancelled,updated_at"
)
"""Read with ``fields="all"``, which is as fast: with ``task_only``, Label Studio 1.23 omits drafts and the
versions of predictions. ``include`` also selects fields of annotations: their times show whether the ledger
knows the newest work (0.7 s for 500 tasks instead of 0.5)."""


def _kept(data: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """What other commands learned about the boxes of a task, while these stay the same."""
    kept = {key: data[key] for key in (PRIORITY_KEY, LOOK_AGAIN_KEY) if key in data}
    return kept | ({"state": ACCEPTED} if task.state == ACCEPTED and not task.touched else {})


def _known(listed: Mapping[str, Any]) -> Task | None:
    """A listed task, if boxdrop made it."""
    data = listed["data"] or {}
    identity = data.get("image_id")
    if not isinstance(identity, str):
        return None
    predictions = (listed["total_predictions"], listed["predictions_model_versions"])
    whole = predictions == (1, stored_version(data))
    annotated = bool(listed["total_annotations"])
    work = listed.get("annotations") or []
    counting = [each for each in work if not each.get("was_cancelled")] or work
    times = [time for each in counting if (time := time_of(each.get("updated_at"))) is not None]
    return Task(
        number=listed["id"],
        image_id=identity,
        version=str(data.get("version", "")),
        prediction_id=str(data.get("prediction_id", "")),
        state=str(data.get("state", "")),
        shows=fingerprint(data) if whole else "",
        verified=annotated,
        touched=annotated or bool(listed["cancelled_annotations"] or listed["draft_exists"]),
        skipped=bool(listed["cancelled_annotations"]) and not annotated,
        reviewed_at=max(times, default=None),
    )
