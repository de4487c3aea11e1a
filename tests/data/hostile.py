"""Small hostile image files, made here, so that a plain clone runs the checks of the larger collection.

Each row of `HOSTILE` has a name, what is special about the file, how a good system treats it, and the
function that makes its bytes. Verdicts read as in the manifest of the collection outside the repository:
``ACCEPT as WxH``, ``REJECT``, or ``EITHER``; sizes are upright pixels.

`python -m tests.data.hostile FOLDER` writes the files and a `manifest.tsv`.
"""

import csv
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
from PIL import ImageCms, ImageDraw

WIDTH, HEIGHT = 192, 128
ORIENTATION = 0x0112
ACCEPT = f"ACCEPT as {WIDTH}x{HEIGHT}"
REJECT = "REJECT"
EITHER = f"EITHER accept as {WIDTH}x{HEIGHT} or reject"

TO_STORED: Final = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_90,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_270,
}
"""How an upright picture is stored under each EXIF orientation; the decoder turns it back."""


@dataclass(frozen=True)
class HostileFile:
    """One file: its name, what is special, the verdict, and how its bytes are made."""

    file: str
    special: str
    verdict: str
    make: Callable[[], bytes]


@cache
def scene() -> PIL.Image.Image:
    """The upright RGB picture that most files hold: smooth shades, and a different shape in each corner."""
    across, down = np.meshgrid(np.linspace(40, 200, WIDTH), np.linspace(30, 220, HEIGHT))
    pixels = np.stack([across, down, 255 - (across + down) / 2], axis=-1).astype(np.uint8)
    picture = PIL.Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((10, 10, 60, 50), fill=(220, 40, 30))
    draw.rectangle((140, 15, 180, 45), fill=(240, 220, 60))
    draw.polygon([(20, 115), (45, 75), (70, 115)], fill=(30, 120, 50))
    return picture


def encode(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file of one format."""
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(**options: Any) -> bytes:
    return encode(scene(), "jpeg", quality=90, **options)


def oriented(kind: str, orientation: int, **options: Any) -> bytes:
    """The scene, stored turned, with the EXIF tag that turns it back."""
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    turn = TO_STORED.get(orientation)
    stored = scene().transpose(turn) if turn is not None else scene()
    return encode(stored, kind, exif=exif.tobytes(), **options)


def in_mode(mode: str, kind: str, **options: Any) -> bytes:
    return encode(scene().convert(mode), kind, **options)


def gray16(kind: str) -> bytes:
    """16 bits per pixel, with shades over the middle of the range only."""
    shades = np.linspace(8_000, 50_000, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    return encode(PIL.Image.fromarray(shades), kind)


def animated(kind: str) -> bytes:
    other = PIL.Image.new("RGB", (WIDTH, HEIGHT), (0, 0, 255))
    return encode(scene(), kind, save_all=True, append_images=[other, scene()], duration=100)


def two_pictures() -> bytes:
    """A stereo photo as phones write it: two JPEG pictures in one file."""
    return encode(scene(), "mpo", save_all=True, append_images=[scene()])


def heif(orientation: int = 1) -> bytes:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    turn = TO_STORED.get(orientation)
    stored = scene().transpose(turn) if turn is not None else scene()
    return encode(stored, "heif", quality=80, exif=exif.tobytes())


def segment(marker: int, content: bytes) -> bytes:
    """A JPEG segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def after_soi(data: bytes, inserted: bytes) -> bytes:
    return data[:2] + inserted + data[2:]


def resized_jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header was changed to another size, in pixels."""
    data = jpeg()
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def chunk(name: bytes, content: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of_zeros(width: int, height: int) -> bytes:
    """A valid 1-bit PNG that is black all over: a few bytes per megapixel."""
    row = b"\0" * (1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png_with(*chunks: bytes) -> bytes:
    """The scene as PNG with chunks after the header."""
    data = encode(scene(), "png")
    return data[:33] + b"".join(chunks) + data[33:]


def png_with_broken_header() -> bytes:
    """Width and checksum of the header disagree."""
    data = encode(scene(), "png")
    return data[:16] + b"\0\0\0\x01" + data[20:]


def tiff(entries: Sequence[tuple[int, int, int, int]], rest: bytes = b"") -> bytes:
    """A little-endian TIFF from entries (tag, type, count, value), then other bytes."""
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + b"\0\0\0\0" + rest


def tiff_that_claims(width: int, height: int, offset: int = 200) -> bytes:
    """An uncompressed gray TIFF that claims a size and holds 8 bytes."""
    return tiff(
        [
            *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)),
            *((273, 4, 1, offset), (277, 3, 1, 1), (278, 4, 1, height)),
            (279, 4, 1, min(width * height, 2**32 - 1)),
        ],
        b"\0" * 8,
    )


def gif_that_claims(width: int, height: int) -> bytes:
    """A GIF of a few bytes that claims a size."""
    size = struct.pack("<HH", width, height)
    screen = b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return screen + b"," + b"\0\0\0\0" + size + b"\0" + b"\x02\x02D\x01\0;"


def bmp_with_negative_width() -> bytes:
    data = encode(scene(), "bmp")
    return data[:18] + struct.pack("<i", -WIDTH) + data[22:]


def ico_that_claims() -> bytes:
    """An icon whose picture is a PNG of 900 megapixels."""
    picture = png_of_zeros(30_000, 30_000)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 1, len(picture), 22) + picture


def large_profile() -> bytes:
    """An sRGB profile with half a megabyte of padding behind it."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    padded = profile + b"\0" * (500_000 - len(profile))
    return struct.pack(">I", len(padded)) + padded[4:]


def noise(width: int, height: int) -> bytes:
    """A JPEG of any size that compresses well."""
    return encode(scene().resize((width, height)), "jpeg", quality=60)


def _rows() -> list[HostileFile]:
    row = HostileFile
    rows = [
        row(f"exif_{number}.jpg", f"EXIF orientation {number}", ACCEPT, partial(oriented, "jpeg", number))
        for number in range(1, 9)
    ]
    rows += [
        row(
            f"exif_{number}.webp",
            f"WebP, EXIF orientation {number}",
            ACCEPT,
            partial(oriented, "webp", number),
        )
        for number in (3, 6, 8)
    ]
    rows += [
        row(f"exif_{number}.png", f"PNG, eXIf orientation {number}", ACCEPT, partial(oriented, "png", number))
        for number in (2, 5, 6)
    ]
    rows += [
        row(f"exif_{number}.avif", "AVIF turned by irot and imir", ACCEPT, partial(oriented, "avif", number))
        for number in (5, 6)
    ]
    large = png_with(chunk(b"zTXt", b"bomb\0\0" + zlib.compress(b"\0" * 50_000_000, 9)))
    scene_jpeg = jpeg()
    rows += [
        row("exif_0.jpg", "EXIF orientation 0, which means nothing", ACCEPT, partial(oriented, "jpeg", 0)),
        row("rotated.heic", "HEIC with EXIF orientation 6", EITHER, partial(heif, 6)),
        row("plain.heif", "8-bit HEIF", EITHER, heif),
        row("plain.avif", "AVIF", ACCEPT, partial(encode, scene(), "avif")),
        row("animated.avifs", "AVIF sequence: its first frame", ACCEPT, partial(animated, "avif")),
        row("cmyk_adobe.jpg", "CMYK JPEG, inverted as Adobe does", ACCEPT, partial(in_mode, "CMYK", "jpeg")),
        row("gray.jpg", "grey JPEG", ACCEPT, partial(in_mode, "L", "jpeg")),
        row("qtables16.jpg", "16-bit quantisation tables", ACCEPT, partial(jpeg, qtables=[[300] * 64] * 2)),
        row("multi_picture.mpo.jpg", "two pictures in one file, as phones write", ACCEPT, two_pictures),
        row("progressive.jpg", "progressive JPEG", ACCEPT, partial(jpeg, progressive=True)),
        row(
            "icc_big.jpg", "ICC profile of half a megabyte", ACCEPT, lambda: jpeg(icc_profile=large_profile())
        ),
        row(
            "bad_exif.jpg",
            "EXIF that is no TIFF",
            ACCEPT,
            partial(jpeg, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        ),
        row(
            "multiple_exif.jpg",
            "two EXIF blocks, both upright",
            ACCEPT,
            lambda: after_soi(oriented("jpeg", 1), segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0")),
        ),
        row(
            "ff_filled.jpg", "fill bytes before a marker", ACCEPT, lambda: after_soi(scene_jpeg, b"\xff\xff")
        ),
        row("trailing_junk.jpg", "1000 bytes behind the end", ACCEPT, lambda: scene_jpeg + b"\x55" * 1000),
        row("truncated.jpg", "cut off in the scan", REJECT, lambda: scene_jpeg[: len(scene_jpeg) // 2]),
        row("header_only.jpg", "the first 400 bytes", REJECT, lambda: scene_jpeg[:400]),
        row("png_16bit.png", "16-bit PNG", ACCEPT, partial(gray16, "png")),
        row(
            "l_trns.png",
            "grey PNG, one shade is transparent",
            ACCEPT,
            partial(in_mode, "L", "png", transparency=9),
        ),
        row("palette.png", "palette PNG", ACCEPT, partial(in_mode, "P", "png")),
        row("bilevel.png", "1-bit PNG", ACCEPT, partial(in_mode, "1", "png")),
        row("gray_alpha.png", "grey PNG with alpha", ACCEPT, partial(in_mode, "LA", "png")),
        row("animated.apng", "animated PNG", ACCEPT, partial(animated, "png")),
        row("truncated.png", "cut off in IDAT", REJECT, lambda: encode(scene(), "png")[:2000]),
        row("broken.png", "header with a wrong checksum", REJECT, png_with_broken_header),
        row("truncated_iend.png", "PNG without IEND", EITHER, lambda: encode(scene(), "png")[:-12]),
        row("bomb_ztxt.png", "50 MB of text, compressed, beside small pixels", EITHER, lambda: large),
        row(
            "bomb_30000x30000.png", "900 megapixels in 110 KB", REJECT, partial(png_of_zeros, 30_000, 30_000)
        ),
        row(
            "bomb.gif",
            "a few bytes that claim 65,000 × 65,000",
            REJECT,
            partial(gif_that_claims, 65_000, 65_000),
        ),
        row("bomb.ico", "an icon that holds 900 megapixels", REJECT, ico_that_claims),
        row("huge_16000x12000.jpg", "192 megapixels", REJECT, partial(resized_jpeg, 16_000, 12_000)),
        row("oom.tif", "a TIFF that claims 2^31 × 16", REJECT, partial(tiff_that_claims, 2**31 - 1, 16)),
        row("offset_past_end.tif", "pixels behind the end", REJECT, partial(tiff_that_claims, 64, 64, 2**31)),
        row(
            "cut_table.tif", "directory behind the end", REJECT, lambda: b"II*\0\xff\xff\xff\x7f" + b"\0" * 8
        ),
        row("no_entries.tif", "an empty directory", REJECT, lambda: tiff([])),
        row("badwidth.bmp", "negative width", REJECT, bmp_with_negative_width),
        row("gray16.tif", "16-bit grey TIFF: scaled to 8 bits, not clipped", ACCEPT, partial(gray16, "tiff")),
        row(
            "cmyk_jpeg.tif",
            "CMYK, JPEG in TIFF",
            ACCEPT,
            partial(in_mode, "CMYK", "tiff", compression="jpeg"),
        ),
        row("lab.tif", "CIELAB TIFF", ACCEPT, partial(in_mode, "LAB", "tiff")),
        row("float32.tiff", "32-bit float TIFF", EITHER, partial(in_mode, "F", "tiff")),
        row("lzma.tif", "LZMA TIFF", EITHER, partial(encode, scene(), "tiff", compression="lzma")),
        row(
            "g4_orientation_8.tif",
            "1-bit G4 TIFF, orientation 8",
            ACCEPT,
            lambda: encode(
                scene().transpose(TO_STORED[8]).convert("1"),
                "tiff",
                compression="group4",
                tiffinfo={ORIENTATION: 8},
            ),
        ),
        row("animated.webp", "animated WebP", ACCEPT, partial(animated, "webp")),
        row("transparent.webp", "WebP with alpha", ACCEPT, partial(in_mode, "RGBA", "webp")),
        row("still.gif", "palette GIF", ACCEPT, partial(in_mode, "P", "gif")),
        row("animated.gif", "animated GIF", ACCEPT, partial(animated, "gif")),
        row("plain.bmp", "BMP", ACCEPT, partial(encode, scene(), "bmp")),
        row("icon.ico", "ICO", "EITHER", partial(encode, scene(), "ico", sizes=[(16, 16)])),
        row("jpeg2000.jp2", "JPEG 2000", EITHER, partial(encode, scene(), "jpeg2000")),
        row("wrong_ext_jpg_inside.png", "JPEG named .png", ACCEPT, lambda: scene_jpeg),
        row("no_extension", "JPEG without an extension", EITHER, lambda: scene_jpeg),
        row("photo.jpeg.bak", "JPEG with a foreign extension", EITHER, lambda: scene_jpeg),
        row("UPPER.JPG", "upper-case extension", ACCEPT, lambda: scene_jpeg),
        row("zero_bytes.jpg", "empty", REJECT, bytes),
        row("zero_bytes.heic", "empty", REJECT, bytes),
        row("text_named.jpg", "text named .jpg", REJECT, lambda: b"this is not an image\n"),
        row("html_error_page.png", "HTML named .png", REJECT, lambda: b"<!DOCTYPE html><title>403</title>"),
        row("svg_named.png", "SVG named .png", REJECT, lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        row("panorama_12000x400.jpg", "30:1 panorama", "ACCEPT as 12000x400", partial(noise, 12_000, 400)),
        row("tall_300x9000.jpg", "1:30 tall image", "ACCEPT as 300x9000", partial(noise, 300, 9_000)),
        row("one_pixel.gif", "one pixel", "ACCEPT as 1x1", lambda: encode(PIL.Image.new("P", (1, 1)), "gif")),
    ]
    awkward = ("fruit basket (1).jpg", "50%25 off.jpg", "semi;colon,comma.jpg", 'quote\'s "double".jpg')
    rows += [row(name, "an awkward key", ACCEPT, lambda: scene_jpeg) for name in awkward]
    return rows


HOSTILE: Final = tuple(_rows())
"""All files, in a fixed order."""


def write(folder: Path) -> None:
    """Write `files/` and `manifest.tsv`, laid out as the collection outside the repository."""
    (folder / "files").mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.tsv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(("file", "bytes", "what_is_special", "good_system", "source"))
        for each in HOSTILE:
            data = each.make()
            (folder / "files" / each.file).write_bytes(data)
            table.writerow((each.file, len(data), each.special, each.verdict, "tests/data/hostile.py"))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
