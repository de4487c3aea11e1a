"""What to do with a part whose project another publisher has: send its message again, a little later.

A failed message stays hidden for six timeouts of the function, half an hour, and is given up after five
deliveries: thousands of parts of one project would wait for hours, and some would become dead letters. A
message that is sent again is a new one, with all its deliveries. benchmarks/contention.py simulates both.
"""

import json
import random
from typing import TYPE_CHECKING, Any, Final

from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.aws.sqs import Queue

FIRST_S: Final = 4.0
"""About two parts' time."""

LONGEST_S: Final = 60.0
"""Longer delays let the last parts wait; shorter ones make calls that find the lease taken again."""

MOST: Final = 1_500
"""Times that a message is put off, a day; after that its deliveries fail, and it may become a dead letter."""

_COUNT: Final = "boxdrop:put-off"
_CHANCE: Final = random.Random()  # noqa: S311  spreads calls, guards nothing


def delay_s(again: int, chance: random.Random = _CHANCE, longest_s: float = LONGEST_S) -> float:
    """How long to put a message off, seconds: doubled each time, and up to half of it random.

    Args:
        again: how often it was put off before.
    """
    doubled = FIRST_S * 2.0 ** min(again, 16)
    return min(doubled, longest_s) * chance.uniform(0.5, 1)


def put_off(queue: "Queue", body: str) -> float:
    """Send a message of S3 or EventBridge again, later; the one in hand is done then.

    Returns:
        After how many seconds it comes.

    Raises:
        BoxdropError: it was put off too often, or the queue did not take it; let this delivery fail.
    """
    fields: dict[str, Any] = json.loads(body)
    again = int(fields.get(_COUNT, 0))
    if again >= MOST:
        raise BoxdropError("other publishers have had the project for a day")
    delay = delay_s(again)
    queue.send(fields | {_COUNT: again + 1}, delay)
    return delay
