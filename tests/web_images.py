"""PNG, GIF and BMP files written field by field, for variants that no library writes."""

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.tiff_files import pack_bits

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column, steps down and across of each pass (https://www.w3.org/TR/png-3/#8Interlace)."""


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def write_png(
    samples: NDArray[Any],
    bits: int,
    colour_type: int,
    interlaced: bool = False,
    chunks: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """Write samples [height, width, channels] with their bit depth; `chunks` go before the pixels."""
    height, width, channels = samples.shape
    rows = b""
    for top, left, down, across in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = samples[top::down, left::across]
        if part.size:
            flat = part.reshape(part.shape[0], part.shape[1] * channels)
            rows += b"".join(b"\0" + pack_bits(row[None], bits) for row in flat)
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    body = b"".join(png_chunk(name, content) for name, content in chunks)
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body + pixels + png_chunk(b"IEND", b"")


def _lzw(indices: NDArray[Any]) -> bytes:
    """Uncompressed LZW of 8-bit codes: a clear code often enough that codes stay at 9 bits."""
    codes = []
    for at, value in enumerate(indices.ravel().tolist()):
        if at % 200 == 0:
            codes.append(256)
        codes.append(value)
    codes.append(257)
    bits = "".join(f"{code:09b}"[::-1] for code in codes)
    data = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    return b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif_frame(
    indices: NDArray[Any],
    offset: tuple[int, int] = (0, 0),
    palette: bytes | None = None,
    transparent: int | None = None,
    interlaced: bool = False,
    disposal: int = 0,
) -> bytes:
    """Write one frame of 8-bit indices [height, width] at an offset of columns and rows."""
    height, width = indices.shape
    flags = disposal << 2 | (transparent is not None)
    control = b"\x21\xf9\x04" + struct.pack("<BHBB", flags, 5, transparent or 0, 0)
    if interlaced:
        indices = np.concatenate([indices[0::8], indices[4::8], indices[2::4], indices[1::2]])
    packed = (0x87 if palette else 0) | 0x40 * interlaced
    place = b"\x2c" + struct.pack("<HHHHB", *offset, width, height, packed)
    return control + place + (palette or b"") + _lzw(indices)


def write_gif(
    size: tuple[int, int], frames: Iterable[bytes], palette: bytes | None, background: int = 0
) -> bytes:
    """Write a GIF of this width and height; palettes have 256 colours."""
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0xF7 if palette else 0x70, background, 0)
    return head + (palette or b"") + b"".join(frames) + b"\x3b"


def write_bmp(
    pixels: bytes,
    size: tuple[int, int],
    bits: int,
    compression: int = 0,
    palette: bytes = b"",
    masks: tuple[int, ...] = (),
    header: int = 40,
) -> bytes:
    """Write a BMP with a header of 12, 40, 108 or 124 bytes; a negative height is one from the top."""
    width, height = size
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        colours = len(palette) // 4
        info = struct.pack(
            "<IiiHHIIiiII", header, width, height, 1, bits, compression, len(pixels), 0, 0, colours, 0
        )
    packed = b"".join(mask.to_bytes(4, "little") for mask in masks)
    if header > 40:
        info = (info + packed.ljust(16, b"\0") + b"sRGB").ljust(header, b"\0")
        packed = b""
    start = 14 + len(info) + len(packed) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + packed + palette + pixels


def crop_avif(avif: bytes, width: int, height: int) -> bytes:
    """Add a clean aperture (``clap``, ISO/IEC 14496-12, 12.1.4): the left upper `width` × `height` pixels.

    The file is one that libavif wrote: one item, its properties associated by single bytes.
    """
    at = avif.index(b"ispe") + 8
    whole_width, whole_height = struct.unpack_from(">II", avif, at)
    centre = width - whole_width, 2, height - whole_height, 2  # of the aperture, from the image's
    clap = struct.pack(">I4s4I", 40, b"clap", width, 1, height, 1) + struct.pack(">iIiI", *centre)
    meta, iprp, ipco, ipma, iloc = (
        avif.index(name) - 4 for name in (b"meta", b"iprp", b"ipco", b"ipma", b"iloc")
    )
    sizes = {at: int.from_bytes(avif[at : at + 4], "big") for at in (meta, iprp, ipco, ipma)}
    properties, at = 0, ipco + 8
    while at < ipco + sizes[ipco]:
        properties, at = properties + 1, at + int.from_bytes(avif[at : at + 4], "big")
    count = ipma + 18  # after version, number of entries and the item's id
    changed = bytearray(avif)
    changed[count] += 1
    for box, more in ((meta, 41), (iprp, 41), (ipco, 40), (ipma, 1)):
        changed[box : box + 4] = (sizes[box] + more).to_bytes(4, "big")
    assert avif[iloc + 12] == 0x44, "offsets and lengths of four bytes"
    offset = iloc + 22  # of the only extent of the only item
    moved = int.from_bytes(avif[offset : offset + 4], "big") + 41
    changed[offset : offset + 4] = moved.to_bytes(4, "big")
    last = ipma + sizes[ipma]
    changed[last:last] = bytes([0x80 | properties + 1])
    changed[at:at] = clap
    return bytes(changed)
