"""The invariants of docs/architecture.md, each checked on evidence alone.

A rule yields a `Violation` for each image that breaks it. Rules hold only when nothing moves any more: while
messages are on their way, an image may well have no task yet.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tests.judge.evidence import Evidence
from tests.judge.journal import Done, image_id_of

_SAME_PX = 0.6  # documents hold pixels, Label Studio percentages
_TOP = re.compile(
    r"(annotations|boxes|bundles|datasets|display|labelsets|lessons|predictions|reviews|runs|sagemaker|tracked"
    r"|zenml)/"
)
_UNDONE = ("waiting", "wanted", "running")


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant.

    Attributes:
        invariant: its name.
        about: the image's key, or whatever else it is about.
        found: what was found instead, for people.
    """

    invariant: str
    about: str
    found: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.about}: {self.found}"


class Case:
    """The evidence, indexed; and what has to be."""

    def __init__(self, evidence: Evidence, done: Done) -> None:
        self.evidence, self.done = evidence, done
        self.rows = {row["key"]: row for row in evidence.rows if row["sk"] == "image"}
        self.projects = {row["name"]: row for row in evidence.rows if row["sk"] == "project"}
        self.numbers = {
            row["label_studio_id"]: name for name, row in self.projects.items() if "label_studio_id" in row
        }
        self.shown = {project["id"]: project for project in evidence.projects}
        self.tasks: defaultdict[str, list[Any]] = defaultdict(list)
        self.annotations: dict[int, tuple[Any, Any]] = {}
        for task in evidence.tasks:
            identity = task["data"].get("image_id")
            if task["project"] in self.numbers and identity and task["id"] not in done.own_tasks:
                self.tasks[identity].append(task)
            for annotation in task["annotations"]:
                self.annotations[annotation["id"]] = task, annotation
        self.names = {image_id_of(evidence.bucket, key): key for key in {*done.objects, *self.rows}}
        self.documents: defaultdict[str, list[Any]] = defaultdict(list)
        for key, document in evidence.documents.items():
            self.documents[document.get("image_id", key)].append(document)

    def identity(self, key: str) -> str:
        return image_id_of(self.evidence.bucket, key)

    def tasks_of(self, key: str) -> list[Any]:
        return self.tasks[self.identity(key)]

    def project_of(self, key: str) -> Mapping[str, Any] | None:
        row = self.rows.get(key)
        return None if row is None else self.projects.get(row["project"])

    def present(self) -> Iterator[tuple[str, str]]:
        """Keys and versions of what is an image now."""
        for key, version in self.done.objects.items():
            if version is not None and self.done.readable[key]:
                yield key, version

    def is_person_s(self, task: Any) -> bool:
        """Whether a person submitted or skipped something: then the task is not touched any more."""
        return bool(task["annotations"])


def violations(evidence: Evidence, done: Done) -> list[Violation]:
    """Everything that is wrong."""
    case = Case(evidence, done)
    rules = (
        _bucket_is_as_left,
        _one_row_per_image,
        _one_task_per_image,
        _one_current_prediction,
        _rows_agree_with_tasks,
        _documents_equal_annotations,
        _work_is_unharmed,
        _nothing_is_foreign,
        _labels_are_in_force,
        _projects_are_connected,
        _people_see_images,
        _nothing_is_dead_or_stuck,
    )
    return [found for rule in rules for found in rule(case)]


def _bucket_is_as_left(case: Case) -> Iterator[Violation]:
    """The product never writes or deletes a person's images."""
    left = {key: version for key, version in case.done.objects.items() if version is not None}
    for key in sorted(left.keys() | case.evidence.images.keys()):
        if left.get(key) != case.evidence.images.get(key):
            found = f"left {left.get(key)}, now {case.evidence.images.get(key)}"
            yield Violation("the image bucket is as people left it", key, found)


def _one_row_per_image(case: Case) -> Iterator[Violation]:
    name = "each object has one row of the ledger, with its version"
    seen: set[str] = set()
    for row in case.evidence.rows:
        if row["sk"] == "image":
            if row["key"] in seen:
                yield Violation(name, row["key"], "two rows")
            seen.add(row["key"])
            if row["key"] not in case.done.objects:
                yield Violation(name, row["key"], f"a row without an object: {_short(row)}")
            if not row["key"].startswith(f"{row['project']}/"):
                yield Violation(name, row["key"], f"it is in the project {row['project']}")
    for key, version in case.done.objects.items():
        found = case.rows.get(key)
        if found is None:
            if version is not None:
                yield Violation(name, key, "no row")
        elif found.get("version") != version or (version is None) != (found["state"] == "gone"):
            yield Violation(name, key, f"the object is {version}, the row {_short(found)}")


def _has_labels(case: Case, key: str) -> bool:
    project = case.project_of(key)
    return project is not None and "labels" in project


def _one_task_per_image(case: Case) -> Iterator[Violation]:
    name = "one task per image"
    for key, version in case.done.objects.items():
        tasks, row = case.tasks_of(key), case.rows.get(key, {})
        numbers = [task["id"] for task in tasks]
        if len(tasks) > 1:
            yield Violation(name, key, f"tasks {numbers}")
        elif version is None or row.get("state") in _UNDONE:
            continue  # one that was deleted may have had a task; the rule of what is stuck has the others
        elif case.done.readable[key] and not tasks and _has_labels(case, key):
            yield Violation(name, key, f"no task; {_short(row)}")


def _one_current_prediction(case: Case) -> Iterator[Violation]:
    name = "one current prediction per task"
    for key, version in case.present():
        project, row = case.project_of(key), case.rows.get(key, {})
        if project is None or row.get("state") in _UNDONE:
            continue
        for task in case.tasks_of(key):
            data = task["data"]
            if len(task["predictions"]) != 1:
                yield Violation(name, key, f"task {task['id']} has {len(task['predictions'])}")
                continue
            (prediction,) = task["predictions"]
            yield from _regions_are_valid(name, key, task, prediction, case)
            if prediction["model_version"] != data.get("shown_as", data["model_version"]):
                found = f"task {task['id']} names {data['model_version']}, its prediction "
                yield Violation(name, key, found + prediction["model_version"])
            if case.is_person_s(task):
                continue
            if data["version"] != version:
                yield Violation(
                    name, key, f"the object is {version}, task {task['id']} is of {data['version']}"
                )
            wanted = f"{project.get('bundle_name')}@{str(project.get('detection'))[:8]}"
            if data["model_version"] != wanted and not row.get("boxes"):
                yield Violation(
                    name, key, f"task {task['id']} is by {data['model_version']}, not by {wanted}"
                )
            shown = case.shown[task["project"]]["model_version"]
            if shown and shown != prediction["model_version"] and not row.get("boxes"):
                found = f"the project shows {shown}, the prediction is by {prediction['model_version']}"
                yield Violation(name, key, found)


def _regions_are_valid(name: str, key: str, task: Any, prediction: Any, case: Case) -> Iterator[Violation]:
    labels = set(re.findall(r'<Label value="([^"]*)"', case.shown[task["project"]]["label_config"] or ""))
    for region in prediction["result"]:
        value = region["value"]
        right, bottom = value["x"] + value["width"], value["y"] + value["height"]
        inside = min(value["x"], value["y"]) >= -0.01 and max(right, bottom) <= 100.01
        if not inside or not {_escaped(each) for each in value["rectanglelabels"]} <= labels:
            yield Violation(name, key, f"task {task['id']} has the region {value}; labels {sorted(labels)}")


def _escaped(label: str) -> str:
    return label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _rows_agree_with_tasks(case: Case) -> Iterator[Violation]:
    name = "the ledger agrees with Label Studio"
    for key, version in case.done.objects.items():
        row, tasks = case.rows.get(key), case.tasks_of(key)
        if row is None or len(tasks) > 1:
            continue
        state = row["state"]
        if version is not None and not case.done.readable[key]:
            verified = any(_counts(each) for task in tasks for each in task["annotations"])
            if state == "failed" and not (row.get("reason") and row.get("message")):
                yield Violation(name, key, f"failed without a reason: {_short(row)}")
            if state not in ("failed", *_UNDONE) and not (verified and state == "stale"):
                yield Violation(name, key, f"not an image, but {state}")
            continue
        if state == "failed" and version is not None:
            yield Violation(name, key, f"an image that can be read has failed: {_short(row)}")
        for task in tasks:
            if row.get("task_id") != task["id"]:
                yield Violation(name, key, f"its task is {task['id']}; {_short(row)}")
            if case.numbers.get(task["project"]) != row["project"]:
                found = f"task {task['id']} is in the project {case.numbers.get(task['project'])}"
                yield Violation(name, key, f"{found}; {_short(row)}")
            if state in _UNDONE:
                continue
            wanted = _wanted_state(case, key, version, task)
            if state != wanted:
                yield Violation(name, key, f"it is {state}, should be {wanted}; {_short(row)}")
                continue
            skipped = wanted == "tasked" and case.is_person_s(task)
            shows = task["data"].get("state")
            if shows != wanted and not (skipped and shows == "skipped"):
                yield Violation(name, key, f"it is {state}, its task shows {shows}")
            if state == "tasked" and not case.is_person_s(task):
                told = task["data"]["version"], task["data"]["prediction_id"]
                if told != (row.get("task_version"), row.get("prediction_id")):
                    yield Violation(name, key, f"task {task['id']} shows {told}; {_short(row)}")


def _wanted_state(case: Case, key: str, version: str | None, task: Any) -> str:
    if version is None:
        return "gone"
    if not any(_counts(each) for each in task["annotations"]):
        return "tasked"
    versions = [document.get("version") for document in case.documents[case.identity(key)]]
    return "verified" if version in versions else "stale"


def _counts(annotation: Any) -> bool:
    return not annotation["was_cancelled"]


def _documents_equal_annotations(case: Case) -> Iterator[Violation]:
    name = "the document is what Label Studio has, box for box"
    for identity in case.tasks.keys() | case.documents.keys():
        key = case.names.get(identity, identity)
        documents, tasks = case.documents[identity], case.tasks[identity]
        if len(documents) > 1:
            yield Violation(name, key, f"{len(documents)} documents")
            continue
        if len(tasks) > 1:
            continue
        document = documents[0] if documents else None
        counting = [each for task in tasks for each in task["annotations"] if _counts(each)]
        if not counting:
            if document is not None and document["verified"]:
                yield Violation(
                    name, key, f"verified by annotation {document['annotation_id']}, which is gone"
                )
            continue
        newest = max(counting, key=lambda each: (each["updated_at"], each["id"]))
        if document is None or not document["verified"]:
            found = "a tombstone" if document else "no document"
            yield Violation(name, key, f"{found} for annotation {newest['id']} of task {newest['task']}")
        elif document["annotation_id"] != newest["id"]:
            found = f"it is about annotation {document['annotation_id']}, the newest is {newest['id']}"
            yield Violation(name, key, found)
        else:
            found = _difference(document, newest["result"])
            if found:
                yield Violation(name, key, f"annotation {newest['id']}: {found}")


def _difference(document: Any, result: Sequence[Any]) -> str:
    """How the boxes of a document differ from the unrotated regions of an annotation; empty if they agree."""
    width, height = document["width"], document["height"]
    boxes = {box["region"]: box for box in document["boxes"]}
    regions = {each["id"]: each["value"] for each in result if each.get("type") == "rectanglelabels"}
    if boxes.keys() != regions.keys():
        return f"regions {sorted(regions)}, boxes {sorted(boxes)}"
    for identity, value in regions.items():
        box = boxes[identity]
        if value.get("rotation"):
            continue
        x, y = value["x"] * width / 100, value["y"] * height / 100
        right, bottom = x + value["width"] * width / 100, y + value["height"] * height / 100
        if not all(
            math.isclose(a, b, abs_tol=_SAME_PX)
            for a, b in zip(box["xyxy"], (x, y, right, bottom), strict=True)
        ):
            return f"region {identity} is {(x, y, right, bottom)}, the box {box['xyxy']}"
        if [box["label"]] != value["rectanglelabels"]:
            return f"region {identity} is {value['rectanglelabels']}, the box {box['label']}"
    return ""


def _work_is_unharmed(case: Case) -> Iterator[Violation]:
    name = "a person's work is never harmed"
    for work in case.done.work.values():
        if work.annotation not in case.annotations:
            yield Violation(name, f"task {work.task}", f"annotation {work.annotation} is gone")
            continue
        task, annotation = case.annotations[work.annotation]
        about = case.names.get(task["data"].get("image_id"), f"task {task['id']}")
        if task["id"] != work.task or annotation["was_cancelled"] != work.skipped:
            yield Violation(name, about, f"annotation {work.annotation} is now on task {task['id']}")
        if _values(annotation["result"]) != _values(work.result):
            found = f"{_values(work.result)} was saved, now {_values(annotation['result'])}"
            yield Violation(name, about, f"annotation {work.annotation}: {found}"[:500])
    known = {task["id"] for task in case.evidence.tasks}
    for number in case.done.own_tasks - known:
        yield Violation(name, f"task {number}", "a task that a person made is gone")


def _values(result: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """What a person sees of regions."""
    fields = ("x", "y", "width", "height", "rotation", "rectanglelabels")
    return sorted((str(each["id"]), [each["value"].get(field) for field in fields]) for each in result)


def _nothing_is_foreign(case: Case) -> Iterator[Violation]:
    name = "no foreign and no lost objects"
    for key in case.evidence.data:
        if not _TOP.match(key):
            yield Violation(name, key, "an object that no page of the documentation names")
    for identity in case.documents:
        if identity not in case.names:
            yield Violation(name, identity, "a document about no image")
    for identity, tasks in case.tasks.items():
        if tasks and identity not in case.names:
            yield Violation(name, f"task {tasks[0]['id']}", f"it is about no image: {identity}")
    manifests = {key.split("/")[1] for key in case.evidence.data if key.startswith("runs/")}
    for key in case.evidence.data:
        found = re.fullmatch(r"predictions/.+/(\d{8}T\d{6}Z-[0-9a-f]{8})/part-\d+-\d+\.jsonl", key)
        if key.startswith("predictions/") and (found is None or found[1] not in manifests):
            yield Violation(name, key, "a part of no run")


def _labels_are_in_force(case: Case) -> Iterator[Violation]:
    name = "labels.yaml is in force"
    for key, text in case.evidence.labels.items():
        project = case.projects.get(key.rpartition("/")[0])
        if project is None:
            yield Violation(name, key, "the ledger has no such project")
            continue
        if project.get("labels_error") or project.get("held"):
            continue
        wanted = _names(text)
        used = _names(case.evidence.label_sets.get(f"labelsets/{project.get('labels')}.yaml", ""))
        if wanted is None:
            yield Violation(name, key, "it is broken, and nothing says so")
        elif wanted != used:
            yield Violation(name, key, f"it has {wanted}, in force is {used}")


def _names(text: str) -> list[str] | None:
    """The names of a labels.yaml, in order; None if it is none."""
    try:
        labels = yaml.safe_load(text)["labels"]
        return [each["name"] if isinstance(each, dict) else str(each) for each in labels]
    except (yaml.YAMLError, TypeError, KeyError):
        return None


def _projects_are_connected(case: Case) -> Iterator[Violation]:
    active = {each["project"] for each in case.evidence.webhooks if each["is_active"]}
    for number, name in case.numbers.items():
        if number in case.shown and number not in active:
            found = f"Label Studio's project {number} has no webhook"
            yield Violation("people's work is reported to the product", name, found)


def _people_see_images(case: Case) -> Iterator[Violation]:
    for key, _ in case.present():
        for task in case.tasks_of(key):
            status = case.evidence.pictures.get(str(task["id"]), 200)
            if status != 200:
                found = f"Label Studio answers {status} for {task['data']['image']} of task {task['id']}"
                yield Violation("people see the image of a task", key, found)


def _nothing_is_dead_or_stuck(case: Case) -> Iterator[Violation]:
    name = "nothing is lost silently"
    for queue, (waiting, delayed, hidden) in case.evidence.queues.items():
        if waiting + delayed + hidden:
            what = "dead letters" if queue.endswith("-dlq") else "messages that stay"
            yield Violation(name, queue, f"{waiting + delayed + hidden} {what}")
    if "error" in case.evidence.status:
        yield Violation(name, "boxdrop status", str(case.evidence.status["error"]))
        return
    status = {each["project"]: each for each in case.evidence.status["projects"]}
    for key, row in case.rows.items():
        if row["state"] not in _UNDONE:
            continue
        told = status.get(row["project"])
        if told is None or not (
            told["problems"] or ("waits for" in told["stage"] and "labels" in told["stage"])
        ):
            stage = None if told is None else told["stage"]
            yield Violation(
                name, key, f"it is {row['state']} without a reason; status: {stage}; {_short(row)}"
            )


def _short(row: Mapping[str, Any]) -> str:
    names = (
        "state",
        "project",
        "version",
        "task_id",
        "task_version",
        "verified_version",
        "generation",
        "run_id",
    )
    told = {name: row[name] for name in names if name in row}
    return f"row {told}"
