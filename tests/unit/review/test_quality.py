"""Sharpness and brightness of images."""

import numpy as np
import PIL.Image
import PIL.ImageFilter

from boxdrop.demo import SCENES
from boxdrop.review.quality import measure, words


def test_a_blurred_picture_is_less_sharp_and_a_darkened_one_less_bright() -> None:
    with PIL.Image.open(SCENES / "fruit-basket-01.jpg") as picture:
        scene = picture.convert("RGB")
    clear = measure(np.asarray(scene))
    blurred = measure(np.asarray(scene.filter(PIL.ImageFilter.GaussianBlur(3))))
    dark = measure(np.asarray(scene.point(lambda value: value // 3)))
    assert blurred.sharpness < clear.sharpness / 4
    assert abs(blurred.brightness - clear.brightness) < 0.01
    assert dark.brightness < clear.brightness / 2


def test_a_plain_surface_and_a_single_pixel_have_a_quality() -> None:
    assert measure(np.full((1, 1, 3), 255, np.uint8)).sharpness == 0.0
    assert measure(np.full((40, 3000, 3), 51, np.uint8)).brightness == 0.2


def test_images_are_compared_with_each_other() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    levels = {str(n): measure((noise // (n + 1)).astype(np.uint8)) for n in range(6)}
    found = words(levels)
    assert [found[str(n)][0] for n in range(6)] == [
        f"sharpness: {third} third"
        for third in ("highest", "highest", "middle", "middle", "lowest", "lowest")
    ]
    assert words({}) == {}
