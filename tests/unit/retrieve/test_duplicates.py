"""The same file, the same picture, and pictures that only look alike."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from boxdrop.demo import SCENES
from boxdrop.domain.images import decode
from boxdrop.retrieve.duplicates import NEAR, Seen, perceptual_hash
from boxdrop.retrieve.provenance import Fingerprint

BASKET = sorted(SCENES.glob("*.jpg"))[0]


def _as_jpeg(image: Image.Image, quality: int = 85) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _fingerprint(data: bytes, number: int) -> Fingerprint:
    return Fingerprint(f"{number:064x}", perceptual_hash(decode(data).pixels))


@pytest.mark.parametrize("change", ["smaller", "worse", "wider", "as PNG"])
def test_the_same_picture_in_another_size_or_quality_is_a_near_duplicate(change: str) -> None:
    original = Image.open(BASKET).convert("RGB")
    png = BytesIO()
    original.save(png, "PNG")
    copies = {
        "smaller": _as_jpeg(original.resize((original.width // 2, original.height // 2))),
        "worse": _as_jpeg(original, 30),
        "wider": _as_jpeg(original.resize((original.width + 24, original.height))),
        "as PNG": png.getvalue(),
    }
    seen = Seen()
    assert seen.claim(_fingerprint(BASKET.read_bytes(), 1), "basket.jpg") is None

    assert seen.claim(_fingerprint(copies[change], 2), "copy.jpg") == ("basket.jpg", False)


def test_other_scenes_of_the_same_objects_are_not_duplicates() -> None:
    seen = Seen()

    found = [
        seen.claim(_fingerprint(path.read_bytes(), number), path.name)
        for number, path in enumerate(sorted(SCENES.glob("*.jpg")))
    ]

    assert found == [None] * 20


def test_the_same_bytes_are_an_exact_duplicate() -> None:
    seen = Seen()
    first = Fingerprint("ab" * 32, 7)

    assert seen.claim(first, "a.jpg") is None
    assert seen.claim(first, "b.jpg") == ("a.jpg", True)


def test_hashes_within_the_distance_are_near_and_those_beyond_are_not() -> None:
    seen = Seen()
    seen.add(Fingerprint("00" * 32, 0), "a.jpg")

    assert seen.claim(Fingerprint("01" * 32, (1 << NEAR) - 1), "b.jpg") == ("a.jpg", False)
    assert seen.claim(Fingerprint("02" * 32, (1 << (NEAR + 1)) - 1), "c.jpg") is None


def test_near_duplicates_can_be_kept() -> None:
    seen = Seen(near=None)

    assert seen.claim(Fingerprint("01" * 32, None), "a.jpg") is None
    assert seen.claim(Fingerprint("02" * 32, None), "b.jpg") is None


def test_thousands_of_images_are_compared_with_all_before_them() -> None:
    seen = Seen(near=0)
    hashes = np.random.default_rng(0).integers(0, 1 << 63, 3000)
    for number, value in enumerate(hashes):
        seen.add(Fingerprint(f"{number:064x}", int(value)), str(number))

    assert seen.claim(Fingerprint("ff" * 32, int(hashes[2999])), "copy") == ("2999", False)
