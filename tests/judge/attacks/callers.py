"""Commands that are called at once, from two terminals."""

import hashlib
import tempfile
import time
from pathlib import Path

from tests.judge.hands import LABELS
from tests.judge.ring import Ring

_MORE = "caption: fruit\nlabels: [pineapple, {name: banana, prompts: [banana, a bunch of bananas]}, apple]\n"


def _folder(ring: Ring, where: Path, count: int) -> None:
    """Images in a folder, noted as if they were uploaded already."""
    for number in range(count):
        body = ring.hands.picture()
        (where / f"{number}.jpg").write_bytes(body)
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        key = f"{ring.project}/{number}.jpg"
        ring.journal.note("put", key=key, etag=etag, size=len(body), readable=True)


def two_drops(ring: Ring) -> None:
    """The same folder is dropped twice at once, and a third time."""
    with tempfile.TemporaryDirectory() as folder:
        _folder(ring, Path(folder), 6)
        (Path(folder) / "labels.yaml").write_text(LABELS)
        labels = str(Path(folder) / "labels.yaml")
        both = [ring.system.begin("drop", folder, ring.project, "--labels", labels) for _ in range(2)]
        for each in both:
            output, _ = each.communicate(timeout=200)
            assert each.returncode == 0, output
        done = ring.system.call("drop", folder, ring.project)
        assert done.returncode == 0, done.stdout


def everything_at_once(ring: Ring) -> None:
    """`drop`, `apply`, two `sync` and two `retry` at once, while people submit."""
    tasks = list(ring.drop_and_wait(3).values())
    with tempfile.TemporaryDirectory() as folder:
        _folder(ring, Path(folder), 4)
        begun = [ring.system.begin("drop", folder, ring.project)]
        ring.hands.labels(ring.project, _MORE)
        begun += [ring.system.begin("apply", ring.project, "--yes")]
        begun += [ring.system.begin("sync", ring.project) for _ in range(2)]
        ring.hands.submit(tasks[0])
        begun += [ring.system.begin("retry", ring.project) for _ in range(2)]
        time.sleep(ring.dice.uniform(0, 2))
        ring.hands.submit(tasks[1])
        outputs = [each.communicate(timeout=300)[0] for each in begun]
    for output in outputs:
        assert "Traceback" not in output, output


ATTACKS = (two_drops, everything_at_once)
