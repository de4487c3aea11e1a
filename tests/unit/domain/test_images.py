"""Safe decoding: what is accepted, how it becomes upright RGB, and what the errors say."""

import io
import os
import struct
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ImageCms

from boxdrop.domain import pixels
from boxdrop.domain.errors import ImageError
from boxdrop.domain.image_names import is_image_name
from boxdrop.domain.images import Limits, decode, probe, read_file, sniff

Transpose = PIL.Image.Transpose
# How a camera stores an upright scene under each orientation: the inverse of what a viewer does.
STORED_AS = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "GIF": {},
    "BMP": {},
    "JPEG2000": {},
    "JPEG": {"quality": 95, "subsampling": 0},
}


def scene(width: int = 48, height: int = 32) -> PIL.Image.Image:
    """A gray field whose four corners have different colours."""
    picture = PIL.Image.new("RGB", (width, height), (120, 120, 120))
    half = (width // 2, height // 2)
    for colour, corner in (
        ("red", (0, 0)),
        ("lime", (half[0], 0)),
        ("blue", (0, half[1])),
    ):
        picture.paste(colour, (*corner, corner[0] + half[0], corner[1] + half[1]))
    return picture


def encode(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def oriented(kind: str, orientation: int, upright: PIL.Image.Image) -> bytes:
    turn = STORED_AS.get(orientation)
    stored = upright.transpose(turn) if turn is not None else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return encode(stored, kind, exif=exif, **LOSSLESS[kind])


def exif_block(kind: int = 3, count: int = 1, value: int = 6) -> bytes:
    field = struct.pack(">HHI", 0x0112, kind, count)
    field += struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + field + b"\0\0\0\0"


def jpeg_with(block: bytes) -> bytes:
    plain = encode(scene(), "JPEG")
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def gray(values: Any, dtype: str) -> bytes:
    return encode(PIL.Image.fromarray(np.array(values, dtype)), "TIFF")


def reason_of(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, limits or Limits())
    return caught.value.reason


# Orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_land_on_the_same_pixels(kind: str, orientation: int) -> None:
    data = oriented(kind, orientation, scene())
    image = decode(data)
    assert (image.width, image.height) == (48, 32)
    header = probe(data)
    assert (header.width, header.height, header.format) == (48, 32, image.format)
    difference = np.abs(image.pixels.astype(int) - np.asarray(scene()).astype(int))
    if kind == "JPEG":
        assert difference[[8, 8, 24, 24], [12, 36, 12, 36]].max() <= 6
    else:
        assert difference.max() == 0


def test_an_image_of_many_strips_is_turned_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_STRIP_BYTES", 4 * 37 * 5)
    noise = np.random.default_rng(7).integers(0, 256, (53, 37, 3), np.uint8)
    for orientation in range(1, 9):
        data = oriented("PNG", orientation, PIL.Image.fromarray(noise))
        np.testing.assert_array_equal(decode(data).pixels, noise)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_invalid_orientation_is_ignored(kind: str, orientation: int) -> None:
    image = decode(oriented(kind, orientation, scene()))
    assert (image.width, image.height) == (48, 32)


@pytest.mark.parametrize(
    "block",
    [
        exif_block(kind=4),
        exif_block(count=2),
        exif_block()[:20],
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
    ],
    ids=["long", "two values", "cut", "empty", "offset past the end"],
)
def test_a_broken_exif_block_is_ignored(block: bytes) -> None:
    assert decode(jpeg_with(block)).width == 48


def test_a_valid_exif_block_is_not_ignored() -> None:
    assert decode(jpeg_with(exif_block())).width == 32


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_orientation_in_xmp_is_ignored_as_in_browsers(kind: str) -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    if kind == "TIFF":
        options: dict[str, Any] = {"tiffinfo": {700: xmp}}
    elif kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"pnginfo": text}
    else:
        options = {"xmp": xmp}
    data = encode(scene(), kind, **options)
    image, header = decode(data), probe(data)
    assert (image.width, image.height) == (header.width, header.height) == (48, 32)


# Colour


def test_cmyk_becomes_rgb() -> None:
    image = decode(encode(scene().convert("CMYK"), "JPEG", quality=95))
    assert image.pixels[8, 12, 0] > 240
    assert image.pixels[8, 12, 1:].max() < 15


def test_lab_becomes_srgb() -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = to_lab.apply(scene())
    image = decode(encode(lab, "TIFF"))
    assert np.abs(image.pixels.astype(int) - np.asarray(scene()).astype(int)).max() <= 25


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_every_plain_mode_becomes_rgb(mode: str) -> None:
    picture = scene().convert(mode)
    np.testing.assert_array_equal(decode(encode(picture, "PNG")).pixels, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(mode: str) -> None:
    picture = PIL.Image.new("RGBA", (4, 2), (0, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))
    picture.putpixel((2, 0), (0, 0, 0, 128))
    pixels = decode(encode(picture.convert(mode), "PNG")).pixels
    assert pixels[0, :3, 0].tolist() == [0, 255, 127]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_white(mode: str) -> None:
    picture = PIL.Image.new("RGB", (2, 1), (10, 10, 10))
    picture.putpixel((1, 0), (90, 90, 90))
    picture = picture.convert(mode)
    key = picture.getpixel((0, 0))
    pixels = decode(encode(picture, "PNG", transparency=key)).pixels
    assert pixels[0, 0].tolist() == [255] * 3
    np.testing.assert_array_equal(pixels[0, 1], np.asarray(picture.convert("RGB"))[0, 1])


def test_sixteen_bit_gray_png_is_scaled_by_its_full_range() -> None:
    values = np.array([[0, 256, 32768, 65535]], np.uint16)
    pixels = decode(encode(PIL.Image.fromarray(values), "PNG")).pixels
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_colour_png_is_scaled() -> None:
    row = b"\0" + struct.pack(">6H", 0, 32768, 65535, 65535, 0, 256)
    assert decode(png(2, 1, 16, 2, row)).pixels.tolist() == [[[0, 128, 255], [255, 0, 1]]]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([[0, 512, 1023]], "<u2", [0, 128, 255]),
        ([[0, 2048, 4095]], "<u2", [0, 128, 255]),
        ([[0, 2048, 4095]], ">u2", [0, 128, 255]),
        ([[0, 32768, 65535]], "<u2", [0, 128, 255]),
        ([[7, 7, 7]], "<u2", [7, 7, 7]),
        ([[0, 128, 255]], "<i4", [0, 128, 255]),
        ([[-100, 0, 100]], "<i4", [0, 128, 255]),
        ([[0, 50_000, 100_000]], "<i4", [0, 128, 255]),
        ([[0.0, 0.5, 1.0]], "<f4", [0, 128, 255]),
        ([[0.0, 128.0, 255.0]], "<f4", [0, 128, 255]),
        ([[-1.0, 0.0, 1.0]], "<f4", [0, 128, 255]),
        ([[np.nan, np.inf, 1.0]], "<f4", [0, 0, 255]),
        ([[np.nan, np.nan, np.nan]], "<f4", [0, 0, 0]),
        ([[-2.0, -2.0, -2.0]], "<f4", [0, 0, 0]),
    ],
)
def test_gray_without_an_agreed_range_is_scaled_and_not_clipped(
    values: list[list[float]], dtype: str, expected: list[int]
) -> None:
    pixels = decode(gray(values, dtype)).pixels
    assert pixels[0, :, 0] == pytest.approx(expected, abs=1)
    assert (pixels == pixels[:, :, :1]).all()


# Several pictures in one file


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_the_first_picture_counts(kind: str) -> None:
    frames = [PIL.Image.new("RGB", (32, 16), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    image = decode(data)
    assert (image.width, image.height) == (32, 16)
    assert image.pixels[8, 16, 0] > 240
    assert image.pixels[8, 16, 1:].max() < 10


def test_the_largest_picture_of_an_icon_counts() -> None:
    image = decode(encode(scene(64, 64), "ICO", sizes=[(16, 16), (64, 64)]))
    assert (image.width, image.height, image.format) == (64, 64, "ico")
    assert image.pixels[16, 16].tolist() == [255, 0, 0]


def test_heic_is_decoded_once_upright() -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    heif.from_pillow(scene().transpose(Transpose.ROTATE_90)).save(out, quality=90, exif=exif.tobytes())
    image = decode(out.getvalue())
    header = probe(out.getvalue())
    assert (image.width, image.height, image.format) == (header.width, header.height, "heic")


def test_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install 'boxdrop\[heic\]'") as caught:
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert caught.value.reason == "unsupported"


# Content, not names


@pytest.mark.parametrize("kind", LOSSLESS)
def test_the_format_is_found_in_the_content(kind: str) -> None:
    assert sniff(encode(scene(), kind)) == kind.lower()


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (b"", "empty", "upload it again"),
        (b"<!DOCTYPE html><html></html>", "not_an_image", "an HTML page"),
        (b"\n <html><body>404</body>", "not_an_image", "an HTML page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image", "an SVG drawing"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "not_an_image", "an XML document"),
        (b"hello, this is text\n", "not_an_image", "this is text"),
        (b"%PDF-1.7\n", "not_an_image", "a PDF document"),
        (b"PK\3\4\x14\0", "not_an_image", "a ZIP archive"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "not_an_image", "a video"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not_an_image", "git lfs pull"),
        (bytes(4096), "not_an_image", "zero bytes"),
        (bytes(range(256)), "not_an_image", "no image format"),
        (b"8BPS\0\1", "unsupported", "a Photoshop document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "unsupported", "a PostScript document"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, reason: str, words: str) -> None:
    for read in (decode, probe):
        with pytest.raises(ImageError, match=words) as caught:
            read(data)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True),
        ("A.JPG", True),
        ("folder/photo.JpEg", True),
        ("a.b.webp", True),
        ("IMG_0001.HEIC", True),
        ("scan.tiff", True),
        ("stereo.mpo", True),
        ("no_extension", False),
        ("photo.jpeg.bak", False),
        ("notes.txt", False),
        (".jpg", False),
        ("._photo.jpg", False),
        ("folder.jpg/readme", False),
        ("a.svg", False),
        ("", False),
    ],
)
def test_names_that_a_walk_picks_up(name: str, expected: bool) -> None:
    assert is_image_name(name) is expected


# Limits


def test_too_many_pixels_are_refused_before_any_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    data = {kind: oriented(kind, 6, scene(100, 50)) for kind in ("JPEG", "PNG", "WEBP", "TIFF")}
    data |= {kind: encode(scene(100, 50), kind) for kind in ("GIF", "BMP", "JPEG2000", "AVIF")}
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", load)
    for kind, file in data.items():
        for read in (decode, probe):
            with pytest.raises(ImageError, match="raise the limit") as caught:
                read(file, Limits(max_pixels=4999))
            assert caught.value.reason == "too_many_pixels", kind
            if kind != "WEBP":  # refused by its first chunk; the orientation comes later
                assert (caught.value.width, caught.value.height) == (100, 50), kind


def test_the_limit_itself_is_allowed() -> None:
    assert decode(encode(scene(100, 50), "PNG"), Limits(max_pixels=5000)).width == 100


@pytest.mark.parametrize(
    "options",
    [{}, {"lossless": True}, {"lossless": True, "exif": exif_block()}, {"exif": exif_block()}],
    ids=["VP8", "VP8L", "VP8X over VP8L", "VP8X over VP8"],
)
def test_webp_is_refused_before_its_canvas_is_made(options: dict[str, Any]) -> None:
    data = encode(scene(100, 50), "WEBP", **options)
    assert reason_of(data, Limits(max_pixels=4999)) == "too_many_pixels"
    assert decode(data, Limits(max_pixels=5000)).pixels.size == 15_000


def test_an_icon_is_refused_before_its_picture_is_decoded() -> None:
    bomb = png(30_000, 30_000, 1, 0, b"")
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 1, len(bomb), 22) + bomb
    with pytest.raises(ImageError) as caught:
        decode(icon)
    assert (caught.value.reason, caught.value.width) == ("too_many_pixels", 30_000)


def test_too_many_bytes_are_refused() -> None:
    data = encode(scene(), "PNG")
    assert reason_of(data, Limits(max_bytes=len(data) - 1)) == "too_many_bytes"
    assert decode(data, Limits(max_bytes=len(data))).width == 48


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ImageError) as caught:
        read_file(path)
    assert caught.value.reason == "too_many_bytes"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "missing.jpg", tmp_path / "a\0b"):
        with pytest.raises((ImageError, ValueError)) as caught:
            read_file(path)
        if isinstance(caught.value, ImageError):
            assert caught.value.reason == "unreadable"


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(scene(), "PNG"))
    assert decode(read_file(tmp_path / "a.png")).width == 48


# Broken files


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_file_cut_in_half_is_refused_every_time(kind: str) -> None:
    noise = PIL.Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8))
    data = encode(noise, kind, **LOSSLESS[kind])
    half = data[: len(data) // 2]
    for _ in range(2):  # a second load of one Pillow object may succeed; ours starts afresh
        assert reason_of(half) in ("truncated", "corrupt")


def test_a_truncated_file_still_has_a_size() -> None:
    data = oriented("JPEG", 6, scene(200, 100))
    with pytest.raises(ImageError) as caught:
        decode(data[: len(data) - 300])
    assert (caught.value.reason, caught.value.width, caught.value.height) == ("truncated", 200, 100)


def test_a_negative_size_is_corrupt() -> None:
    data = bytearray(encode(scene(), "BMP"))
    data[18:22] = struct.pack("<i", -48)
    assert reason_of(bytes(data)) == "corrupt"


SEEDS = [encode(scene(), kind, **options) for kind, options in LOSSLESS.items()]
SEEDS += [oriented(kind, 6, scene()) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
SEEDS += [encode(scene(), "AVIF"), encode(scene(32, 32), "ICO"), gray([[1.0, 2.0]], "<f4")]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_bytes_give_an_image_or_an_image_error(seed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    limits = Limits(max_pixels=1_000_000)
    for read in (probe, decode):
        try:
            found = read(cut, limits)
        except ImageError:
            continue
        assert found.width * found.height <= limits.max_pixels


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(LOSSLESS)),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 9),
    st.sampled_from(["RGB", "L", "P", "1", "RGBA"]),
)
def test_probe_and_decode_agree_on_the_size(
    kind: str, width: int, height: int, orientation: int, mode: str
) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    if kind in ("JPEG", "JPEG2000", "WEBP") and mode not in ("L", "RGB"):
        mode = "RGB"
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    data = encode(scene(width, height).convert(mode), kind, **options)
    image, header = decode(data), probe(data)
    assert (image.width, image.height, image.format) == (header.width, header.height, header.format)
    assert image.pixels.shape == (header.height, header.width, 3)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    on_its_side = orientation in (5, 6, 7, 8) and bool(options)
    assert (header.width, header.height) == ((height, width) if on_its_side else (width, height))


# Manners


def doubtful_tiff() -> bytes:
    """A TIFF that Pillow warns about: a tag claims more data than the file has."""
    data = bytearray(
        encode(scene().convert("L"), "TIFF", tiffinfo={270: "a description longer than four bytes"})
    )
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for i in range(count):
        at = start + 2 + 12 * i
        if struct.unpack_from("<H", data, at)[0] == 270:
            struct.pack_into("<I", data, at + 4, 2**28)
    return bytes(data)


def test_no_warning_leaks_and_none_becomes_an_error() -> None:
    data = doubtful_tiff()
    with pytest.warns(UserWarning, match="larger than file"):
        PIL.Image.open(io.BytesIO(data)).load()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        decode(data)
    assert not seen
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).width == 48


def test_warnings_of_the_users_own_use_of_pillow_stay() -> None:
    decode(doubtful_tiff())
    with pytest.warns(UserWarning, match="larger than file"):
        PIL.Image.open(io.BytesIO(doubtful_tiff())).load()


def test_large_photos_within_the_limit_do_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)  # warns above 1,000 pixels, fails above 2,000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("JPEG", "PNG", "BMP"):
            assert decode(encode(scene(), kind)).width == 48
    assert PIL.Image.MAX_IMAGE_PIXELS == 1000


def test_many_threads_decode_the_same_pixels() -> None:
    files = [*SEEDS, doubtful_tiff(), SEEDS[0][:40], b"<html>"] * 6

    def outcome(data: bytes) -> bytes | str:
        try:
            return decode(data).pixels.tobytes()
        except ImageError as error:
            return str(error)

    alone = [outcome(data) for data in files]
    start = threading.Barrier(8)
    with warnings.catch_warnings(record=True) as seen, ThreadPoolExecutor(8, initializer=start.wait) as pool:
        warnings.simplefilter("always")
        together = list(pool.map(outcome, files))
    assert together == alone
    assert not seen


def test_pixels_are_the_callers_to_change() -> None:
    pixels: NDArray[np.uint8] = decode(encode(scene(), "PNG")).pixels
    pixels[:] = 0
    assert pixels.max() == 0
