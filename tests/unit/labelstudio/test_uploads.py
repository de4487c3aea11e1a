"""What is sent to the browser: always the upright size in which the boxes were found."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from boxdrop.domain.errors import ImageError
from boxdrop.domain.identity import image_id
from boxdrop.domain.predictions import Prediction
from boxdrop.labelstudio.uploads import _showable, _stem

ORIENTATION = 0x0112


def encoded(
    form: str, *, orientation: int | None = None, frames: int = 1, size: tuple[int, int] = (60, 40)
) -> bytes:
    image = Image.new("RGB", size, "white")
    image.paste("red", (0, 0, size[0] // 2, size[1] // 2))
    options: dict[str, object] = {}
    if orientation:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    if frames > 1:
        options |= {"save_all": True, "append_images": [Image.new("RGB", size, "blue")] * (frames - 1)}
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def prediction(width: int = 60, height: int = 40) -> Prediction:
    return Prediction("a.jpg", image_id("", "a.jpg"), "v1", "demo@1", width, height, ())


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
def test_what_browsers_show_is_sent_byte_for_byte(form: str) -> None:
    data = encoded(form)
    assert _showable(data, prediction())[1] is data


def test_a_turned_jpeg_is_sent_as_it_is_for_browsers_turn_it() -> None:
    data = encoded("JPEG", orientation=6)
    assert _showable(data, prediction(40, 60)) == ("jpg", data)


@pytest.mark.parametrize("form", ["TIFF", "GIF", "AVIF", "JPEG2000"])
def test_what_browsers_or_label_studio_do_not_show_becomes_jpeg_of_the_same_size(form: str) -> None:
    ending, data = _showable(encoded(form), prediction())
    assert ending == "jpg"
    assert Image.open(BytesIO(data)).size == (60, 40)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_turned_before_they_are_sent(form: str) -> None:
    _, data = _showable(encoded(form, orientation=6), prediction(40, 60))
    pixels = np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)
    assert pixels.shape == (60, 40, 3)
    red = pixels[:, :, 0] - pixels[:, :, 1] > 128
    assert red[5, 35]  # the left upper corner is the right upper one after a quarter turn clockwise
    assert not red[5, 5]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_uploaded_as_its_first_frame(form: str) -> None:
    _, data = _showable(encoded(form, frames=3), prediction())
    sent = Image.open(BytesIO(data))
    assert getattr(sent, "n_frames", 1) == 1
    assert np.asarray(sent.convert("RGB"))[30, 50, 0] > 200  # white, where later pictures are blue


def test_an_iphone_photo_becomes_jpeg() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (60, 40), "red")).save(file)
    assert _showable(file.getvalue(), prediction())[0] == "jpg"


def test_a_file_that_changed_its_size_since_is_refused() -> None:
    with pytest.raises(ImageError, match="60×40 now, but its boxes were found in 61×40"):
        _showable(encoded("JPEG"), prediction(61, 40))


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a/b c.jpg", "b-c"), ("ä?/ß%25.png", "25"), ("...", "image"), ("x" * 300 + ".jpg", "x" * 40)],
)
def test_names_of_uploads_are_harmless(name: str, stem: str) -> None:
    assert _stem(name) == stem
