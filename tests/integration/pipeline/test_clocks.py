"""The clock was a day ahead, and is right again: what was written by it holds nothing up. Against moto."""

from collections.abc import Callable
from typing import Any

import pytest

from boxdrop.ledger import Outcome, RunState, State
from boxdrop.services import Settings

from .world import FRUIT, World


class Death(BaseException):
    """The process dies."""


@pytest.fixture
def fruit(world: World) -> World:
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    return world


def in_a_days_time(world: World, act: Callable[[], Any]) -> Any:
    """What happens while the clock is a day ahead."""
    world.clock.forward(days=1)
    try:
        return act()
    finally:
        world.clock.forward(days=-1)


def test_the_lease_of_a_dead_publisher_is_free(fruit: World) -> None:
    dead = in_a_days_time(fruit, lambda: fruit.ledger.acquire_lease("fruit", "dead", seconds=330))
    assert dead is not None
    other = fruit.ledger.acquire_lease("fruit", "other", seconds=330)
    assert other is not None
    assert other.token > dead.token
    assert fruit.ledger.acquire_lease("fruit", "third", seconds=330) is None
    assert fruit.ledger.renew_lease(dead) is None


def test_a_run_whose_launch_died_gives_its_images_back(fruit: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fruit.dispatch(fruit.put("fruit/a.jpg"))
    fruit.received(fruit.launches)

    def dies(*_: Any, **__: Any) -> None:
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(type(fruit.launcher), "submit", dies)
        with pytest.raises(Death):
            in_a_days_time(fruit, fruit.launch)
    (run,) = fruit.ledger.list_runs("fruit")
    assert run.state == RunState.GATHERING
    assert fruit.recover().failed == (f"fruit/{run.run_id}",)
    fruit.launch_all()
    assert fruit.row("fruit/a.jpg").state == State.RUNNING


def test_images_that_came_then_are_launched_now(fruit: World) -> None:
    fruit.settings = Settings(window_s=60, apply_limit=100)
    in_a_days_time(fruit, lambda: fruit.dispatch(fruit.put("fruit/a.jpg")))
    fruit.received(fruit.launches)
    assert fruit.recover().launches == ("fruit",)
    fruit.launch_all()
    assert fruit.row("fruit/a.jpg").state == State.RUNNING


def test_a_run_of_then_is_no_reason_to_ignore_an_image_of_now(fruit: World) -> None:
    fruit.dispatch(fruit.put("fruit/a.jpg"))
    in_a_days_time(fruit, fruit.launch_all)
    fruit.dispatch(fruit.put("fruit/b.jpg"))
    assert [summary.images for summary in fruit.launch_all()] == [1]


def test_labels_that_came_then_come_into_force_now(fruit: World) -> None:
    fruit.settings = Settings(window_s=60, apply_limit=100)
    before = fruit.ledger.project("fruit")
    in_a_days_time(fruit, lambda: fruit.dispatch(fruit.labels("fruit", FRUIT.replace("apple", "pear"))))
    fruit.launch_all()
    after = fruit.ledger.project("fruit")
    assert before is not None
    assert after is not None
    assert after.labels == after.stored_labels != before.labels


def test_a_finished_run_of_then_is_checked_for_images_that_it_still_holds(fruit: World) -> None:
    fruit.dispatch(fruit.put("fruit/a.jpg"))
    fruit.launch_all()
    (run,) = fruit.ledger.list_runs("fruit")
    fruit.work(run.run_id)
    ended = in_a_days_time(fruit, lambda: fruit.ledger.finish_run("fruit", run.run_id, RunState.SUCCEEDED))
    assert ended.outcome == Outcome.APPLIED
    assert fruit.recover().parts == 1
