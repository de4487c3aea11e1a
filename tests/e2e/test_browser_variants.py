"""Every kind of PNG, GIF, JPEG, BMP, WebP and AVIF, compared with what Chromium shows."""

import io
import itertools
import struct
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import decode
from tests.e2e.test_browser_pixels import Show, pytestmark, show  # noqa: F401
from tests.tiff_files import pack_bits
from tests.web_images import gif_frame, write_bmp, write_gif, write_png

RAMP = np.linspace(0.0, 1.0, 48 * 32).reshape(32, 48)
ROWS, COLUMNS = np.mgrid[:32, :48]
SMOOTH = np.stack([5 * COLUMNS, 8 * ROWS, 250 - 4 * COLUMNS - ROWS], axis=2).clip(0, 255).astype(np.uint8)
ALPHA = np.rint(RAMP * 255).astype(np.uint8)
LEVELS = np.arange(256, dtype=np.uint8)
PALETTE = np.stack([LEVELS, LEVELS[::-1], LEVELS // 2], axis=1).tobytes()
LOCAL_PALETTE = np.stack([LEVELS[::-1], LEVELS, LEVELS], axis=1).tobytes()
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def is_right(show: Show, data: bytes, kind: str, tolerance: int = 1) -> bool:  # noqa: F811
    """Compare with Chromium; False where boxdrop refuses the file as unsupported."""
    try:
        seen = decode(data).pixels.astype(np.int64)
    except ImageError as error:
        if error.reason != "unsupported":
            raise
        return False
    shown = show(data, kind)
    assert seen.shape == shown.shape
    assert np.abs(seen - shown).max() <= tolerance
    return True


def save(pixels: NDArray[np.uint8], kind: str, mode: str | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    picture = PIL.Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("colour_type", "bits"), [(c, b) for c, depths in PNG_DEPTHS.items() for b in depths]
)
def test_png(show: Show, colour_type: int, bits: int) -> None:  # noqa: F811
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    planes = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1], RAMP[::-1, ::-1]], axis=2)[..., :channels]
    samples = np.rint(planes * ((1 << bits) - 1)).astype(np.uint16)
    chunks, transparency = list[tuple[bytes, bytes]](), [False] if colour_type in (4, 6) else [False, True]
    if colour_type == 3:
        levels = np.linspace(0, 255, 1 << bits).astype(np.uint8)
        chunks = [(b"PLTE", np.stack([levels, levels[::-1], levels // 2], axis=1).tobytes())]
    key = bytes([0, 128]) if colour_type == 3 else struct.pack(f">{channels}H", *samples[5, 20].tolist())
    for interlaced, gamma, transparent in itertools.product(
        (False, True), (None, 45455, 55556, 100000), transparency
    ):
        before = [(b"gAMA", struct.pack(">I", gamma))] if gamma else []
        after = [(b"tRNS", key)] if transparent else []
        data = write_png(samples, bits, colour_type, interlaced, [*before, *chunks, *after])
        refused = transparent and (colour_type, bits) == (2, 16)
        assert is_right(show, data, "png") != refused


@pytest.mark.parametrize("palette", [None, LOCAL_PALETTE])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("offset", [(0, 0), (3, 5)])
def test_gif(show: Show, palette: bytes | None, interlaced: bool, offset: tuple[int, int]) -> None:  # noqa: F811
    first = ALPHA[:20, :30] if any(offset) else ALPHA
    for transparent, disposal, background in itertools.product((None, 7, 200), (0, 1, 2, 3), (0, 9)):
        frame = gif_frame(first, offset, palette, transparent, interlaced, disposal)
        frames = [frame, gif_frame(255 - ALPHA, palette=LOCAL_PALETTE)]
        assert is_right(show, write_gif((48, 32), frames, PALETTE, background), "gif")


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(show: Show, progressive: bool) -> None:  # noqa: F811
    for mode in ("L", "CMYK"):
        assert is_right(show, save(SMOOTH, "JPEG", mode, quality=95, progressive=progressive), "jpeg", 4)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        options: dict[str, Any] = {"quality": 95, "progressive": progressive, "subsampling": subsampling}
        assert is_right(show, save(SMOOTH, "JPEG", **options), "jpeg", 4)


def test_jpeg_colours_by_the_adobe_segment(show: Show) -> None:  # noqa: F811
    imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs is not installed")
    inks = np.dstack([SMOOTH, SMOOTH[..., 0] // 3])
    for pixels, colours, stored in ((SMOOTH, "RGB", "RGB"), (inks, "CMYK", "CMYK"), (inks, "CMYK", "YCCK")):
        data = imagecodecs.jpeg8_encode(pixels, 95, colorspace=colours, outcolorspace=stored)
        assert is_right(show, data, "jpeg", 4)
    deep = imagecodecs.jpeg8_encode(SMOOTH.astype(np.uint16) * 16, 95, bitspersample=12)
    assert not is_right(show, deep, "jpeg")
    lossless = imagecodecs.jpeg8_encode(SMOOTH, lossless=True)
    np.testing.assert_array_equal(decode(lossless).pixels, SMOOTH)  # Chromium shows none


def rows_of(pixels: NDArray[Any]) -> bytes:
    """Rows as bytes, each padded to a multiple of four."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(32, -1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("header", [12, 40, 108, 124])
def test_bmp_with_a_palette(show: Show, bits: int, header: int) -> None:  # noqa: F811
    values = np.rint(RAMP * ((1 << bits) - 1)).astype(np.uint16)
    packed = np.frombuffer(pack_bits(values, bits), np.uint8).reshape(32, -1)
    levels = np.linspace(0, 255, 1 << bits).astype(np.uint8)
    columns = [levels, levels[::-1], levels // 2] + ([levels * 0] if header > 12 else [])
    for height in (32, -32) if header > 12 else (32,):
        palette = np.stack(columns, axis=1).tobytes()
        data = write_bmp(rows_of(packed), (48, height), bits, 0, palette, header=header)
        assert is_right(show, data, "bmp") == (bits != 2)


@pytest.mark.parametrize("header", [40, 108, 124])
def test_bmp_of_colours(show: Show, header: int) -> None:  # noqa: F811
    red, green, blue = np.moveaxis(SMOOTH.astype(np.uint16), 2, 0)
    five = (red >> 3) << 10 | (green >> 3) << 5 | blue >> 3
    six = (red >> 3) << 11 | (green >> 2) << 5 | blue >> 3
    bgra = np.dstack([SMOOTH[..., ::-1], ALPHA])
    size, masks = (48, 32), (0xFF0000, 0xFF00, 0xFF)
    files = [
        write_bmp(rows_of(five), size, 16, header=header),
        write_bmp(rows_of(five), size, 16, 3, masks=(0x7C00, 0x3E0, 0x1F), header=header),
        write_bmp(rows_of(six), size, 16, 3, masks=(0xF800, 0x7E0, 0x1F), header=header),
        write_bmp(rows_of(SMOOTH[..., ::-1]), size, 24, header=header),
        write_bmp(rows_of(bgra), size, 32, header=header),
        write_bmp(rows_of(bgra), size, 32, 3, masks=masks, header=header),
    ]
    if header > 40:
        files.append(write_bmp(rows_of(bgra), size, 32, 3, masks=(*masks, 0xFF000000), header=header))
    for data in files:
        assert is_right(show, data, "bmp", 1)


def test_bmp_with_run_lengths(show: Show) -> None:  # noqa: F811
    palette = np.stack([LEVELS, LEVELS[::-1], LEVELS // 2, LEVELS * 0], axis=1).tobytes()
    runs = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in ALPHA.tolist())
    copied = b"".join(bytes([0, 48, *row, 0, 0]) for row in ALPHA.tolist())
    fours = b"".join(bytes([48, 17 * (row % 16), 0, 0]) for row in range(32))
    for pixels, bits, compression in ((runs, 8, 1), (copied, 8, 1), (fours, 4, 2)):
        colours = palette[:64] if bits == 4 else palette
        assert is_right(show, write_bmp(pixels + b"\0\1", (48, 32), bits, compression, colours), "bmp")
    short_lines = b"".join(bytes([20, 7 * row, 0, 0]) for row in range(32)) + b"\0\1"
    jump = bytes([10, 200, 0, 2, 5, 3, 10, 100, 0, 1])
    for pixels in (short_lines, jump, runs[: len(runs) // 2 // 98 * 98] + b"\0\1"):
        assert not is_right(show, write_bmp(pixels, (48, 32), 8, 1, palette), "bmp")


@pytest.mark.parametrize("pixels", [SMOOTH, np.dstack([SMOOTH, ALPHA])], ids=["opaque", "alpha"])
def test_webp(show: Show, pixels: NDArray[np.uint8]) -> None:  # noqa: F811
    second = [PIL.Image.fromarray(255 - pixels)]
    animation: dict[str, Any] = {"save_all": True, "append_images": second, "duration": 60_000}
    assert is_right(show, save(pixels, "WEBP", lossless=True, exact=True), "webp")
    assert is_right(show, save(pixels, "WEBP", quality=90), "webp", 4)
    assert is_right(show, save(pixels, "WEBP", lossless=True, **animation), "webp")


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:0:0"])
def test_avif(show: Show, subsampling: str) -> None:  # noqa: F811
    assert is_right(show, save(SMOOTH, "AVIF", quality=95, subsampling=subsampling), "avif", 4)


def test_avif_with_alpha_is_composited_over_white() -> None:
    opacity = ALPHA[..., None] / 255.0
    seen = decode(save(np.dstack([SMOOTH, ALPHA]), "AVIF", quality=100, subsampling="4:4:4")).pixels
    assert np.abs(seen - (SMOOTH * opacity + 255 * (1 - opacity))).max() <= 4
