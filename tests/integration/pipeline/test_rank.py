"""`boxdrop rank`: what people see first, against a system on moto and a real Label Studio."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from boxdrop.domain.predictions import Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.local.label_studio import Server
from boxdrop.pipeline.labels import part_event
from boxdrop.store.manifests import read_manifest
from boxdrop.store.parts import Part, write_part
from tests.shape_scenes import draw_shapes

from .test_handlers import Functions, functions, live, tasks
from .test_retry_and_apply import Call, call
from .test_tune import is_right
from .verified import candidate, verify

__all__ = ["call", "functions", "live"]

AS_STORED = {"resolve_uri": "false", "page_size": "100"}
IMAGES = 18
VERIFIED = 14


def test_the_images_with_most_to_correct_come_first_and_status_says_how_many_need_a_change(
    live: Functions, connection: Connection, call: Call, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    world = live.world
    names = [f"fruit/{number:02}.jpg" for number in range(IMAGES)]
    labels = world.labels("fruit", "labels: [banana, apple]")
    live.deliver("dispatch", labels, *(world.put(name) for name in names))
    (run_id,) = live.launch()
    records, events = detected(live, run_id)
    assert live.deliver("publish", *events) == []
    published = priorities(connection, live)
    assert all(each >= 0 for each in published.values())

    early = call("rank", "fruit")
    assert early.exit_code == 0, early.output
    assert "too little is verified to learn from" in early.output
    assert "0 tasks have a new priority" in early.output  # they have it since they were published

    for record in records[:VERIFIED]:
        verify(world, record, is_right)
    told = json.loads(call("rank", "fruit", "--json").output)
    assert (told["images"], told["learned_from"]) == (IMAGES - VERIFIED, VERIFIED)
    need = told["need_a_change"]
    assert 0 <= need["low"] <= need["expected"] <= need["high"] <= IMAGES - VERIFIED
    ranked = {each["key"].rpartition("/")[2]: each["priority"] for each in told["first"]}
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)
    now = priorities(connection, live)
    shown = connection.request("look", "GET", "/api/tasks/", params={"project": number(live), **AS_STORED})
    assert {task["data"]["image"] for task in shown["tasks"]} == {
        f"s3://{world.images.name}/{name}" for name in names
    }
    assert {name: now[name] for name in ranked} == ranked != {name: published[name] for name in ranked}
    assert f"of {IMAGES - VERIFIED} images to verify needed a change" in call("status", "fruit").output


def number(live: Functions) -> int | None:
    """Label Studio's number of the project."""
    row = live.world.ledger.project("fruit")
    assert row is not None
    return row.label_studio_id


def priorities(connection: Connection, live: Functions) -> dict[str, Any]:
    """The column priority by the images' names."""
    return {name: task.data["priority"] for name, task in tasks(connection, live.world).items()}


def detected(live: Functions, run_id: str) -> tuple[list[Prediction], list[dict[str, Any]]]:
    """Do what the job does, with random scores; returns the predictions, and S3's events about the parts."""
    rng = np.random.default_rng(0)
    world, manifest = live.world, read_manifest(live.world.data, run_id)
    records, events = [], []
    for name in manifest.header.parts():
        some = []
        for image in manifest.images_of(name):
            labels = ["banana"] * 3 + ["apple"] * 3
            found = [candidate(label, n, float(rng.uniform(0.03, 0.97))) for n, label in enumerate(labels)]
            who = f"s3://{world.images.name}/{image.key}", image.image_id, image.version
            some.append(Prediction(*who, manifest.header.model_version, 640, 100, (), tuple(found)))
        write_part(world.data, Part(name, tuple(some)))
        records += some
        events.append(part_event(world.data.name, name.key))
    return records, events


def test_verified_images_with_a_probable_mistake_are_listed_in_a_tab_of_their_own(
    live: Functions, connection: Connection, call: Call, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    world = live.world
    names = [f"fruit/{number:02}.jpg" for number in range(VERIFIED)]
    labels = world.labels("fruit", "labels: [banana, apple]")
    live.deliver("dispatch", labels, *(world.put(name) for name in names))
    (run_id,) = live.launch()
    records, events = detected(live, run_id)
    assert live.deliver("publish", *events) == []
    for record in records:
        verify(world, record, is_right)
    best = max((c.score, record.image) for record in records for c in record.candidates if c.label == "apple")
    spoiled = next(record for record in records if record.image == best[1])
    kept = [c for c in spoiled.candidates if c.score != best[0]]
    verify(world, replace(spoiled, candidates=tuple(kept)), is_right)  # the surest apple has no box

    def tab() -> dict[str, str]:
        views = connection.request("look", "GET", f"/api/dm/views?project={number(live)}")
        (view,) = [each for each in views if each["data"]["title"] == "Look again"]
        listed = connection.request("look", "GET", f"/api/tasks?view={view['id']}&project={number(live)}")
        return {task["data"]["file_name"]: task["data"]["look_again"] for task in listed["tasks"]}

    told = json.loads(call("recheck", "fruit", "--limit", "1", "--mark", "--json").output)
    key = spoiled.image.removeprefix(f"s3://{world.images.name}/")
    assert [(each["key"], each["doubts"][0]["reason"]) for each in told] == [(key, "apple missed?")]
    assert list(tab()) == [key]
    assert tab()[key].startswith("apple missed?")
    verify(world, spoiled, is_right)  # the person looked again, and drew it
    assert key not in [
        each["key"] for each in json.loads(call("recheck", "fruit", "--mark", "--json").output)
    ]
    assert key not in tab()
    states = {task.data["state"] for task in tasks(connection, world).values()}
    assert states == {"tasked"}  # nothing else of the tasks was touched


def test_images_chosen_for_teaching_come_first_until_rank_orders_anew(
    live: Functions, connection: Connection, call: Call, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    world = live.world
    names = [f"fruit/{seed}.jpg" for seed in range(6)]
    labels = world.labels("fruit", "labels: [banana, apple]")
    scenes = [draw_shapes(seed).jpeg() for seed in range(6)]
    live.deliver("dispatch", labels, *map(world.put, names, scenes))
    (run_id,) = live.launch()
    _, events = detected(live, run_id)
    assert live.deliver("publish", *events) == []
    published = priorities(connection, live)

    done = call("teach", "fruit", "--next", "2")
    assert done.exit_code == 0, done.output
    assert done.output.endswith("They come first in the tab To verify and in its label stream.\n")
    first, second = (line.strip().rpartition("/")[2] for line in done.output.splitlines()[1:3])
    now = priorities(connection, live)
    assert now[first] > now[second] > max(published.values())
    assert {name: each for name, each in now.items() if name not in (first, second)} == {
        name: each for name, each in published.items() if name not in (first, second)
    }
    views = connection.request("look", "GET", f"/api/dm/views?project={number(live)}")
    (view,) = [each for each in views if each["data"]["title"] == "To verify"]
    listed = connection.request("look", "GET", f"/api/tasks?view={view['id']}&project={number(live)}")
    shown = [task["data"]["file_name"] for task in listed["tasks"]]
    assert shown[:2] == [f"fruit/{first}", f"fruit/{second}"]

    assert call("rank", "fruit").exit_code == 0
    assert priorities(connection, live) == published
