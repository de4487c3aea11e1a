"""Simulate what happens when many parts of one project want to be published at once.

    python -m benchmarks.contention [--seed 19]

One publisher per project holds the lease. Five Lambda calls at once take messages, ten each. A call that
finds the lease taken either fails, and SQS hides the message for six timeouts of the function (before), or
sends the message again with a delay (now, `boxdrop.pipeline.contention`). Times are those of
`boxdrop.topology` and of benchmarks/publish_throughput.py: 2.3 s for a part of 128 images.
"""

import argparse
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from boxdrop.pipeline.contention import delay_s
from boxdrop.topology import delivery

PART_S: Final = 2.3
"""Seconds to publish one part, under the lease."""

LOOK_S: Final = 0.1
"""Seconds until a call knows that the lease is taken, and has put the message off."""

Delay = Callable[[int, random.Random], float]


@dataclass
class Message:
    """A part's message: how often SQS delivered it, and how often it was put off."""

    receives: int = 0
    put_off: int = 0
    received_at: float = 0.0


@dataclass(frozen=True)
class Result:
    """What came of it: minutes until the last part was published, and counts of messages."""

    minutes: float
    published: int
    dead: int
    calls: int
    sent_again: int


def simulate(parts: int, per_s: float, seed: int, delay: Delay | None) -> Result:
    """Publish parts that arrive evenly.

    Args:
        per_s: parts that the jobs write each second.
        delay: seconds until a message that was put off comes again; None fails the message instead.
    """
    how, chance = delivery("parts"), random.Random(seed)
    visible: list[tuple[float, int, Message]] = [(n / per_s, n, Message()) for n in range(parts)]
    heapq.heapify(visible)
    number, lease_until, last = parts, 0.0, 0.0
    published = dead = calls = again = 0
    hands: list[list[Message]] = [[] for _ in range(how.concurrency)]
    pollers = [(0.1 * poller, poller) for poller in range(how.concurrency)]
    while published + dead < parts:
        now, poller = heapq.heappop(pollers)
        hand = hands[poller]
        if not hand:
            ready: list[Message] = []
            while visible and visible[0][0] <= now and len(ready) < how.batch:
                ready.append(heapq.heappop(visible)[2])
            for message in ready:
                message.receives += 1
                message.received_at = now
            chance.shuffle(ready)  # a standard queue promises no order
            hand += ready
            calls += bool(ready)
            if not ready:
                held = any(hands)
                until = now + 1 if held or not visible else max(now + 0.5, visible[0][0])
                heapq.heappush(pollers, (until, poller))
                continue
        message = hand.pop()
        if lease_until <= now:
            lease_until = last = now + PART_S
            published += 1
            heapq.heappush(pollers, (lease_until, poller))
            continue
        number += 1
        if delay is not None:
            message.receives, message.put_off = 0, message.put_off + 1
            again += 1
            heapq.heappush(visible, (now + delay(message.put_off - 1, chance), number, message))
        elif message.receives >= how.receives:
            dead += 1
        else:
            heapq.heappush(visible, (message.received_at + how.visibility_s, number, message))
        heapq.heappush(pollers, (now + LOOK_S, poller))
    return Result(last / 60, published, dead, calls, again)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=19)
    seed = parser.parse_args().seed
    rules: dict[str, Delay | None] = {"fails, hidden 1,800 s": None, "put off (now)": delay_s}
    for cap in (30.0, 120.0, 240.0, 900.0):
        rules[f"put off, at most {cap:.0f} s"] = partial(delay_s, longest_s=cap)
    print("| parts | rule | minutes | without waiting | dead letters | calls | sent again |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for parts in (157, 7_813):
        for name, rule in rules.items():
            found = simulate(parts, 1.6, seed, rule)
            print(
                f"| {parts:,} | {name} | {found.minutes:.0f} | {parts * PART_S / 60:.0f} | {found.dead} | "
                f"{found.calls:,} | {found.sent_again:,} |"
            )


if __name__ == "__main__":
    main()
