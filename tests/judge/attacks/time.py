"""Processes that die or stand still in the middle of work, and clocks that jump."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

from botocore.exceptions import BotoCoreError, ClientError

from tests.judge.hands import Hands, RefusedError
from tests.judge.ring import Ring
from tests.judge.system import FUNCTIONS

RESTARTED = ("pump", "label studio", "aws")
_KILLS = 15
_JUMPS_S = (-86_400, -3_600, -90, -5, 5, 90, 3_600, 86_400)
_OTHER = "caption: fruit\nlabels: [pineapple, {name: banana, prompts: [banana, %s fruit]}, apple]\n"


def kill(*names: str) -> Callable[[Ring], None]:
    """An attack that drops images and verifies some, and kills processes in between."""

    def attack(ring: Ring) -> None:
        tasks = ring.drop_and_wait(3)
        ring.hands.submit(next(iter(tasks.values())))
        for number in range(6):
            ring.hands.put(f"{ring.project}/{number}.jpg")
        time.sleep(ring.dice.uniform(0, 6))
        _kill(ring, *(names or (*FUNCTIONS, "job", *RESTARTED)))
        ring.hands.put(f"{ring.project}/after.jpg")

    attack.__name__ = f"kill_{'_'.join(names).replace(' ', '_') or 'everything'}"
    attack.__doc__ = f"kill -9 of {' and '.join(names) or 'all processes at once'}, while images are dropped."
    return attack


def _kill(ring: Ring, *names: str) -> None:
    """Kill processes, and start again what nothing else starts."""
    ring.journal.note("killed", processes=ring.system.kill(*names))
    if set(names) & set(RESTARTED):
        ring.again()


def kills_in_a_loop(ring: Ring) -> None:
    """15 times kill -9 of a process, or of all at once, while images are dropped all the time."""
    tasks = ring.drop_and_wait(2)
    ring.hands.submit(next(iter(tasks.values())))
    done, hands = Event(), Hands(ring.at, ring.journal, random.Random(ring.dice.random()))

    def keep_dropping() -> None:
        number = 0
        while not done.wait(0.7):
            _put_until_it_succeeds(hands, f"{ring.project}/{number:03}.jpg")
            number += 1

    dropper = Thread(target=keep_dropping, daemon=True)
    dropper.start()
    try:
        for _ in range(_KILLS):
            time.sleep(ring.dice.uniform(0, 3))
            one = ring.dice.choice([*FUNCTIONS, "job", *RESTARTED, None])
            _kill(ring, *((*FUNCTIONS, "job", *RESTARTED) if one is None else (one,)))
    finally:
        done.set()
        dropper.join()


def _put_until_it_succeeds(hands: Hands, key: str) -> None:
    """Upload a picture, again and again while the bucket is down, as a program that uploads does."""
    body = hands.picture()
    while True:
        with suppress(BotoCoreError, ClientError):
            hands.put(key, body)
            return
        time.sleep(0.5)


def label_studio_stands_still(ring: Ring) -> None:
    """Label Studio's process stops for a while in the middle of publishing, and goes on."""
    ring.drop(20)
    time.sleep(ring.dice.uniform(1, 8))
    pid = ring.system.freeze("label studio")
    try:
        time.sleep(ring.dice.uniform(15, 60))
    finally:
        ring.system.thaw(pid)


def clock_jumps_of(*names: str) -> Callable[[Ring], None]:
    """An attack that lets the clock of some processes jump while people work; it ends up right again."""

    def attack(ring: Ring) -> None:
        tasks = list(ring.drop_and_wait(3).values())
        clock = ring.system.give_a_clock(*names)
        annotation = ring.hands.submit(tasks[0])
        for number in range(6):
            seconds = ring.dice.choice(_JUMPS_S)
            clock.jump_to(seconds)
            ring.journal.note("clock", seconds=seconds, processes=names)
            ring.hands.put(f"{ring.project}/{number}.jpg")
            if number % 2:
                ring.hands.labels(ring.project, _OTHER % number)
            with suppress(RefusedError):
                ring.hands.edit(annotation, tasks[0])
                ring.hands.submit(ring.dice.choice(tasks))
            time.sleep(ring.dice.uniform(0, 4))
            if ring.dice.random() < 0.3:
                _kill(ring, ring.dice.choice(FUNCTIONS))
        clock.jump_to(0)
        ring.hands.put(f"{ring.project}/after.jpg")

    attack.__name__ = f"clock_jumps_of_{'_and_'.join(names).replace(' ', '_')}"
    attack.__doc__ = (
        f"The clock of {' and '.join(names)} jumps by seconds, minutes, hours and days, and back."
    )
    return attack


ATTACKS = (
    *(kill(name) for name in (*FUNCTIONS, "job", *RESTARTED)),
    kill("publish", "label studio"),
    kill(),
    label_studio_stands_still,
    kills_in_a_loop,
    clock_jumps_of("pump"),  # and of the functions and the job, which it starts
    clock_jumps_of("label studio"),
    clock_jumps_of("pump", "label studio"),
)
