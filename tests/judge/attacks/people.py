"""What annotators and project owners do in Label Studio, at the worst moment."""

import time
from contextlib import suppress
from threading import Thread

from tests.judge.court import wait_until_quiet
from tests.judge.hands import RefusedError
from tests.judge.ring import Ring

_OTHER = "caption: fruit\nlabels: [pineapple, {name: banana, prompts: [banana, yellow fruit]}, apple]\n"
_LOWER = (
    "caption: fruit\nlabels: [{name: pineapple, threshold: 0.3}, banana, {name: apple, threshold: 0.9}]\n"
)


def submit_while_labels_change(ring: Ring) -> None:
    """Each task is submitted while other prompts, then other thresholds, publish all boxes again."""
    tasks = ring.drop_and_wait(6)
    for text in (_OTHER, _LOWER):
        ring.hands.labels(ring.project, text)
        for task in list(tasks.values())[:3]:
            with suppress(RefusedError):
                ring.hands.submit(task)
            time.sleep(ring.dice.uniform(0, 1.5))
        tasks = dict(list(tasks.items())[3:])


def two_annotators(ring: Ring) -> None:
    """Two people submit the same tasks at the same time; one edits, the other deletes."""
    tasks = list(ring.drop_and_wait(3).values())
    made: list[tuple[int, object]] = []

    def annotate() -> None:
        for task in tasks:
            made.append((ring.hands.submit(task), task))

    people = [Thread(target=annotate), Thread(target=annotate)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    ring.dice.shuffle(made)
    ring.hands.edit(*made[0])
    ring.hands.remove_annotation(made[1][0])
    ring.hands.edit(*made[2])


def edit_delete_skip_and_draft(ring: Ring) -> None:
    """Twenty deeds in a random order on a few tasks."""
    tasks = list(ring.drop_and_wait(4).values())
    made: dict[int, object] = {}
    for _ in range(20):
        task, deed = (
            ring.dice.choice(tasks),
            ring.dice.choice(["submit", "submit", "skip", "edit", "edit", "delete", "draft"]),
        )
        with suppress(RefusedError):
            if deed in ("submit", "skip"):
                made[ring.hands.submit(task, skip=deed == "skip")] = task
            elif deed == "draft":
                ring.hands.draft(task)
            elif made:
                number = ring.dice.choice(sorted(made))
                if deed == "delete":
                    del made[number]
                    ring.hands.remove_annotation(number)
                else:
                    ring.hands.edit(number, made[number])
        time.sleep(ring.dice.uniform(0, 0.3))


def delete_tasks(ring: Ring) -> None:
    """A person deletes tasks, one of them verified, one skipped; then `boxdrop sync`."""
    tasks = list(ring.drop_and_wait(4).values())
    ring.hands.submit(tasks[0])
    ring.hands.submit(tasks[1], skip=True)
    if ring.dice.random() < 0.5:
        wait_until_quiet(ring.at, 30)
    for task in tasks[:3]:
        ring.hands.remove_task(task["id"])
    ring.sync()


def delete_the_webhook(ring: Ring) -> None:
    """Work is submitted while the webhook is missing; then `boxdrop sync`."""
    tasks = list(ring.drop_and_wait(3).values())
    number = ring.hands.number_of(ring.project)
    for webhook in ring.at.call("GET", "/api/webhooks/", project=number):
        ring.at.call("DELETE", f"/api/webhooks/{webhook['id']}/")
    ring.journal.note("removed webhooks", project=number)
    annotation = ring.hands.submit(tasks[0])
    ring.hands.submit(tasks[1], skip=True)
    ring.hands.edit(annotation, tasks[0])
    ring.sync()


def delete_the_storage(ring: Ring) -> None:
    """The storage is deleted, so that no image is shown; images come before and after `boxdrop sync`."""
    ring.drop_and_wait(2)
    number = ring.hands.number_of(ring.project)
    for storage in ring.at.call("GET", "/api/storages/s3", project=number):
        ring.at.call("DELETE", f"/api/storages/s3/{storage['id']}")
    ring.journal.note("removed storages", project=number)
    if ring.dice.random() < 0.5:
        ring.hands.put(f"{ring.project}/later.jpg")
    ring.sync()
    if ring.dice.random() < 0.5:
        ring.hands.put(f"{ring.project}/last.jpg")


def move_tasks(ring: Ring) -> None:
    """Tasks, one of them verified, are moved to a project of a person, and to another of the product."""
    tasks = list(ring.drop_and_wait(5).values())
    other = f"{ring.project}-other"
    ring.hands.labels(other)
    ring.hands.put(f"{other}/one.jpg")
    ring.hands.wait_for_task(f"{other}/one.jpg", other)
    config = ring.at.call("GET", f"/api/projects/{tasks[0]['project']}/")["label_config"]
    aside = ring.at.call("POST", "/api/projects/", body={"title": "set aside", "label_config": config})["id"]
    for task in (tasks[0], tasks[2]):
        ring.hands.submit(task)
    if ring.dice.random() < 0.5:
        wait_until_quiet(ring.at, 30)
    for task in tasks[:2]:
        ring.hands.move_task(task["id"], aside)
    there = ring.hands.number_of(other)
    assert there is not None
    for task in tasks[2:4]:
        ring.hands.move_task(task["id"], there)
    for project in ring.dice.sample([ring.project, other], 2):
        ring.sync(project)


def rename_and_configure(ring: Ring) -> None:
    """The project is renamed, and its labeling configuration changed by hand; more images come."""
    ring.drop_and_wait(2)
    number = ring.hands.number_of(ring.project)
    before = ring.at.call("GET", f"/api/projects/{number}/")
    config = before["label_config"].replace('value="apple"', 'value="pear"')
    ring.at.call("PATCH", f"/api/projects/{number}/", body={"title": "our fruit", "label_config": config})
    ring.journal.note("renamed and configured", project=number)
    ring.hands.put(f"{ring.project}/later.jpg")
    ring.hands.wait_for_task(f"{ring.project}/later.jpg", ring.project)
    ring.sync()


def own_tasks(ring: Ring) -> None:
    """A person imports tasks of the same images by address, and works on one."""
    tasks = list(ring.drop_and_wait(2).values())
    number = ring.hands.number_of(ring.project)
    assert number is not None
    for task in tasks:
        ring.hands.import_own(number, {"image": task["data"]["image"]})
    ring.sync()


def copied_tasks(ring: Ring) -> None:
    """A person exports tasks and imports them again: exact copies, of which sync leaves one."""
    tasks = list(ring.drop_and_wait(2).values())
    number = ring.hands.number_of(ring.project)
    for task in tasks:
        ring.at.call("POST", f"/api/projects/{number}/import", body=[{"data": task["data"]}])
    ring.hands.submit(tasks[0])
    ring.sync()


def delete_the_project(ring: Ring) -> None:
    """The project in Label Studio is deleted, with nothing verified; then `boxdrop sync`."""
    ring.drop_and_wait(3)
    number = ring.hands.number_of(ring.project)
    ring.at.call("DELETE", f"/api/projects/{number}/")
    ring.journal.note("removed project", project=number)
    ring.hands.put(f"{ring.project}/later.jpg")
    ring.sync()


ATTACKS = (
    submit_while_labels_change,
    two_annotators,
    edit_delete_skip_and_draft,
    delete_tasks,
    delete_the_webhook,
    delete_the_storage,
    move_tasks,
    rename_and_configure,
    own_tasks,
    copied_tasks,
    delete_the_project,
)
