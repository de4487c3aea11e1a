"""A part whose project is being published is put off by seconds, and never given up for it."""

import json
from random import Random
from typing import Any

import pytest

from benchmarks.contention import simulate
from boxdrop.domain.errors import BoxdropError
from boxdrop.pipeline.contention import FIRST_S, LONGEST_S, MOST, delay_s, put_off

EVENT = {"source": "aws.s3", "detail": {"bucket": {"name": "data"}}}


class Sent:
    """A queue that keeps what is sent to it."""

    def __init__(self) -> None:
        self.messages: list[tuple[dict[str, Any], float]] = []

    def send(self, message: dict[str, Any], delay_s: float = 0) -> None:
        self.messages.append((message, delay_s))


def test_delays_double_up_to_a_limit_and_are_spread() -> None:
    chance = Random(19)
    first = [delay_s(0, chance) for _ in range(100)]
    late = [delay_s(40, chance) for _ in range(100)]
    assert FIRST_S / 2 <= min(first) < max(first) <= FIRST_S
    assert LONGEST_S / 2 <= min(late) < max(late) <= LONGEST_S


def test_the_message_is_sent_again_unchanged_but_for_its_count() -> None:
    queue: Any = Sent()
    put_off(queue, json.dumps(EVENT))
    (message, delay) = queue.messages[0]
    put_off(queue, json.dumps(message))
    assert message == EVENT | {"boxdrop:put-off": 1}
    assert queue.messages[1][0] == EVENT | {"boxdrop:put-off": 2}
    assert 1 <= delay <= FIRST_S


def test_after_a_day_its_deliveries_fail() -> None:
    queue: Any = Sent()
    with pytest.raises(BoxdropError, match="had the project for a day"):
        put_off(queue, json.dumps(EVENT | {"boxdrop:put-off": MOST}))
    assert MOST * LONGEST_S * 0.5 > 12 * 3600


@pytest.mark.parametrize("parts", [157, 500])
def test_publishing_many_parts_takes_little_more_than_their_own_time(parts: int) -> None:
    """Before, a part that found the lease taken came back after half an hour."""
    alone = parts * 2.3 / 60
    now, before = simulate(parts, 1.6, 19, delay_s), simulate(parts, 1.6, 19, None)
    assert now.dead == 0
    assert now.minutes < 1.5 * alone
    assert before.minutes > 3 * alone or before.dead
