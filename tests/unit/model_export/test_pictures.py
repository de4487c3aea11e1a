import hashlib

import numpy as np

from model_export.pictures import SHAPES, draw


def test_a_picture_is_always_the_same_and_not_dull() -> None:
    for name, size in SHAPES.items():
        picture = draw(name)
        assert picture.size == size
        assert picture.mode == "RGB"
        assert np.asarray(picture).std() > 30
        assert np.array_equal(np.asarray(draw(name)), np.asarray(picture))


def test_pictures_differ_from_each_other() -> None:
    assert len({hashlib.sha256(draw(name).tobytes()).digest() for name in SHAPES}) == len(SHAPES)
