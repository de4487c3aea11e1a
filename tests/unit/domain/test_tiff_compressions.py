"""TIFF's compressions, colours, alpha and bit depths, compared with tifffile and imagecodecs."""

import io
import itertools
import zlib
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import decode
from tests.tiff_files import pack_bits, write_tiff

pytest.importorskip("imagecodecs", reason="imagecodecs is not installed")
tifffile: Any = pytest.importorskip("tifffile", reason="tifffile is not installed")

RAMP = np.linspace(0.0, 1.0, 48 * 32).reshape(32, 48)
ROWS, COLUMNS = np.mgrid[:32, :48]
SMOOTH = np.stack([5 * COLUMNS, 8 * ROWS, 250 - 4 * COLUMNS - ROWS], axis=2).clip(0, 255).astype(np.uint8)
FLOATS = ("float16", "float32", "float64")


def gray(kind: str) -> NDArray[Any]:
    return RAMP.astype(kind) if kind in FLOATS else np.rint(RAMP * np.iinfo(kind).max).astype(kind)


def colours(kind: str) -> NDArray[Any]:
    values = gray(kind)
    return np.stack([values, values[::-1], values[:, ::-1]], axis=2)


def write(values: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def read(data: bytes) -> NDArray[Any]:
    """Decode the first page with tifffile: [height, width] or [height, width, samples], 0 to 255."""
    page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    values = page.asarray()
    if page.planarconfig == 2 and values.ndim == 3:
        values = np.moveaxis(values, 0, 2)
    white = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    return 255.0 * values.astype(np.float64) / white


def is_right(data: bytes, wanted: NDArray[Any], tolerance: float = 1.0) -> bool:
    """Compare what boxdrop decodes; False where it refuses the file as unsupported."""
    try:
        found = decode(data).pixels.astype(np.float64)
    except ImageError as error:
        if error.reason != "unsupported":
            raise
        return False
    wanted = wanted if wanted.ndim == 3 else wanted[..., None]
    assert found.shape[:2] == wanted.shape[:2]
    assert np.abs(found - wanted).max() <= tolerance + 1e-6
    return True


@pytest.mark.parametrize("compression", ["lzw", "packbits", "zlib", "lzma", "zstd"])
@pytest.mark.parametrize("predictor", [False, True])
def test_lossless_compressions(compression: str, predictor: bool) -> None:
    right = set()
    kinds = ("uint8", "uint16", "uint32", *FLOATS)
    for kind, order, tile, fill in itertools.product(kinds, "<>", (None, (16, 16)), (gray, colours)):
        photometric = "rgb" if fill is colours else "minisblack"
        options = {"compression": compression, "predictor": predictor, "tile": tile, "byteorder": order}
        data = write(fill(kind), photometric=photometric, **options)
        if is_right(data, read(data)):
            right.add((kind, photometric))
    expected = {(kind, photo) for kind in ("uint8", "uint16") for photo in ("rgb", "minisblack")}
    expected |= {("uint32", "minisblack"), ("float32", "minisblack")}
    assert right == (set() if compression == "packbits" and predictor else expected)


def test_the_older_number_of_deflate() -> None:
    pixels = colours("uint8")
    data = write_tiff(zlib.compress(pixels.tobytes()), (48, 32), (8, 8, 8), 2, 32946)
    assert is_right(data, read(data))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax_compressions(compression: str) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(gray("uint8")).convert("1").save(file, "TIFF", compression=compression)
    assert is_right(file.getvalue(), 255.0 * tifffile.imread(io.BytesIO(file.getvalue())))


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr", "minisblack", "separated"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_jpeg_compression(photometric: str, tile: tuple[int, int] | None) -> None:
    options: dict[str, Any] = {"compressionargs": {"level": 95}, "tile": tile}
    values = SMOOTH[..., 0].copy() if photometric == "minisblack" else SMOOTH
    if photometric == "rgb":
        options["compressionargs"]["outcolorspace"] = "rgb"
    if photometric == "separated":
        values = np.concatenate([SMOOTH, SMOOTH[..., :1] // 3], axis=2)
    for subsampling in [(1, 1), (2, 1), (2, 2), (4, 1)] if photometric == "ycbcr" else [None]:
        name = "rgb" if photometric == "ycbcr" else photometric
        data = write(values, photometric=name, compression="jpeg", subsampling=subsampling, **options)
        wanted = read(data)
        if photometric == "separated":
            wanted = (255 - wanted[..., :3]) * (255 - wanted[..., 3:]) / 255
        assert is_right(data, wanted, 4)


@pytest.mark.parametrize("compression", ["jpeg2000", "webp", "jpegxl", "jpegxr", "lerc", "png"])
def test_compressions_that_are_refused(compression: str) -> None:
    assert not is_right(write(SMOOTH, photometric="rgb", compression=compression), SMOOTH)


def test_cmyk() -> None:
    right = set()
    for kind, planar, compression in itertools.product(
        ("uint8", "uint16"), ("contig", "separate"), (None, "lzw", "zlib")
    ):
        values = np.concatenate([colours(kind), gray(kind)[..., None] // 3], axis=2)
        if planar == "separate":
            values = np.moveaxis(values, 2, 0).copy()
        data = write(values, photometric="separated", planarconfig=planar, compression=compression)
        inks = read(data)
        wanted = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
        # Pillow cuts each ink to 8 bits before they are multiplied
        if is_right(data, wanted, 1 if kind == "uint8" else 2):
            right.add((kind, planar))
    assert right == {("uint8", "contig"), ("uint8", "separate"), ("uint16", "contig")}


@pytest.mark.parametrize("extra", ["assocalpha", "unassalpha", "unspecified"])
@pytest.mark.parametrize("base", ["rgb", "minisblack"])
@pytest.mark.parametrize("more", [False, True])
def test_alpha_is_composited_over_white(extra: str, base: str, more: bool) -> None:
    right = set()
    for kind, planar, compression in itertools.product(
        ("uint8", "uint16"), ("contig", "separate"), (None, "lzw", "zlib")
    ):
        alpha = gray(kind)[:, ::-1, None]
        values = colours(kind) if base == "rgb" else gray(kind)[..., None]
        if extra == "assocalpha":
            values = np.rint(values * (alpha / float(np.iinfo(kind).max))).astype(kind)
        values = np.concatenate([values, alpha, alpha[::-1]] if more else [values, alpha], axis=2)
        if planar == "separate":
            values = np.moveaxis(values, 2, 0).copy()
        extras = [extra, "unspecified"] if more else [extra]
        options = {"planarconfig": planar, "compression": compression, "extrasamples": extras}
        data = write(values, photometric=base, **options)
        samples, count = read(data), 3 if base == "rgb" else 1
        colour, opacity = samples[..., :count], samples[..., count : count + 1] / 255
        wanted = {
            "assocalpha": colour + 255 * (1 - opacity),
            "unassalpha": colour * opacity + 255 * (1 - opacity),
            "unspecified": colour,
        }[extra]
        if is_right(data, wanted, 1 if kind == "uint8" else 3):  # 16 bits are cut to 8 before the product
            right.add((kind, planar, compression))
    if base == "rgb":
        assert ("uint8", "contig", None) in right


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14, 16])
def test_bit_depths_and_the_order_of_bits(bits: int) -> None:
    white = (1 << bits) - 1
    values = np.rint(RAMP * white).astype(np.uint16)
    right = set()
    for photometric, order, reverse in itertools.product((0, 1, 3), "<>", (False, True)):
        packed = values.astype(f"{order}u2").tobytes() if bits == 16 else pack_bits(values, bits)
        if reverse:
            packed = bytes(int(f"{byte:08b}"[::-1], 2) for byte in packed)
        fields: dict[str, Any] = {"fill_order_266": (2 if reverse else 1,)}
        levels = 257 * np.linspace(0, 255, white + 1).round().astype(int)
        wanted = 255.0 * values / white
        if photometric == 0:
            wanted = 255 - wanted
        if photometric == 3:
            fields["colours_320"] = (*levels, *levels[::-1], *levels)
            wanted = np.stack([levels[values], levels[::-1][values], levels[values]], axis=2) / 257.0
        data = write_tiff(packed, (48, 32), (bits,), photometric, order=order, **fields)
        if is_right(data, wanted):
            right.add((photometric, reverse))
    if bits in (1, 2, 4, 8):
        assert {(0, False), (1, False), (3, False), (1, True)} <= right


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_colours_of_other_than_8_or_16_bits_are_refused(bits: int) -> None:
    values = np.rint(np.stack([RAMP, RAMP[::-1], RAMP], axis=2) * ((1 << bits) - 1)).astype(np.uint16)
    data = write_tiff(pack_bits(values.reshape(32, -1), bits), (48, 32), (bits,) * 3, 2)
    assert not is_right(data, values)


@pytest.mark.parametrize("across", [1, 2, 4])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("compression", [1, 8])
def test_ycbcr(across: int, down: int, compression: int) -> None:
    ycbcr = np.asarray(PIL.Image.fromarray(SMOOTH).convert("YCbCr"))
    pixels = bytearray()
    for row, column in itertools.product(range(0, 32, down), range(0, 48, across)):
        block = ycbcr[row : row + down, column : column + across]
        means = [int(block[..., channel].mean()) for channel in (1, 2)]
        pixels += bytes([*block[..., 0].ravel().tolist(), *means])
    packed = bytes(pixels) if compression == 1 else zlib.compress(bytes(pixels))
    data = write_tiff(packed, (48, 32), (8, 8, 8), 6, compression, subsampling_530=(across, down))
    after = data + bytes(1 << 14)  # other data must not pass for pixels
    tolerance = 4 if across == down == 1 else 16  # colours are means over a block of the ramp
    subsampled = (across, down) != (1, 1)
    assert is_right(after, SMOOTH, tolerance) == (not subsampled or compression == 8)


@pytest.mark.parametrize(
    "photometric", ["icclab", "itulab", "linear_raw", "logluv", "mask", "depth_map", "semantic_mask"]
)
def test_other_colours_are_refused(photometric: str) -> None:
    assert not is_right(write(SMOOTH, photometric=photometric), SMOOTH)


def test_the_first_page_is_read() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(SMOOTH, photometric="rgb")
        writer.write(255 - SMOOTH, photometric="rgb")
    assert is_right(file.getvalue(), SMOOTH)


def test_a_preview_is_not_mistaken_for_the_image() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(SMOOTH[::4, ::4], photometric="rgb", subfiletype=1)
        writer.write(SMOOTH, photometric="rgb")
    with pytest.raises(ImageError, match="preview") as caught:
        decode(file.getvalue())
    assert caught.value.reason == "unsupported"
