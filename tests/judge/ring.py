"""The ring: what an attack gets."""

import random
from dataclasses import dataclass
from typing import Any

from tests.judge.evidence import Addresses
from tests.judge.hands import LABELS, Hands
from tests.judge.journal import Journal
from tests.judge.system import System


@dataclass
class Ring:
    """A running system, the hands of people, and a project of one's own.

    Attributes:
        project: that no other attack uses.
    """

    system: System
    at: Addresses
    journal: Journal
    dice: random.Random
    project: str

    def __post_init__(self) -> None:
        self.hands = Hands(self.at, self.journal, self.dice)

    def again(self) -> None:
        """Start what was killed; addresses may be others now."""
        self.at = self.system.start()
        self.hands = Hands(self.at, self.journal, self.dice)

    def keys(self, count: int, project: str | None = None) -> list[str]:
        """Names of new images."""
        return [f"{project or self.project}/a b+%25 é {number:04}.jpg" for number in range(count)]

    def drop(self, count: int, *, labels: str | None = LABELS) -> list[str]:
        """Upload labels and images; returns the keys."""
        if labels is not None:
            self.hands.labels(self.project, labels)
        keys = self.keys(count)
        for key in keys:
            self.hands.put(key)
        return keys

    def drop_and_wait(self, count: int) -> dict[str, Any]:
        """As `drop`, and wait for the tasks; returns them by key."""
        return {key: self.hands.wait_for_task(key, self.project) for key in self.drop(count)}

    def task_count(self) -> int:
        """How many tasks the project has in Label Studio."""
        number = self.hands.number_of(self.project)
        return 0 if number is None else int(self.at.call("GET", f"/api/projects/{number}/")["task_number"])

    def sync(self, project: str | None = None) -> None:
        """`boxdrop sync`, the documented way out of what people did in Label Studio.

        Raises:
            AssertionError: it failed.
        """
        done = self.system.call("sync", project or self.project)
        assert done.returncode == 0, done.stdout
