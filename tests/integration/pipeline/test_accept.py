"""`boxdrop accept`: images that need nobody, against a system on moto and a real Label Studio."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from boxdrop.assessment.acceptance import is_audited
from boxdrop.domain.predictions import Candidate, Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.tasks import ProjectTasks
from boxdrop.labelstudio.webhook import ReviewEvent
from boxdrop.local.label_studio import Server
from boxdrop.pipeline.labels import part_event
from boxdrop.review.acceptance import end_acceptance
from boxdrop.services import Services
from boxdrop.store.manifests import read_manifest
from boxdrop.store.parts import Part, write_part

from .test_handlers import Functions, functions, live, tasks
from .test_rank import number
from .test_retry_and_apply import Call, call
from .verified import SHOWN, candidate, verify
from .world import World

__all__ = ["call", "functions", "live"]

LABELS = "review: {accept_above: 0.9 precision, audit: 60%}\nlabels: [banana, apple]"
IMAGES = 72
VERIFIED = 48
UNSURE = 2
"""Every so many images hold a box that is not sure."""


def detected(live: Functions, run_id: str) -> tuple[list[Prediction], list[dict[str, Any]]]:
    """Do what the job does: three sure boxes an image, hidden ones that are wrong, and some in between."""
    world, manifest = live.world, read_manifest(live.world.data, run_id)
    records, events = [], []
    for name in manifest.header.parts():
        some = []
        for image in manifest.images_of(name):
            place = int(image.key.rpartition("/")[2].removesuffix(".jpg"))
            found = [candidate("banana", n, 0.96) for n in range(3)] + [candidate("apple", 3, 0.04)]
            if place % 12 < UNSURE:
                found.append(candidate("apple", 4, 0.6))
            who = f"s3://{world.images.name}/{image.key}", image.image_id, image.version
            some.append(Prediction(*who, manifest.header.model_version, 640, 100, (), tuple(found)))
        write_part(world.data, Part(name, tuple(some)))
        records += some
        events.append(part_event(world.data.name, name.key))
    return sorted(records, key=lambda each: each.image), events


def verify_all(world: World, records: list[Prediction]) -> None:
    """People keep the bananas, and delete every other apple."""
    for record in records:
        right = {"banana", "apple"} if int(record.image[-5]) % 2 == 0 else {"banana"}
        verify(world, record, partial(is_kept, right))


def is_kept(right: set[str], found: Candidate) -> bool:
    return found.score > SHOWN and found.label in right


def test_sure_images_are_accepted_until_the_audit_finds_too_many_mistakes(
    live: Functions,
    connection: Connection,
    call: Call,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    world = live.world
    names = [f"fruit/{place:02}.jpg" for place in range(IMAGES)]
    live.deliver("dispatch", world.labels("fruit", LABELS), *(world.put(name) for name in names))
    (run_id,) = live.launch()
    records, events = detected(live, run_id)
    assert live.deliver("publish", *events) == []

    def said(*options: str) -> dict[str, Any]:
        done = call("accept", "fruit", "--json", *options)
        assert done.exit_code == 0, done.output
        fields: dict[str, Any] = json.loads(done.stdout)
        return fields

    def tab(title: str) -> list[str]:
        views = connection.request("look", "GET", f"/api/dm/views?project={number(live)}")
        (view,) = [each for each in views if each["data"]["title"] == title]
        path = f"/api/tasks?view={view['id']}&project={number(live)}&page_size=200"
        return [each["data"]["image_id"] for each in connection.request("look", "GET", path)["tasks"]]

    assert "nothing is accepted yet" in call("accept", "fruit").output

    verify_all(world, records[:VERIFIED])
    waiting = records[VERIFIED:]
    sure = [each.image_id for place, each in enumerate(waiting) if place % 12 >= UNSURE]
    audited = {each for each in sure if is_audited(each, 0.6)}
    opened, *others = sorted({*sure} - audited)
    task_of = {task.data["image_id"]: task.id for task in tasks(connection, world).values()}
    connection.sdk.annotations.create(task_of[opened], result=[], was_cancelled=True)  # a person skipped it

    first = said()
    accepted = set(others)
    assert (first["accepted"], first["marked"], first["unmarked"]) == (len(accepted), len(accepted), 0)
    assert first["proof"]["precision_at_least"] >= 0.9
    assert first["proof"]["right"] == first["proof"]["boxes"] == 3 * VERIFIED * (12 - UNSURE) / 12
    assert (first["audit"]["waiting"], first["audit"]["of"]) == (len(audited), len(audited))
    assert set(tab("Accepted")) == accepted
    unverified = {each.image_id for each in waiting}

    def left() -> list[str]:
        return [each for each in tab("To verify") if each in unverified]

    assert {*left()} == unverified - accepted - {opened}
    assert audited <= {*left()[: len(audited) + 4]}  # four are as uncertain as an image can be
    assert call("rank", "fruit").exit_code == 0
    assert audited <= {*left()[: len(audited) + 4]}

    project = ProjectTasks(connection, number(live) or 0)
    project.mark_all([task_of[each] for each in others[:1]], "tasked")  # as after a kill half-way
    assert said()["marked"] == 1
    assert set(tab("Accepted")) == accepted

    def in_force(labels: str) -> None:
        live.deliver("dispatch", world.labels("fruit", labels))
        live.launch()
        assert live.deliver("publish", *world.received(world.parts)) == []

    def standing() -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(call("status", "fruit", "--json").stdout)["projects"][0]
        return dict(fields["acceptance"])

    in_force(f"caption: another\n{LABELS}")
    assert {task.data["caption"] for task in tasks(connection, world).values()} == {"another"}
    assert set(tab("Accepted")) == accepted  # the boxes are the same
    assert standing()["accepted"] == len(accepted)
    assert standing()["audit"] == {"verified": 0, "of": len(audited)}
    assert f"{len(accepted)} images accepted at a precision of 90.0%" in call("status", "fruit").output

    services = Services.of(ledger=world.ledger, data=world.data, label_studio=connection)
    assert end_acceptance(services, "fruit") == 0
    in_force(LABELS.replace("0.9 ", "0.91 "))
    assert (standing()["in_force"], standing()["accepted"]) == (False, 0)
    assert "decide again: boxdrop accept fruit" in call("status", "fruit").output
    assert end_acceptance(services, "fruit") == len(accepted)  # as `boxdrop sync` does, or a comparison a day
    assert tab("Accepted") == []
    in_force(LABELS)
    assert said()["marked"] == len(accepted)

    def exported(folder: str) -> Result:
        out = str(tmp_path / folder)
        return call("export", "fruit", "--include", "accepted", "--images", "none", "--out", out)

    assert f"and {len(accepted)} images that nobody has verified" in exported("kept").output
    listed = (tmp_path / "kept/unverified.tsv").read_text()
    keys = {each.image_id: each.image.removeprefix(f"s3://{world.images.name}/") for each in records}
    assert {row.split("\t")[1] for row in listed.splitlines()[1:]} == {keys[each] for each in accepted}

    def submit_nothing(image_id: str) -> None:
        """A person deletes all boxes of an image, and Label Studio's webhook says so."""
        task = task_of[image_id]
        connection.sdk.annotations.create(task, result=[], lead_time=2.0)
        event = ReviewEvent("ANNOTATION_CREATED", number(live) or 0, (task,))
        assert live.deliver("collect", event.to_fields()) == []

    failed = sorted(audited)[:4]
    submit_nothing(failed[0])
    assert said()["stopped"] is None
    assert (standing()["accepted"], standing()["audit"]["verified"]) == (len(accepted), 1)
    for image_id in failed[1:]:
        submit_nothing(image_id)
    assert tab("Accepted") == []  # at once
    assert standing()["stopped"]
    assert standing()["accepted"] == 0
    assert "the audit stopped accepting: 0 of 12 boxes were right" in call("status", "fruit").output
    refused = exported("refused")
    assert refused.exit_code == 1
    assert "the audit of fruit found too many wrong boxes: nothing is accepted" in refused.output
    stopped = said()
    assert stopped["stopped"]
    assert stopped["accepted"] == 0
    assert tab("Accepted") == []
    assert accepted <= {*left()}
    told = call("accept", "fruit").output
    assert "0 of 12 boxes were right in 4 audited images, and 90.0% was promised" in told
    assert "boxdrop accept fruit --restart" in told
    in_force(f"caption: yet another\n{LABELS}")
    assert said()["stopped"]  # another caption excuses nothing
    began = said("--restart")
    assert (began["stopped"], began["accepted"], began["learned_from"]) == (None, 0, 4)

    in_force("labels: [banana, apple]")
    assert "has no `review: {accept_above: 0.98 precision}`" in call("accept", "fruit").output
