"""The hands of people: what they do to a bucket and in Label Studio, written into the journal.

Nothing here imports boxdrop. Whoever may lose a race (two people, or a person and the product) says so by
`RefusedError`; an attack goes on then, as a person would.
"""

import hashlib
import io
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import requests

from tests.judge.evidence import Addresses, tasks_of
from tests.judge.journal import Journal, image_id_of

SCENES = Path(__file__).parents[2] / "boxdrop" / "demo" / "scenes"
LABELS = "caption: fruit\nlabels: [pineapple, banana, apple]\n"
_PX = 160  # the detector sees 224 pixels anyway


class RefusedError(Exception):
    """Label Studio did not do it: somebody was faster."""


def pictures(limit: int = 8) -> list[PIL.Image.Image]:
    """Sample scenes, small."""
    scenes = []
    for path in sorted(SCENES.glob("*.jpg"))[:limit]:
        with PIL.Image.open(path) as scene:
            scene.thumbnail((_PX, _PX))
            scenes.append(scene.convert("RGB"))
    return scenes


class Hands:
    """What people can do.

    Args:
        at: the system.
        journal: where it is noted.
        dice: decides what is random.
    """

    def __init__(self, at: Addresses, journal: Journal, dice: random.Random) -> None:
        self.at, self.journal, self.dice = at, journal, dice
        self._s3, self._dynamodb = at.client("s3"), at.client("dynamodb")
        self._scenes = pictures()
        self._made = 0

    # The bucket

    def picture(self) -> bytes:
        """A JPEG that no other is equal to."""
        self._made += 1
        file = io.BytesIO()
        comment = f"{self.dice.random()} {self._made}".encode()
        self._scenes[self._made % len(self._scenes)].save(file, "jpeg", quality=70, comment=comment)
        return file.getvalue()

    def put(self, key: str, body: bytes | None = None, *, readable: bool = True) -> bytes:
        """Upload an object; a new picture by default. Returns what was uploaded."""
        body = self.picture() if body is None else body
        answer = self._s3.put_object(Bucket=self.at.images, Key=key, Body=body)
        etag = answer["ETag"].strip('"')
        self.journal.note("put", key=key, etag=etag, size=len(body), readable=readable)
        return body

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._s3.delete_object(Bucket=self.at.images, Key=key)
        self.journal.note("delete", key=key)

    def labels(self, project: str, text: str | None = LABELS) -> None:
        """Upload a project's labels.yaml, or delete it."""
        key = f"{project}/labels.yaml"
        if text is None:
            self._s3.delete_object(Bucket=self.at.images, Key=key)
        else:
            self._s3.put_object(Bucket=self.at.images, Key=key, Body=text.encode())
        self.journal.note("labels", project=project, text=text)

    # Label Studio

    def number_of(self, project: str) -> int | None:
        """Label Studio's number of a project, once it has one."""
        key = {"pk": {"S": f"project#{project}"}, "sk": {"S": "project"}}
        item = self._dynamodb.get_item(TableName=self.at.table, Key=key, ConsistentRead=True).get("Item", {})
        return int(item["label_studio_id"]["N"]) if "label_studio_id" in item else None

    def tasks(self, project: str) -> dict[str, Any]:
        """The project's tasks by image_id; empty while there are none."""
        number = self.number_of(project)
        if number is None:
            return {}
        try:
            found = tasks_of(self.at, number)
        except requests.HTTPError:  # the project was deleted
            return {}
        return {task["data"]["image_id"]: task for task in found if "image_id" in task["data"]}

    def wait_for_task(self, key: str, project: str, patience_s: float = 120) -> Any:
        """The task of an image, with a prediction."""
        identity = image_id_of(self.at.images, key)

        def look() -> Any:
            task = self.tasks(project).get(identity)
            return task if task is not None and task["predictions"] else None

        return wait_for(look, patience_s, f"a task of {key}")

    def submit(self, task: Any, *, move: bool = True, skip: bool = False) -> int:
        """Submit a task as a person does: its boxes, one of them moved, and one more. Returns the annotation.

        Raises:
            RefusedError: the task is gone.
        """
        prediction = task["predictions"][0] if task["predictions"] else {"result": [], "id": None}
        result = [{**region, "origin": "prediction"} for region in prediction["result"]]
        if move:
            result = self.changed(task, result)
        body = {
            "result": [] if skip else result,
            "lead_time": 3.5,
            "parent_prediction": prediction["id"],
            "was_cancelled": skip,
        }
        made = self._ask("POST", f"/api/tasks/{task['id']}/annotations/", body)
        self._saved(made, task["id"])
        return int(made["id"])

    def edit(self, annotation: int, task: Any) -> None:
        """Save an annotation again, with other boxes.

        Raises:
            RefusedError: it is gone.
        """
        before = self._ask("GET", f"/api/annotations/{annotation}/")
        body = {"result": self.changed(task, before["result"]), "lead_time": 5.0}
        self._saved(self._ask("PATCH", f"/api/annotations/{annotation}/", body), task["id"])

    def remove_annotation(self, annotation: int) -> None:
        """Delete an annotation."""
        self._ask("DELETE", f"/api/annotations/{annotation}/")
        self.journal.note("removed annotation", annotation=annotation)

    def draft(self, task: Any) -> None:
        """Leave a draft behind."""
        body = {"result": self.changed(task, []), "lead_time": 1.0}
        self._ask("POST", f"/api/tasks/{task['id']}/drafts", body)
        self.journal.note("draft", task=task["id"])

    def remove_task(self, task: int) -> None:
        """Delete a task."""
        self._ask("DELETE", f"/api/tasks/{task}/")
        self.journal.note("removed task", task=task)

    def import_own(self, number: int, data: dict[str, Any]) -> int:
        """Import a task of one's own; returns its number."""
        answer = self._ask("POST", f"/api/projects/{number}/import?return_task_ids=true", [{"data": data}])
        task = int(answer["task_ids"][0])
        self.journal.note("own task", task=task, project=number)
        return task

    def move_task(self, task: int, number: int) -> int:
        """Move a task with its annotations to another project, as people do it: export, import, delete.

        Returns:
            Its new number.
        """
        found = self._ask("GET", f"/api/tasks/{task}/")
        annotations = [{"result": each["result"]} for each in found["annotations"]]
        body = [{"data": found["data"], "annotations": annotations}]
        answer = self._ask("POST", f"/api/projects/{number}/import?return_task_ids=true", body)
        moved = int(answer["task_ids"][0])
        self.journal.note("own task", task=moved, project=number)
        for annotation in self._ask("GET", f"/api/tasks/{moved}/")["annotations"]:
            self._saved(annotation, moved)
        self.remove_task(task)
        return moved

    def changed(self, task: Any, result: Sequence[Any]) -> list[Any]:
        """Regions, the first of them moved, and one more."""
        width, height = task["data"]["width"], task["data"]["height"]
        moved = [dict(region) for region in result]
        if moved:
            value = dict(moved[0]["value"])
            value["x"] = round(max(0.0, min(value["x"] + self.dice.uniform(-5, 5), 100 - value["width"])), 4)
            moved[0] = {**moved[0], "value": value}
        name = hashlib.sha256(str(self.dice.random()).encode()).hexdigest()[:10]
        x, y = self.dice.uniform(0, 70), self.dice.uniform(0, 70)
        value = {"x": x, "y": y, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["banana"]}
        region = {
            "id": name,
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "origin": "manual",
            "value": value,
        }
        return [*moved, region]

    def _saved(self, annotation: Any, task: int) -> None:
        self.journal.note(
            "saved",
            annotation=annotation["id"],
            task=task,
            result=annotation["result"],
            skipped=annotation["was_cancelled"],
        )

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            return self.at.call(method, path, body=body)
        except requests.HTTPError as error:
            raise RefusedError(f"{method} {path}: {error}: {error.response.text[:300]}") from None


def wait_for(condition: Callable[[], Any], patience_s: float, what: str) -> Any:
    """What a condition returns, once it is true.

    Raises:
        TimeoutError: it does not become true.
    """
    until = time.monotonic() + patience_s
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {patience_s:.0f} s")
        time.sleep(0.3)
    return found
