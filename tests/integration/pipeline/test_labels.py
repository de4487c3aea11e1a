"""labels.yaml: kept, brought into force, and spread; mistakes stop nothing. Over HTTP, against moto."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxdrop.demo import BUNDLE
from boxdrop.detect.bundle import Contract
from boxdrop.domain.labels import LabelSet
from boxdrop.ledger import Ledger, Project, Publication
from boxdrop.pipeline.labels import Applied, Stored
from boxdrop.store.bundles import push
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.layout import label_set_key
from boxdrop.store.manifests import read_header
from tests.fixed_bundle import write_fixed_bundle

from .world import FRUIT, World

WITHOUT_DETECTOR = pytest.mark.parametrize("world", [{"detector": False}], indirect=True)
WRONG = "labels:\n  - name: apple\n    prompts: []"


def project(world: World, name: str = "fruit") -> Project:
    row = world.ledger.project(name)
    assert row is not None
    return row


def have_tasks(world: World, *keys: str, generation: int = 1) -> None:
    """These images have been published."""
    rows = [world.row(key) for key in keys]
    world.ledger.record_tasks(
        Publication(row.image_id, row.version or "", generation, "p", number, 1)
        for number, row in enumerate(rows, 1)
    )


def in_force(world: World, text: str = FRUIT) -> None:
    """A project whose labels are in force and everywhere."""
    world.dispatch(world.labels("fruit", text))
    world.launch_all()
    assert not project(world).labels_are_due


def test_the_first_labels_come_into_force_at_once_with_their_detector(world: World) -> None:
    summary = world.dispatch(world.labels("fruit"))
    assert summary.labels == {"fruit": Stored.STORED}
    assert world.launch().labels == Applied.APPLIED
    row = project(world)
    assert (row.generation, row.bundle_name, row.labels) == (1, "demo", row.stored_labels)
    assert row.default_threshold is not None
    assert row.labels is not None
    label_set = LabelSet.from_yaml(FRUIT)
    assert read_label_set(world.data, row.labels) == label_set
    assert row.bundle_digest is not None
    assert row.model_version == f"demo@{label_set.digest(row.bundle_digest)[:8]}"


def test_a_mistake_is_reported_and_the_previous_labels_stay(world: World) -> None:
    in_force(world)
    before = project(world)
    summary = world.dispatch(world.labels("fruit", WRONG))
    assert (summary.failed, summary.labels) == ({}, {"fruit": Stored.REFUSED})
    row = project(world)
    assert row.labels_error is not None
    assert "fruit/labels.yaml: line 2: label 'apple' has no prompts" in row.labels_error
    assert (row.labels, row.generation) == (before.labels, 1)
    world.dispatch(world.put("fruit/a.jpg"))
    assert [run.images for run in world.launch_all()] == [1]
    assert project(world).labels_error == row.labels_error, (
        "a launch with the labels before it hides the mistake"
    )
    world.dispatch(world.labels("fruit"))
    assert project(world).labels_error is None


def test_a_mistake_in_the_first_labels_makes_no_dead_letter(world: World) -> None:
    summary = world.dispatch(world.put("fruit/a.jpg"), world.put("fruit/labels.yaml", b"\xff\xfe no text"))
    assert summary.failed == {}
    assert "not UTF-8" in (project(world).labels_error or "")
    assert world.launch_all() == []
    world.dispatch(world.labels("fruit"))
    assert sum(run.images for run in world.launch_all()) == 1


def test_an_older_event_does_not_bring_an_older_file_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dispatcher reads the file, is stopped there, and goes on when another has stored a newer one."""
    old = world.labels("fruit", "labels: [apple]")
    store = Ledger.store_labels

    def newer_comes(self: Ledger, *arguments: Any) -> Any:
        monkeypatch.setattr(Ledger, "store_labels", store)
        world.dispatch(world.labels("fruit", "labels: [apple, pear]"))
        return store(self, *arguments)

    monkeypatch.setattr(Ledger, "store_labels", newer_comes)
    world.dispatch(old)
    stored = project(world).stored_labels
    assert stored is not None
    assert read_label_set(world.data, stored).names == ("apple", "pear")


def test_without_an_order_the_file_is_read_again(world: World) -> None:
    def unordered(message: str) -> str:
        event = json.loads(message)
        del event["detail"]["object"]["sequencer"]
        return json.dumps(event)

    first = unordered(world.labels("fruit", "labels: [apple]"))
    world.dispatch(first)
    world.dispatch(unordered(world.labels("fruit", "labels: [pear]")), first)
    stored = project(world).stored_labels
    assert stored is not None
    assert read_label_set(world.data, stored).names == ("pear",)


@WITHOUT_DETECTOR
def test_without_a_detector_the_project_reports_it_and_waits(world: World) -> None:
    world.dispatch(world.put("fruit/a.jpg"), world.labels("fruit"))
    assert world.launch().labels == Applied.REFUSED
    assert "boxdrop bundle push" in (project(world).labels_error or "")
    push(world.data, BUNDLE)
    world.recover()
    assert project(world).labels_error is None
    assert sum(run.images for run in world.launch_all()) == 1


def test_a_threshold_below_the_detectors_floor_is_refused(world: World) -> None:
    in_force(world)
    world.dispatch(world.labels("fruit", "labels: [{name: apple, threshold: 0.0001}]"))
    assert world.launch().labels == Applied.REFUSED
    assert "the floor of detector demo" in (project(world).labels_error or "")
    assert project(world).generation == 1


def test_a_word_that_a_detector_with_fixed_classes_lacks_is_refused(world: World, tmp_path: Path) -> None:
    """And its classes come into force, for images that the job then runs."""
    outputs = {"boxes": np.ones((1, 4), np.float32), "scores": np.ones((1, 2), np.float32)}
    contract = Contract("images", "boxes", "scores", "xyxy", "pixel", "probability")
    push(world.data, write_fixed_bundle(tmp_path / "fixed", outputs, contract, ("apple", "wax apple")))
    in_force(world)
    text = "detector: fixed\nlabels:\n  - apple\n  - {name: pear, classes: [wax apples]}"
    world.dispatch(world.labels("fruit", text))
    assert world.launch().labels == Applied.REFUSED
    assert "did you mean 'wax apple'? " in (project(world).labels_error or "")
    assert "Its classes are: apple, wax apple" in (project(world).labels_error or "")
    world.dispatch(world.labels("fruit", text.replace("wax apples", "Wax_Apple")))
    world.launch_all()
    assert project(world).labels_error is None
    assert (project(world).model_version or "").startswith("fixed@")


def test_a_second_detector_comes_into_force_for_the_labels_that_only_it_knows(
    world: World, tmp_path: Path
) -> None:
    outputs = {"boxes": np.ones((1, 4), np.float32), "scores": np.ones((1, 1), np.float32)}
    contract = Contract("images", "boxes", "scores", "xyxy", "pixel", "probability")
    push(world.data, write_fixed_bundle(tmp_path / "fixed", outputs, contract, ("apple",)))
    in_force(world, "detector: fixed\nlabels: [apple]")
    world.dispatch(world.put("fruit/a.jpg"))
    world.launch()
    have_tasks(world, "fruit/a.jpg")
    alone = project(world)
    world.dispatch(world.labels("fruit", "detectors: [fixed, demo]\nlabels: [apple, pineapple]"))
    world.launch_all()
    row = project(world)
    assert (row.generation, row.bundle_name) == (2, "fixed+demo")
    assert row.default_threshold == alone.default_threshold
    assert (row.model_version or "").startswith("fixed+demo@")
    assert world.row("fruit/a.jpg").generation == 2
    newest = next(iter(world.ledger.list_runs("fruit")))
    header = read_header(world.data, newest.run_id)
    assert (header.bundle.name, header.bundle.digest) == ("fixed+demo", row.bundle_digest)
    assert header.model_version == row.model_version
    # The threshold of a label counts on the first detector's scale, and has to be one that both can keep.
    world.dispatch(
        world.labels(
            "fruit", "detectors: [fixed, demo]\nlabels: [apple, {name: pineapple, threshold: 0.0001}]"
        )
    )
    assert world.launch().labels == Applied.REFUSED
    assert "the floor of detector fixed+demo" in (project(world).labels_error or "")


def test_new_prompts_want_what_people_have_not_verified_again(world: World) -> None:
    in_force(world)
    keys = [f"fruit/{name}.jpg" for name in "abcd"]
    world.dispatch(*(world.put(key) for key in keys))
    world.launch()
    have_tasks(world, *keys[:3])
    world.ledger.record_verified(world.id_of(keys[0]), world.row(keys[0]).version or "", world.clock())
    assert world.states() == {"verified": 1, "tasked": 2, "running": 1}
    world.dispatch(world.labels("fruit", FRUIT.replace("apple", "green apple")))
    summary = world.launch()
    assert (summary.labels, summary.wanted, summary.images) == (Applied.APPLIED, 3, 3)
    assert project(world).generation == 2
    assert world.states() == {"verified": 1, "running": 3}


def test_labels_that_change_every_moment_run_the_images_once(world: World) -> None:
    in_force(world)
    world.settings = type(world.settings)(window_s=60, apply_limit=100)
    for name in ("pear", "plum", "grape"):
        world.dispatch(world.labels("fruit", f"labels: [{name}]"))
        assert world.launch().labels == Applied.EARLY
        world.clock.forward(seconds=5)
    world.clock.forward(seconds=55)
    assert world.launch().labels == Applied.APPLIED
    row = project(world)
    assert row.generation == 2
    assert row.labels is not None
    assert read_label_set(world.data, row.labels).names == ("grape",)
    assert set(world.launches.delays) <= {0, 10, 60}


def test_a_changed_threshold_sends_for_the_stored_predictions_and_runs_nothing(world: World) -> None:
    in_force(world)
    world.dispatch(world.put("fruit/a.jpg"), world.put("fruit/b.jpg"))
    run = world.launch()
    assert run.run_id is not None
    (part,) = world.work(run.run_id)
    have_tasks(world, "fruit/a.jpg", "fruit/b.jpg")
    world.dispatch(
        world.labels("fruit", "labels: [pineapple, banana, {name: apple, threshold: 0.9}]\ncaption: x")
    )
    summary = world.launch()
    assert (summary.labels, summary.wanted, summary.parts, summary.images) == (Applied.APPLIED, 0, 1, 0)
    assert project(world).generation == 1
    assert world.states() == {"tasked": 2}
    (message,) = world.received(world.parts)
    assert message["detail"]["object"]["key"] == part.key
    assert world.launch().parts == 0


def test_predictions_of_older_prompts_are_not_sent_for(world: World) -> None:
    in_force(world)
    world.dispatch(world.put("fruit/a.jpg"))
    run = world.launch()
    assert run.run_id is not None
    world.work(run.run_id)
    in_force(world, "labels: [pear]")
    assert world.received(world.parts) == []


def test_a_change_of_very_many_images_waits_for_approval(world: World) -> None:
    world.settings = type(world.settings)(window_s=0, apply_limit=2)
    in_force(world)
    keys = [f"fruit/{name}.jpg" for name in "abc"]
    world.dispatch(*(world.put(key) for key in keys))
    world.launch()
    have_tasks(world, *keys)
    world.dispatch(world.labels("fruit", "labels: [pear]"))
    assert world.launch().labels == Applied.HELD
    row = project(world)
    assert (row.generation, row.held_images) == (1, 3)
    assert world.launch().labels == Applied.HELD
    assert world.states() == {"tasked": 3}
    world.dispatch(world.labels("fruit"))  # the old ones again: nothing is left to ask for
    assert world.launch().wanted == 0
    assert project(world).held is None


def test_without_its_file_a_project_keeps_its_labels(world: World) -> None:
    in_force(world)
    assert world.dispatch(world.delete("fruit/labels.yaml")).failed == {}
    world.dispatch(world.put("fruit/a.jpg"))
    assert [run.images for run in world.launch_all()] == [1]


def test_an_interrupted_sweep_resumes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.dispatch(*(world.put(f"fruit/{number}.jpg") for number in range(6)), world.labels("fruit"))
    want_older = Ledger.want_older

    def dies(self: Ledger, name: str, generation: int, limit: int = 0) -> int:
        want_older(self, name, generation, 2)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "want_older", dies)
        with pytest.raises(KeyboardInterrupt):
            world.launch()
    assert world.states() == {"wanted": 2, "waiting": 4}
    assert world.launch().images == 6


def test_a_snapshot_is_never_written_over(world: World) -> None:
    in_force(world)
    digest = project(world).labels
    assert digest is not None
    stored = world.data.get(label_set_key(digest))
    world.dispatch(world.labels("fruit", "# a comment\n" + FRUIT))
    assert project(world).stored_labels == digest
    assert world.data.get(label_set_key(digest)) == stored
