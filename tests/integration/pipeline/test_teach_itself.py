"""``teach: auto``: a project teaches itself when its verified images have doubled. Against moto over HTTP."""

import json

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.store.layout import teachings_key
from boxdrop.store.teachings import read_teachings
from tests.shape_scenes import draw_shapes

from .test_labels import have_tasks, in_force, project
from .test_retry_and_apply import Call, call
from .test_teaching_dies import LABELS, labels_yaml, verify
from .world import World

__all__ = ["call"]

AUTO = f"teach: auto\n{LABELS}"
STARS = [seed for seed in range(80) if len(draw_shapes(seed).stars)][:21]


@pytest.fixture
def badges(world: World) -> World:
    """Images with stars, which have no words; none is verified."""
    in_force(world, AUTO)
    keys = [f"fruit/{seed}.jpg" for seed in STARS]
    scenes = [draw_shapes(seed).jpeg() for seed in STARS]
    world.dispatch(*(world.put(key, scene) for key, scene in zip(keys, scenes, strict=True)))
    world.launch_all()
    have_tasks(world, *keys)
    return world


def test_it_teaches_at_ten_and_twenty_and_says_so_everywhere(badges: World, call: Call) -> None:
    for seed in STARS[:9]:
        verify(badges, seed)
    early = call("teach", "--due")
    assert (early.exit_code, early.output) == (0, "")
    for seed in STARS[9:11]:
        verify(badges, seed)
    first = call("teach", "--due")
    assert first.exit_code == 0, first.output
    number = labels_yaml(badges).lesson
    assert first.output.startswith(
        f"fruit: lesson {number} teaches 1 label from 11 verified images: F1 0.00 → "
    )
    badges.dispatch(badges.notify("fruit/labels.yaml"))
    badges.launch_all()
    assert project(badges).generation == 2
    assert badges.states() == {"verified": 11, "running": 10}

    [shown] = json.loads(call("status", "fruit", "--json").output)["projects"]
    assert shown["teaching"]["lesson"] == number
    assert shown["teaching"]["f1_with_lesson"] > 0.5

    assert "Back from lesson" in call("teach", "fruit", "--back", "--yes").output
    assert call("teach", "--due").output == ""  # what a person undid stays so for now
    for seed in STARS[11:20]:
        verify(badges, seed)
    assert "teaches 1 label from 20 verified images" in call("teach", "fruit", "--due").output
    assert labels_yaml(badges).lesson not in (None, number)
    told = json.loads(call("report", "fruit", "--quality", "0", "--json").output)["teaching"]
    assert (told["images"], told["attempts"]) == (20, 2)
    assert [point["images"] for point in told["curve"]["points"]] == [0, 10, 20]
    assert told["curve"]["forecast"]["images"] == 70
    assert "lesson" in call("status", "fruit").output
    assert {badges.row(f"fruit/{seed}.jpg").generation for seed in STARS[:11]} == {1}


def test_what_cannot_be_taught_is_noted_once_and_what_cannot_be_read_is_no_excuse(
    badges: World, call: Call
) -> None:
    for seed in STARS[:10]:
        verify(badges, seed)
        badges.s3.delete_object(Bucket=badges.images.name, Key=f"fruit/{seed}.jpg")
    said = "fruit: taught nothing from 10 verified images: 0 verified images are too few to teach"
    assert call("teach", "--due").output.startswith(said)
    assert call("teach", "--due").output == ""
    [noted] = read_teachings(badges.data, "fruit")
    assert noted.problem is not None
    assert labels_yaml(badges).lesson is None
    badges.data.put(teachings_key("fruit"), b"{}")  # by a later version of boxdrop
    assert read_teachings(Bucket(badges.data.name, client=badges.s3), "fruit") == ()


def test_arguments_that_contradict_each_other_are_refused(badges: World, call: Call) -> None:
    for arguments, said in (
        (("--due", "--back"), "--due goes alone"),
        (("fruit", "--from-now", "--dry-run"), "--dry-run changes nothing: leave out --from-now"),
        (("--yes",), "give a PROJECT, or --due"),
        (("--next", "5"), "give a PROJECT, or --due"),
        (("fruit", "--next", "5", "--back"), "--next teaches nothing: leave out --due, --back"),
        (("fruit", "--next", "5", "--among", "4"), "--among goes with --next, and is at least as large"),
        (("fruit", "--among", "40"), "--among goes with --next"),
    ):
        result = call("teach", *arguments)
        assert result.exit_code == 1
        assert said in result.output


def test_images_to_verify_next_are_of_those_that_nobody_has_verified(badges: World, call: Call) -> None:
    first = call("teach", "fruit", "--next", "4", "--dry-run")
    assert first.exit_code == 0, first.output
    assert first.output.startswith("Looked at 21 images that nobody has verified and 0 verified images.")
    chosen = [line.strip() for line in first.output.splitlines()[1:]]
    assert len({*chosen} & {f"fruit/{seed}.jpg" for seed in STARS}) == 4
    assert call("teach", "fruit", "--next", "4", "--dry-run").output == first.output
    for key in chosen:
        verify(badges, int(key.removeprefix("fruit/").removesuffix(".jpg")))
    left = {f"fruit/{seed}.jpg" for seed in STARS} - {*chosen}
    left.remove(gone := max(left))
    badges.s3.delete_object(Bucket=badges.images.name, Key=gone)
    after = call("teach", "fruit", "--next", "30", "--dry-run").output
    assert f"Looked at {len(left)} images that nobody has verified and 4 verified images." in after
    assert {line.strip() for line in after.splitlines()[1:]} == left
    assert badges.states() == {"verified": 4, "tasked": 17}  # nothing was changed
