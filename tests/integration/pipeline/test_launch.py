"""Launch: wanted images become runs, and whoever dies in between loses none. Over HTTP, against moto."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from boxdrop.aws.launchers import LaunchError
from boxdrop.ledger import Ledger, RunState, State
from boxdrop.pipeline import launch as module
from boxdrop.services import Settings
from boxdrop.store.manifests import read_header, read_manifest

from .world import NotedLauncher, World


@pytest.fixture
def fruit(world: World) -> World:
    """A project whose labels are in force."""
    world.dispatch(world.labels("fruit"))
    world.launch_all()
    return world


def drop(world: World, count: int, first: int = 0) -> list[str]:
    keys = [f"fruit/{number:03}.jpg" for number in range(first, first + count)]
    world.dispatch(*(world.put(key) for key in keys))
    return keys


def test_a_run_has_its_images_its_labels_and_its_detector(fruit: World) -> None:
    keys = drop(fruit, 3)
    summary = fruit.launch()
    assert (summary.images, summary.shards) == (3, 1)
    assert summary.run_id is not None
    manifest = read_manifest(fruit.data, summary.run_id)
    project, header = fruit.ledger.project("fruit"), manifest.header
    assert project is not None
    assert (header.generation, header.labels) == (1, project.labels)
    assert (header.bundle.name, header.bundle.digest) == (project.bundle_name, project.bundle_digest)
    assert header.model_version == project.model_version
    assert {image.key for image in manifest.images} == set(keys)
    assert all(image.version == fruit.images.version(image.key) for image in manifest.images)
    run = fruit.ledger.run("fruit", summary.run_id)
    assert run is not None
    assert (run.state, run.images, run.attempt) == (RunState.SUBMITTED, 3, 1)
    assert fruit.launcher.submitted == [(summary.run_id, 1, 1)]
    assert run.job_ids == (f"boxdrop-{summary.run_id}-1-job",)


def test_runs_are_bounded_and_a_launch_asks_for_the_rest(fruit: World) -> None:
    fruit.settings = Settings(window_s=0, run_images=3)
    drop(fruit, 7)
    runs = [summary for summary in fruit.launch_all() if summary.run_id]
    assert [run.images for run in runs] == [3, 3, 1]
    assert fruit.states() == {"running": 7}


def test_a_launch_that_runs_out_of_time_submits_what_it_has_and_asks_for_another(fruit: World) -> None:
    """A limit of run_images that takes longer to claim than Lambda allows used to die in every attempt."""
    fruit.settings = Settings(window_s=0, run_images=200_000, claim_s=0)
    drop(fruit, 7)
    summary = module.launch(fruit.services, "fruit")
    assert summary.images == 7  # the first chunk, of up to a thousand, is always claimed
    assert len(fruit.received(fruit.launches)) >= 1
    assert module.launch(fruit.services, "fruit").note == "nothing is wanted"


def test_large_runs_are_cut_into_shards_of_whole_parts(fruit: World) -> None:
    fruit.settings = Settings(window_s=0, shard_images=3, part_images=2)
    drop(fruit, 5)
    summary = fruit.launch()
    assert summary.shards == 2
    assert summary.run_id is not None
    header = read_header(fruit.data, summary.run_id)
    assert (header.shard_images, header.part_images) == (4, 2)
    assert fruit.launcher.submitted == [(summary.run_id, 2, 1)]


def test_an_array_never_has_more_shards_than_batch_takes() -> None:
    settings = Settings(run_images=5_000_000, shard_images=128)
    assert settings.shard % 128 == 0
    assert -(-settings.run_images // settings.shard) <= 10_000


def test_without_wanted_images_there_is_no_run(fruit: World) -> None:
    assert fruit.launch().note == "nothing is wanted"
    assert fruit.launch("nowhere").note == "there is no such project"
    assert fruit.ledger.list_runs("fruit") == []


def test_many_messages_of_one_window_make_one_run(fruit: World) -> None:
    asked = fruit.clock()
    drop(fruit, 2)
    fruit.clock.forward(seconds=60)
    assert fruit.launch(asked_at=asked).images == 2
    fruit.dispatch(fruit.put("fruit/late.jpg"))  # its own message is under way
    assert fruit.launch(asked_at=asked + timedelta(seconds=30)).run_id is None
    fruit.clock.forward(seconds=60)
    assert fruit.launch(asked_at=asked + timedelta(seconds=61)).images == 1


def test_while_another_launch_looks_the_message_waits(fruit: World) -> None:
    drop(fruit, 1)
    fruit.received(fruit.launches)
    lease = fruit.ledger.acquire_lease("fruit", "another", seconds=30, purpose="launch")
    assert lease is not None
    assert fruit.launch().note == "another launch is checking right now"
    fruit.ledger.release_lease(lease)
    assert [summary.images for summary in fruit.launch_all()] == [1]


def test_launches_at_the_same_time_give_each_image_to_one_run(fruit: World) -> None:
    keys = drop(fruit, 8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: fruit.launch(), range(4)))
    fruit.launch_all()
    held = fruit.live_images()
    assert set(held) == set(keys)
    assert all(len(runs) == 1 for runs in held.values())


def test_images_of_newer_labels_are_left_to_the_next_launch(
    fruit: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(fruit, 2)
    claim = Ledger.claim_wanted

    def labels_change(self: Ledger, *arguments: Any) -> Any:
        monkeypatch.setattr(Ledger, "claim_wanted", claim)
        fruit.ledger.renew([fruit.id_of("fruit/000.jpg")], 2)
        return claim(self, *arguments)

    monkeypatch.setattr(Ledger, "claim_wanted", labels_change)
    assert fruit.launch().images == 1
    assert fruit.row("fruit/000.jpg").state == State.WANTED


def test_a_run_that_cannot_be_submitted_fails_without_blaming_its_images(fruit: World) -> None:
    drop(fruit, 2)
    fruit.launcher.refuses = True
    for _ in range(2):
        with pytest.raises(LaunchError, match="no such job queue"):
            fruit.launch()
    assert fruit.states() == {"wanted": 2}
    assert fruit.row("fruit/000.jpg").attempts == 0
    newest = fruit.ledger.list_runs("fruit")[0]
    assert (newest.state, newest.reason) == (RunState.FAILED, "there is no such job queue")
    fruit.launcher.refuses = False
    assert fruit.launch().images == 2


class Death(BaseException):
    """The process is gone: nobody catches this."""


POINTS = {
    "before the run's row": (Ledger, "start_run", False),
    "between the run's row and its claims": (Ledger, "start_run", True),
    "between claims and manifest": (Ledger, "claim_wanted", True),
    "between manifest and submission": (module, "write_manifest", True),
    "between submission and its record": (NotedLauncher, "submit", True),
    "after the record": (Ledger, "record_submission", True),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_launch_that_dies_anywhere_loses_no_image(
    fruit: World, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = drop(fruit, 5)
    fruit.received(fruit.launches)
    owner, name, after = POINTS[point]
    original = getattr(owner, name)

    def dies(*arguments: Any, **options: Any) -> Any:
        if after:
            original(*arguments, **options)
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        with pytest.raises(Death):
            fruit.launch()
    fruit.clock.forward(hours=4)
    found = fruit.recover()
    assert found.problems == ()
    fruit.launch_all()
    held = fruit.live_images()
    assert set(held) == set(keys)
    assert all(len(runs) == 1 for runs in held.values())
    gathering = [run for run in fruit.ledger.list_runs("fruit") if run.state == RunState.GATHERING]
    assert gathering == []
    blamed = fruit.row(keys[0]).attempts
    assert blamed == (2 if point == "after the record" else 1)


def test_a_run_that_died_half_way_through_its_claims_gives_them_back(
    fruit: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = drop(fruit, 6)
    claim = Ledger.claim_wanted

    def dies(self: Ledger, name: str, run_id: str, generation: int, *_: Any) -> Any:
        claim(self, name, run_id, generation, 2)
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "claim_wanted", dies)
        with pytest.raises(Death):
            fruit.launch()
    assert fruit.states() == {"wanted": 4, "running": 2}
    assert fruit.launch().images == 4  # nobody has to wait for the dead
    fruit.clock.forward(minutes=16)
    assert fruit.recover().released == {"fruit": 2}
    fruit.launch_all()
    assert set(fruit.live_images()) == set(keys)
