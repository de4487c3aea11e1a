"""What happens to the objects of a bucket, faster and in other orders than anyone expects."""

import time

from tests.judge.hands import LABELS
from tests.judge.ring import Ring

_NAMES = (" b", "%2Fb", "!-b", "/annotation-", "/ünï cödé", "/" + "n" * 150, "/20261124T215700Z-0123abcd")


_WITH_PLUM = "caption: fruit\nlabels: [pineapple, banana, apple, plum]\n"


def overwrite_fifty_times(ring: Ring) -> None:
    """One key, fifty contents."""
    (key,) = ring.drop(1)
    for _ in range(50):
        ring.hands.put(key)
        time.sleep(ring.dice.choice((0, 0, 0, 0.3)))


def delete_and_create(ring: Ring) -> None:
    """Keys come and go."""
    keys = ring.drop(3)
    there = set(keys)
    for _ in range(20):
        key = ring.dice.choice(keys)
        if key in there and ring.dice.random() < 0.6:
            ring.hands.delete(key)
            there.discard(key)
        else:
            ring.hands.put(key)
            there.add(key)
        time.sleep(ring.dice.choice((0, 0, 0.5)))


def there_and_back(ring: Ring) -> None:
    """A, B, A: the content of before returns, once while nothing is verified, once after."""
    keys = ring.drop(2)
    first = {key: ring.hands.put(key) for key in keys}
    ring.hands.submit(ring.hands.wait_for_task(keys[0], ring.project))
    for key in keys:
        ring.hands.put(key)
        time.sleep(ring.dice.choice((0, 2, 6)))
        ring.hands.put(key, first[key])


def rename(ring: Ring) -> None:
    """Keys are renamed, as `aws s3 mv` does, one of them verified, one not yet tasked."""
    tasks = ring.drop_and_wait(2)
    first, second = tasks
    ring.hands.submit(tasks[first])
    for key in (first, second):
        ring.hands.put(key.replace(".jpg", " moved.jpg"))
        ring.hands.delete(key)


def nested_projects(ring: Ring) -> None:
    """Projects inside each other, and names that look like something else; the inner ones first, or last."""
    names = [ring.project + name for name in ("", "/b", "/b/c", *ring.dice.sample(_NAMES, 2))]
    ring.dice.shuffle(names)
    for name in names:
        if ring.dice.random() < 0.5:
            ring.hands.labels(name)
            ring.hands.put(f"{name}/one.jpg")
        else:
            ring.hands.put(f"{name}/one.jpg")
            ring.hands.labels(name)
        time.sleep(ring.dice.choice((0, 1)))
    for name in ring.dice.sample(names, 3):
        ring.hands.put(f"{name}/two.jpg")


def nested_projects_that_people_work_in(ring: Ring) -> None:
    """The outer and the inner project are verified; then both get other labels, and sync."""
    inner = f"{ring.project}/sub"
    for name in (inner, ring.project):
        ring.hands.labels(name)
        ring.hands.put(f"{name}/one.jpg")
        ring.hands.put(f"{name}/two.jpg")
        ring.hands.submit(ring.hands.wait_for_task(f"{name}/one.jpg", name))
    for name in (ring.project, inner):
        ring.hands.labels(name, _WITH_PLUM)
    for name in (ring.project, inner):
        ring.sync(name)


def labels_mischief(ring: Ring) -> None:
    """Labels come after the images, break, are replaced, deleted and restored."""
    for key in ring.keys(4):
        ring.hands.put(key)
    ring.hands.labels(ring.project, "labels: [")
    time.sleep(ring.dice.uniform(0, 2))
    ring.hands.labels(ring.project)
    time.sleep(ring.dice.uniform(0, 4))
    ring.hands.labels(ring.project, None)
    ring.hands.put(f"{ring.project}/without.jpg")
    ring.hands.labels(ring.project, "labels: [apple, apple]")
    time.sleep(ring.dice.uniform(0, 2))
    ring.hands.put(f"{ring.project}/broken.jpg")
    ring.hands.labels(ring.project, ring.dice.choice((_WITH_PLUM, "labels: [plum, plum]")))


def labels_mischief_around_300_images(ring: Ring) -> None:
    """labels.yaml comes late, breaks, is replaced, deleted and restored, while 300 images come."""
    keys = ring.keys(300)
    some = sorted(ring.dice.sample(range(len(keys)), 6))
    texts = [LABELS, "labels: [", None, _WITH_PLUM, "labels: [apple, apple]", LABELS]
    if ring.dice.random() < 0.5:
        texts[-1] = _WITH_PLUM
    for number, key in enumerate(keys):
        if number in some:
            ring.hands.labels(ring.project, texts[some.index(number)])
        ring.hands.put(key)


def broken_files(ring: Ring) -> None:
    """Files that are no images, become images, and are broken again."""
    ring.hands.labels(ring.project)
    whole = ring.hands.picture()
    for number, body in enumerate((whole[:300], b"<html>404</html>", b"\0" * 1000, b"")):
        ring.hands.put(f"{ring.project}/bad-{number}.jpg", body, readable=False)
    time.sleep(ring.dice.uniform(0, 5))
    ring.hands.put(f"{ring.project}/bad-0.jpg")
    ring.hands.put(f"{ring.project}/good.jpg")
    time.sleep(ring.dice.uniform(0, 5))
    ring.hands.put(f"{ring.project}/good.jpg", whole[:200], readable=False)


ATTACKS = (
    overwrite_fifty_times,
    delete_and_create,
    there_and_back,
    rename,
    nested_projects,
    nested_projects_that_people_work_in,
    labels_mischief,
    labels_mischief_around_300_images,
    broken_files,
)
