"""`boxdrop teach` dies before each of its writes: the old lesson is in force, or the new one. Against moto.

A death is an exception that nothing in boxdrop catches, raised instead of a call to AWS. What happens next is
what happens in a system: S3 notifies about labels.yaml if it was written, and the user teaches again.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import botocore.client
import pytest

import boxdrop.cli.teach as teaching
from boxdrop.aws.s3_events import parse_events
from boxdrop.demo import BUNDLE
from boxdrop.detect import Bundle
from boxdrop.domain.annotations import Annotation, DrawnBox, to_json
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson
from boxdrop.ledger import Image, State
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.layout import annotation_key
from boxdrop.store.lessons import read_lesson
from tests.shape_scenes import draw_shapes

from .test_labels import have_tasks, in_force, project
from .test_retry_and_apply import Call, call
from .world import World

__all__ = ["call"]

LABELS = "labels:\n  - {name: badge, examples: only}   # no words for it\n  - banana\n"
STARS = [seed for seed in range(40) if len(draw_shapes(seed).stars)][:8]
VERIFIED, OTHERS = STARS[:6], STARS[6:]
WRITES = {
    "PutObject",
    "DeleteObject",
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "TransactWriteItems",
    "SendMessage",
    "SendMessageBatch",
}


class Death(BaseException):
    """The process ends here."""


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[list[str]]:
    """Note the writes to AWS, and die before the one with this number, from 0, if there is one."""
    writes: list[str] = []
    real = botocore.client.BaseClient._make_api_call

    def call_or_die(client: Any, operation: str, parameters: Any) -> Any:
        if operation in WRITES:
            writes.append(operation)
            if len(writes) > at:  # some are in parallel: none of them after this one
                raise Death
        return real(client, operation, parameters)

    with monkeypatch.context() as patched:
        patched.setattr(botocore.client.BaseClient, "_make_api_call", call_or_die)
        try:
            yield writes
        except Death:
            assert len(writes) > at
        else:
            assert len(writes) <= at


@pytest.fixture
def badges(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Six images with verified stars, and two that wait for a person. The fit itself runs once."""
    fitted: list[tuple[Lesson, Any]] = []
    fit = teaching._teach

    def fit_once(*arguments: Any) -> tuple[Lesson, Any]:
        if not fitted:
            fitted.append(fit(*arguments))
        lesson, curve = fitted[0]
        return replace(lesson, made_at=world.clock(), previous=lesson_in_force(world)), curve

    monkeypatch.setattr(teaching, "_teach", fit_once)
    in_force(world, LABELS)
    keys = [f"fruit/{seed}.jpg" for seed in STARS]
    world.dispatch(*(world.put(key, draw_shapes(seed).jpeg()) for key, seed in zip(keys, STARS, strict=True)))
    world.launch_all()
    have_tasks(world, *keys)
    for seed in VERIFIED:
        verify(world, seed)
    assert world.states() == {"verified": len(VERIFIED), "tasked": 2}
    return world


def verify(world: World, seed: int) -> None:
    """A person draws the stars."""
    row, scene, when = world.row(f"fruit/{seed}.jpg"), draw_shapes(seed), world.clock()
    boxes = [tuple(float(each) for each in box) for box in scene.stars]
    document = Annotation(
        image=row.key,
        image_id=row.image_id,
        version=row.version or "",
        task_id=seed + 1,
        annotation_id=seed + 1,
        order=when,
        updated_at=when,
        user=3,
        lead_time=1.0,
        width=scene.pixels.shape[1],
        height=scene.pixels.shape[0],
        boxes=tuple(DrawnBox("badge", box, f"r{n}") for n, box in enumerate(boxes)),  # type: ignore[arg-type]
        offer=None,
    )
    world.data.put(annotation_key("fruit", row.image_id), to_json(document).encode())
    world.ledger.record_verified(row.image_id, row.version or "", when)


def labels_yaml(world: World) -> LabelSet:
    stored = world.images.get("fruit/labels.yaml")
    assert stored is not None
    assert b"# no words for it" in stored.body
    return LabelSet.from_yaml(stored.body.decode())


def lesson_in_force(world: World) -> str | None:
    """The lesson that images are detected with now, after checking that all about it is whole."""
    row = project(world)
    assert row.labels is not None
    assert row.labels_error is None
    label_set = read_label_set(world.data, row.labels)
    assert row.detection == label_set.digest(Bundle.load(BUNDLE).digest)
    if label_set.lesson is not None:
        assert read_lesson(world.data, label_set.lesson).labels
    return label_set.lesson


def verified(world: World) -> list[Image]:
    return sorted(
        (row for seed in VERIFIED if (row := world.row(f"fruit/{seed}.jpg")).state == State.VERIFIED),
        key=lambda row: row.key,
    )


def go_on(world: World) -> None:
    """S3 tells of labels.yaml if it changed, launch does what it was asked, and images get their tasks."""
    told = world.notify("fruit/labels.yaml")
    assert parse_events(told)
    world.dispatch(told)
    world.launch_all()
    waiting = [key for seed in OTHERS if world.row(key := f"fruit/{seed}.jpg").state == State.RUNNING]
    have_tasks(world, *waiting, generation=project(world).generation)
    assert not project(world).labels_are_due


def test_a_death_at_any_write_leaves_the_old_lesson_or_the_new_one_and_teaching_goes_on(
    badges: World, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = verified(badges)
    for at in itertools.count():
        before, generation = lesson_in_force(badges), project(badges).generation
        with dying(monkeypatch, at) as writes:
            assert call("teach", "fruit", "--yes").exit_code == 0
        wanted = labels_yaml(badges).lesson
        if wanted is not None:
            read_lesson(badges.data, wanted)
        assert lesson_in_force(badges) in (before, wanted)
        go_on(badges)
        assert lesson_in_force(badges) == wanted
        assert project(badges).generation == generation + (wanted != before)
        assert verified(badges) == done
        if len(writes) <= at:
            break
    assert len(writes) > 8  # lesson, labels.yaml, its snapshot, the project's row twice, …
    taught = call("teach", "fruit", "--yes")
    assert taught.exit_code == 0, taught.output
    assert lesson_in_force(badges) == labels_yaml(badges).lesson != wanted


def test_from_now_never_runs_an_image_again_even_if_it_dies_and_back_undoes_it(
    badges: World, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [badges.row(f"fruit/{seed}.jpg") for seed in STARS]
    assert call("teach", "fruit", "--yes", "--from-now").exit_code == 0
    go_on(badges)
    first = lesson_in_force(badges)
    assert first is not None
    for command in (("--from-now",), ("--back", "--from-now")):
        for at in (1, 2, 4, 99):  # before the lesson, labels.yaml, and its record; and not at all
            with dying(monkeypatch, at) as writes:
                result = call("teach", "fruit", "--yes", *command)
                assert result.exit_code == 0, result.output
            go_on(badges)
            badges.recover()
            assert lesson_in_force(badges) == labels_yaml(badges).lesson
            assert [badges.row(f"fruit/{seed}.jpg") for seed in STARS] == rows
            assert at < 99 or len(writes) > 4
    badges.dispatch(badges.put("fruit/new.jpg", draw_shapes(3).jpeg()))
    [launched] = [each for each in badges.launch_all() if each.run_id]
    assert launched.images == 1
    assert badges.row("fruit/new.jpg").generation == project(badges).generation
    assert "3 images run again" in call("apply", "fruit", "--labels", "badge, banana", "--yes").output
