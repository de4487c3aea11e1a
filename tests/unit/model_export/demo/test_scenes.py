"""Scenes are a function of their seed, and their boxes are where the things are."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model_export.demo.names import HELD_OUT, distractors, names
from model_export.demo.scenes import (
    BASKET,
    BASKETS,
    EVALUATION,
    TRAINING,
    Art,
    Recipe,
    draw_scene,
    draw_training_scene,
    weave_basket,
)


def _disc(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    return np.dstack([np.full((48, 48, 3), colour, np.uint8), (255 * (x * x + y * y <= 1)).astype(np.uint8)])


@pytest.fixture(scope="module")
def art() -> Art:
    """Coloured discs in place of the icons, which are fetched from npm."""
    rng = np.random.default_rng(0)
    codepoints = [*(name.codepoint for name in (*names(), *HELD_OUT)), *distractors()]
    icons = {code: _disc(tuple(rng.integers(0, 256, 3))) for code in codepoints}
    photo = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    return Art({"discs": icons}, [photo], [weave_basket(rng, 160)])


@pytest.mark.parametrize("recipe", [TRAINING, EVALUATION, BASKETS])
def test_a_seed_gives_one_scene(art: Art, recipe: Recipe) -> None:
    first, again = (draw_scene([7, 3], art, recipe, 320, 240) for _ in range(2))
    assert (first.image == again.image).all()
    assert (first.boxes == again.boxes).all()
    assert (first.labels == again.labels).all()
    other = draw_scene([7, 4], art, recipe, 320, 240)
    assert (first.image != other.image).any()


@pytest.mark.parametrize("recipe", [TRAINING, EVALUATION, BASKETS])
def test_boxes_lie_inside_the_image(art: Art, recipe: Recipe) -> None:
    for seed in range(25):
        scene = draw_scene([8, seed], art, recipe, 320, 240)
        assert scene.image.shape == (240, 320, 3)
        assert len(scene.boxes) == len(scene.labels)
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= (320, 240)).all()
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()


def test_training_scenes_are_squashed_with_their_boxes(art: Art) -> None:
    for seed in range(25):
        scene = draw_training_scene([9, seed], art, TRAINING, 224)
        assert scene.image.shape == (224, 224, 3)
        assert (scene.boxes >= 0).all()
        assert (scene.boxes <= 224.01).all()


def test_a_basket_scene_has_a_basket(art: Art) -> None:
    scenes = [draw_scene([10, seed], art, BASKETS, 320, 240) for seed in range(10)]
    assert sum(BASKET in scene.labels for scene in scenes) >= 9


def test_held_out_names_are_never_labels_in_training(art: Art) -> None:
    labels = np.concatenate([draw_scene([11, seed], art, TRAINING, 224, 224).labels for seed in range(40)])
    assert labels.max() < len(names())


def test_a_box_fits_its_thing(art: Art) -> None:
    """On a plain ground, undistorted, the box is the extent of what differs from the ground."""
    recipe = Recipe(objects=(1, 1), heaps=0, fruit_only=0, empty=0, distractors=0, wear=0)
    plain = Art(art.icons, [np.full((300, 300, 3), 128, np.uint8)], art.baskets)
    checked = 0
    for seed in range(60):
        scene = draw_scene([12, seed], plain, recipe, 224, 224)
        changed = (scene.image != 128).any(-1)
        if changed.mean() > 0.5 or not len(scene.boxes):
            continue  # another ground than the plain photograph
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        left, top = scene.boxes[0, :2]
        assert abs(columns[0] - left) <= 2 or columns[0] > left - 12  # a shadow may reach a little further
        assert abs(rows[0] - top) <= 2 or rows[0] > top - 12
        checked += 1
    assert checked >= 5


def test_missing_icon_sets_say_what_to_run(tmp_path: Path) -> None:
    from model_export.demo.art import ArtError, load_icons

    with pytest.raises(ArtError, match="demo fetch"):
        load_icons(tmp_path, "noto")
