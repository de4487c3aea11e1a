"""The judge's own journal: what was done to the system, in order, as one JSON object per line.

An attack writes an entry *after* the call succeeded. `Done` is what the entries add up to: the objects that
the image bucket has to hold, the work of people that has to be there, and the tasks that people made.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


def image_id_of(bucket: str, key: str) -> str:
    """The identity that a task of an image carries, by docs/ledger.md: a hash of bucket and key."""
    joined = f"{bucket}\0{key}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(joined).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Work:
    """An annotation as a person left it; `result` as Label Studio returned it to that person."""

    annotation: int
    task: int
    result: tuple[Mapping[str, Any], ...]
    skipped: bool


@dataclass(slots=True)
class Done:
    """What the journal adds up to.

    Attributes:
        objects: version (etag and size) by key of the image bucket, without labels.yaml; None if deleted.
        readable: by key, whether the object is an image.
        work: by annotation; people's own deletions leave it.
        own_tasks: tasks that people made.
        dropped_tasks: tasks that people deleted.
    """

    objects: dict[str, str | None] = field(default_factory=dict)
    readable: dict[str, bool] = field(default_factory=dict)
    work: dict[int, Work] = field(default_factory=dict)
    own_tasks: set[int] = field(default_factory=set)
    dropped_tasks: set[int] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        """Take one entry into account; what it does not know is only a note for people."""
        match entry["did"]:
            case "put":
                self.objects[entry["key"]] = f"{entry['etag']}-{entry['size']}"
                self.readable[entry["key"]] = entry["readable"]
            case "delete":
                self.objects[entry["key"]] = None
            case "saved":
                work = Work(entry["annotation"], entry["task"], tuple(entry["result"]), entry["skipped"])
                self.work[work.annotation] = work
            case "removed annotation":
                self.work.pop(entry["annotation"], None)
            case "removed task":
                self.dropped_tasks.add(entry["task"])
                self.own_tasks.discard(entry["task"])
                self.work = {each: work for each, work in self.work.items() if work.task != entry["task"]}
            case "own task":
                self.own_tasks.add(entry["task"])


class Journal:
    """A journal on disk. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def note(self, did: str, **what: Any) -> None:
        """Append an entry."""
        line = json.dumps({"at": round(time.time(), 3), "did": did, **what}, ensure_ascii=True)
        with self._lock, self.path.open("a", encoding="ascii") as file:
            file.write(line + "\n")

    def last(self, did: str) -> float | None:
        """When this was done last, Unix time; None if never."""
        if not self.path.exists():
            return None
        entries = [json.loads(line) for line in self.path.read_text(encoding="ascii").splitlines()]
        return max((entry["at"] for entry in entries if entry["did"] == did), default=None)

    def done(self) -> Done:
        """What all entries add up to."""
        if not self.path.exists():
            return Done()
        with self._lock:
            lines = self.path.read_text(encoding="ascii").splitlines()
        return sum_up(map(json.loads, lines))


def sum_up(entries: Iterable[Entry]) -> Done:
    """What entries add up to."""
    done = Done()
    for entry in entries:
        done.add(entry)
    return done
