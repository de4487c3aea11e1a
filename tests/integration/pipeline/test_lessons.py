"""A lesson comes into force through labels.yaml, or is refused and what was before stays. Against moto."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from boxdrop.demo import BUNDLE
from boxdrop.detect import Bundle
from boxdrop.detect.lessons import encode_heads
from boxdrop.domain.errors import LessonError
from boxdrop.domain.label_edit import with_lesson
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Figures, Lesson, TaughtLabel
from boxdrop.labelstudio.connection import Connection
from boxdrop.ledger import Project
from boxdrop.store.layout import lesson_key
from boxdrop.store.lessons import read_lesson, write_lesson
from boxdrop.store.manifests import read_header

from .test_handlers import Functions, functions, live, tasks
from .world import FRUIT, World

__all__ = ["functions", "live"]


def lesson(previous: str | None = None) -> Lesson:
    rng = np.random.default_rng(1)
    bundle = Bundle.load(BUNDLE)
    heads = encode_heads(rng.normal(size=(1, 130)).astype(np.float32))
    nothing = Figures(0, 0, 0, None)
    return Lesson(
        project="fruit",
        bundle=bundle.name,
        bundle_digest=bundle.digest,
        width=128,
        made_at=datetime(2026, 11, 28, tzinfo=UTC),
        labels=(TaughtLabel("apple", 3, ("apple",), "lesson", 9, heads),),
        images=(),
        boxes=9,
        before=nothing,
        after=nothing,
        figures=(),
        previous=previous,
    )


def project(world: World) -> Project:
    row = world.ledger.project("fruit")
    assert row is not None
    return row


@pytest.fixture
def with_images(world: World) -> World:
    """A project with two images whose tasks show what the words found."""
    world.dispatch(world.labels("fruit"))
    world.dispatch(world.put("fruit/a.jpg"), world.put("fruit/b.jpg"))
    world.launch_all()
    assert project(world).generation == 1
    return world


def test_a_stored_lesson_changes_nothing_until_labels_yaml_names_it(with_images: World) -> None:
    before = project(with_images)
    number = write_lesson(with_images.data, lesson())
    assert write_lesson(with_images.data, lesson()) == number  # teaching was repeated after a kill
    with_images.launch_all()
    assert project(with_images) == before
    with_images.dispatch(with_images.labels("fruit", with_lesson(FRUIT, number)))
    with_images.launch_all()
    row = project(with_images)
    assert row.generation == 2
    label_set = replace(LabelSet.from_yaml(FRUIT), lesson=number)
    assert row.detection == label_set.digest(Bundle.load(BUNDLE).digest)


def test_a_missing_lesson_is_told_and_the_labels_before_stay(with_images: World) -> None:
    before = project(with_images)
    with_images.dispatch(with_images.labels("fruit", with_lesson(FRUIT, "0123456789abcdef")))
    with_images.launch_all()
    row = project(with_images)
    assert "lessons/0123456789abcdef.json: there is no such lesson" in (row.labels_error or "")
    assert (row.labels, row.detection, row.generation) == (before.labels, before.detection, 1)


def test_a_lesson_of_another_detector_is_told_and_the_labels_before_stay(with_images: World) -> None:
    number = write_lesson(with_images.data, replace(lesson(), bundle="owlv2", bundle_digest="7" * 64))
    with_images.dispatch(with_images.labels("fruit", with_lesson(FRUIT, number)))
    with_images.launch_all()
    row = project(with_images)
    assert f"lesson {number} was taught on detector owlv2@7777777777777777, not on demo@" in (
        row.labels_error or ""
    )
    assert row.generation == 1


def test_an_altered_lesson_is_never_used(world: World) -> None:
    number = write_lesson(world.data, lesson())
    body = world.data.get(lesson_key(number))
    assert body is not None
    world.data.put(lesson_key(number), body.body.replace(b"apple", b"grape"))
    with pytest.raises(LessonError, match="was altered; teach again"):
        read_lesson(world.data, number)


def test_after_from_now_annotators_see_the_boxes_of_words_and_of_the_lesson(
    live: Functions, connection: Connection
) -> None:
    """Against a real Label Studio, whose label stream shows the boxes of a single version."""
    world = live.world
    live.deliver("dispatch", world.labels("fruit"), world.put("fruit/a.jpg"), world.put("fruit/b.jpg"))
    (run_id,) = live.launch()
    live.deliver("publish", *live.work(run_id, score=0.9))
    before = project(world)
    number = write_lesson(world.data, lesson())
    taught = replace(LabelSet.from_yaml(FRUIT), lesson=number)
    world.ledger.follow_from_now("fruit", taught.digest(Bundle.load(BUNDLE).digest))
    live.deliver("dispatch", world.labels("fruit", with_lesson(FRUIT, number)))
    world.clock.forward(hours=1)
    assert live.launch() == []  # nothing runs again
    live.deliver("dispatch", world.put("fruit/c.jpg"))
    (run_id,) = live.launch()
    assert read_header(world.data, run_id).images == 1
    live.deliver("publish", *live.work(run_id, score=0.9))

    row = project(world)
    assert row.detection != before.detection
    versions = {name: task.data["model_version"] for name, task in tasks(connection, world).items()}
    assert versions["a.jpg"] == versions["b.jpg"] == before.model_version != versions["c.jpg"]
    seen = set()
    for _ in versions:
        shown = connection.request("next", "GET", f"/api/projects/{row.label_studio_id}/next/")
        seen.add(shown["data"]["file_name"].rpartition("/")[2])
        assert len(shown["predictions"]) == 1
        connection.sdk.annotations.create(shown["id"], result=[])
    assert seen == {"a.jpg", "b.jpg", "c.jpg"}
