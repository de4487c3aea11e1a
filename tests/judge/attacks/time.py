"""Processes that die or stand still in the middle of work."""

import time
from collections.abc import Callable

from tests.judge.ring import Ring
from tests.judge.system import FUNCTIONS

RESTARTED = ("pump", "label studio", "aws")


def kill(*names: str) -> Callable[[Ring], None]:
    """An attack that drops images and verifies some, and kills processes in between."""

    def attack(ring: Ring) -> None:
        tasks = ring.drop_and_wait(3)
        ring.hands.submit(next(iter(tasks.values())))
        for number in range(6):
            ring.hands.put(f"{ring.project}/{number}.jpg")
        time.sleep(ring.dice.uniform(0, 6))
        killed = ring.system.kill(*(names or (*FUNCTIONS, "job", *RESTARTED)))
        ring.journal.note("killed", processes=killed)
        if not names or set(names) & set(RESTARTED):
            ring.again()
        ring.hands.put(f"{ring.project}/after.jpg")

    attack.__name__ = f"kill_{'_'.join(names).replace(' ', '_') or 'everything'}"
    attack.__doc__ = f"kill -9 of {' and '.join(names) or 'all processes at once'}, while images are dropped."
    return attack


def label_studio_stands_still(ring: Ring) -> None:
    """Label Studio's process stops for a while in the middle of publishing, and goes on."""
    ring.drop(20)
    time.sleep(ring.dice.uniform(1, 8))
    pid = ring.system.freeze("label studio")
    try:
        time.sleep(ring.dice.uniform(15, 60))
    finally:
        ring.system.thaw(pid)


ATTACKS = (
    *(kill(name) for name in (*FUNCTIONS, "job", *RESTARTED)),
    kill("publish", "label studio"),
    kill(),
    label_studio_stands_still,
)
