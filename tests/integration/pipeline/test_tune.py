"""`boxdrop tune`: thresholds learned from verified images, against a system on moto over HTTP."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Candidate, Prediction
from boxdrop.ledger import State
from boxdrop.store.manifests import read_manifest
from boxdrop.store.parts import Part, write_part

from .test_labels import have_tasks, in_force, project
from .test_retry_and_apply import Call, call
from .verified import candidate, verify
from .world import World

__all__ = ["call"]

LABELS = """\
labels:
  - banana   # ours
  - name: apple
    threshold: 0.5
"""
IMAGES = 30
VERIFIED = 24


def stored(world: World) -> str:
    found = world.images.get("fruit/labels.yaml")
    assert found is not None
    return found.body.decode()


@pytest.fixture
def verified(world: World) -> World:
    """Bananas are right from a score of 0.2 on, apples from 0.8 on; the default threshold is 0.5."""
    in_force(world, LABELS)
    keys = [f"fruit/{number}.jpg" for number in range(IMAGES)]
    world.dispatch(*(world.put(key) for key in keys))
    world.launch_all()
    have_tasks(world, *keys)
    rng = np.random.default_rng(0)
    (run_id,) = world.ledger.runs_with_claims("fruit") or [
        run.run_id for run in world.ledger.list_runs("fruit")
    ]
    manifest = read_manifest(world.data, run_id)
    verified = 0
    for name in manifest.header.parts():
        records = []
        for image in manifest.images_of(name):
            found = [candidate("banana", n, float(rng.uniform(0.03, 0.97))) for n in range(3)]
            found += [candidate("apple", n, float(rng.uniform(0.03, 0.97))) for n in range(3, 6)]
            who = f"s3://{world.images.name}/{image.key}", image.image_id, image.version
            record = Prediction(*who, manifest.header.model_version, 640, 100, (), tuple(found))
            records.append(record)
            if verified < VERIFIED:
                verified += 1
                verify(world, record, is_right)
        write_part(world.data, Part(name, tuple(records)))
    return world


def is_right(found: Candidate) -> bool:
    """What people say: bananas from a score of 0.2 on, apples from 0.8 on."""
    return found.score > (0.2 if found.label == "banana" else 0.8)


def test_a_suggestion_changes_nothing_and_mistakes_are_one_sentence(
    verified: World, call: Call, tmp_path: Path
) -> None:
    before = stored(verified)
    shown = call("tune", "fruit")
    assert shown.exit_code == 0, shown.output
    assert "learned from 24 verified images" in shown.output
    assert "-    threshold: 0.5" in shown.output
    assert "+  - name: banana   # ours" in shown.output
    assert "To apply: boxdrop tune fruit --apply" in shown.output
    assert stored(verified) == before
    assert verified.received(verified.parts) == []

    page = tmp_path / "tune/page.html"
    assert f"Pictures of both: {page}" in call("tune", "fruit", "--html", str(page)).output
    written = page.read_text(encoding="utf-8")
    assert written.count("<figure>") > 3
    assert "Boxes that appear" in written
    assert "Boxes that disappear" in written

    told: dict[str, Any] = json.loads(call("tune", "fruit", "--for", "training", "--json").output)
    banana, apple = told["labels"]
    assert banana["boxes_won"] > 0
    assert apple["boxes_lost"] > 0
    assert told["after"]["f"] > told["before"]["f"]
    assert banana["low"] <= banana["high"]

    first = next(
        row for n in range(IMAGES) if (row := verified.row(f"fruit/{n}.jpg")).state == State.VERIFIED
    )
    verified.dispatch(verified.put(first.key, b"another image"))
    assert f"learned from {VERIFIED - 1} verified images" in call("tune", "fruit").output

    for arguments, said in (
        (("other",), "there is no project other with labels"),
        (("fruit", "--precision", "0.9", "--recall", "0.9"), "give --precision or --recall, not both"),
    ):
        result = call("tune", *arguments)
        assert result.exit_code == 1
        assert said in result.output
        assert "Traceback" not in result.output
    verified.images.put("fruit/labels.yaml", b"labels: [banana, green apple]")
    assert "bring it into force first: boxdrop apply fruit" in call("tune", "fruit").output


def test_applying_writes_labels_yaml_and_publishes_stored_boxes_without_the_detector(
    verified: World, call: Call
) -> None:
    version, states = project(verified).model_version, verified.states()
    done = call("tune", "fruit", "--apply")
    assert done.exit_code == 0, done.output
    written = LabelSet.from_yaml(stored(verified))
    assert "# ours" in stored(verified)
    assert (written["banana"].threshold or 1) < 0.4
    assert (written["apple"].threshold or 0) > 0.6
    assert project(verified).model_version == version
    assert verified.states() == states == {"verified": VERIFIED, "tasked": IMAGES - VERIFIED}
    assert "part of stored boxes published again" in done.output
    assert len(verified.received(verified.parts)) == 1
    assert [run.images for run in verified.launch_all()] == [0]  # nothing for the detector
    again = json.loads(call("tune", "fruit", "--json").output)
    assert abs(again["labels"][1]["after"] - (written["apple"].threshold or 0)) < 0.1


def test_few_verified_images_teach_nothing(world: World, call: Call) -> None:
    in_force(world, LABELS)
    result = call("tune", "fruit")
    assert result.exit_code == 1
    assert "0 verified images are too few to learn thresholds from; verify at least 10" in result.output
