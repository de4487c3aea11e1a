"""Image files without metadata that does not affect pixels.

Browsers ignore a damaged comment, colour profile or resolution; Pillow refuses the whole file because of it.
The functions here keep only the parts of a file that describe its pixels, and the orientation. They return
the file unchanged if its structure cannot be parsed: the decoder then reports what is wrong.

Sources: PNG (https://www.w3.org/TR/png-3/), JPEG (ITU-T T.81, B.1.1), TIFF 6.0 and BigTIFF
(https://www.awaresystems.be/imaging/tiff/bigtiff.html).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_ANIMATION: Final = (b"acTL", b"fcTL", b"fdAT")
_CRITICAL: Final = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_TRNS_BYTES: Final = {0: 2, 2: 6}  # by colour type; a palette may have fewer entries than colours


@dataclass(frozen=True, slots=True)
class CleanFile:
    """A file with only the parts that its decoder needs, and the values that boxdrop applies itself.

    Attributes:
        data: the file.
        damaged: names of the damaged parts that were left out, each once.
        transparent: the two or six bytes of a PNG's transparent colour; None if it has none.
        gamma: from a PNG's gAMA, unless a chunk that takes precedence (sRGB, iCCP, cICP) is present; None for
            sRGB's.
    """

    data: bytes
    damaged: tuple[str, ...] = ()
    transparent: bytes | None = None
    gamma: float | None = None


_SRGB_GAMMA: Final = 0.45455
_COLOUR_SPACES: Final = (b"sRGB", b"iCCP", b"cICP")


_LENGTHS: Final = {b"pHYs": 9, b"cHRM": 32, b"gAMA": 4, b"sRGB": 1, b"tIME": 7, b"acTL": 8}


def clean_png(data: bytes) -> CleanFile:
    """Keep the chunks that affect pixels, and the orientation."""
    kept: list[bytes] = [PNG_SIGNATURE]
    view = memoryview(data)
    at, colour_type, colours = 8, -1, 0
    animated, has_colour_space, seen_pixels = False, False, False
    transparent: bytes | None = None
    gamma: float | None = None
    damaged: dict[str, None] = {}
    while at + 12 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        body = view[at + 8 : end - 4]
        if name in _CRITICAL:
            kept.append(data[at:end])
            if name == b"IHDR" and length == 13:
                colour_type = body[9]
            elif name == b"PLTE":
                colours = length // 3
            elif name == b"IDAT":
                seen_pixels = True
        elif zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            damaged[name.decode("latin-1")] = None
        elif name in _COLOUR_SPACES:
            has_colour_space = True
        elif name == b"gAMA" and length == 4 and not seen_pixels:
            gamma = int.from_bytes(body, "big") / 100_000
        elif name == b"tRNS" and colour_type == 3 and 0 < length <= colours:
            kept.append(data[at:end])
        elif name == b"tRNS" and _TRNS_BYTES.get(colour_type) == length:
            transparent = bytes(body)
        elif _LENGTHS.get(name, length) != length or name == b"tRNS":
            damaged[name.decode("latin-1")] = None
        elif name == b"acTL":
            animated = int.from_bytes(body[:4], "big") > 0
            if animated:
                kept.append(data[at:end])
            else:
                damaged["acTL"] = None
        elif (name in _ANIMATION and animated) or name == b"eXIf":
            kept.append(data[at:end])
        at = end
        if name == b"IEND":
            break
    if at < len(data) and data[at - 8 : at - 4] != b"IEND":
        kept.append(data[at:])  # truncated within a chunk: the decoder reports it
    if has_colour_space or not gamma or abs(gamma - _SRGB_GAMMA) < 0.05 * _SRGB_GAMMA:
        gamma = None
    return CleanFile(b"".join(kept), tuple(damaged), transparent, gamma)


_NO_LENGTH: Final = (0x01, *range(0xD0, 0xDA))


def clean_jpeg(data: bytes) -> CleanFile:
    """Keep the segments that affect pixels, and EXIF; drop JFIF and Adobe segments that are too short.

    libjpeg itself ignores a JFIF segment of less than 14 bytes, or an Adobe segment of less than 12.
    """
    kept = [data[:2]]
    damaged: dict[str, None] = {}
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # junk between segments: decoders skip it
            at += 1
            continue
        marker = data[at + 1]
        if marker in (0x00, 0xFF):
            at += 1
            continue
        if marker in _NO_LENGTH:
            return CleanFile(data)
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or end < at + 4:
            return CleanFile(data)
        body = data[at + 4 : end]
        if marker == 0xDA:
            kept.append(data[at:])
            return CleanFile(b"".join(kept), tuple(damaged))
        if marker == 0xE1 and body.startswith(b"Exif\0") and len(body) > 6:
            kept += data[at : at + 4], b"Exif\0\0", body[6:]  # browsers accept any byte as padding
        elif _is_needed(marker, body):
            kept.append(data[at:end])
        elif marker in (0xE0, 0xEE) and len(body) < 12:
            damaged["JFIF" if marker == 0xE0 else "Adobe"] = None
        at = end
    return CleanFile(data)


def _is_needed(marker: int, body: bytes) -> bool:
    if marker == 0xE0:
        return len(body) >= 14 and body.startswith(b"JFIF\0")
    if marker == 0xEE:
        return len(body) >= 12 and body.startswith(b"Adobe")
    return not (0xE1 <= marker <= 0xEF or marker == 0xFE)


_METADATA_ITEMS: Final = (b"Exif", b"mime", b"uri ")
_COLOUR_TYPES: Final = (b"nclx", b"rICC", b"prof")


def clean_isobmff(data: bytes) -> CleanFile:
    """Hide EXIF and XMP of an AVIF or HEIC from its decoder, and colours of an unknown type.

    The container itself says how the picture is turned. Types are replaced in place, so offsets stay right.

    Source: ISO/IEC 14496-12 (``meta``, ``iinf``, ``infe``), ISO/IEC 23008-12 (``iprp``, ``ipco``, ``colr``).
    """
    cleaned: bytearray | None = None
    damaged: tuple[str, ...] = ()
    for at, kind, end in _boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        for place, type_, stop in _boxes(data, at + 4, end):
            patches: list[int] = []
            if type_ == b"iinf":
                first = place + (6 if data[place : place + 1] == b"\0" else 8)
                for item, infe, item_end in _boxes(data, first, stop):
                    version = data[item] if item < item_end else 0
                    type_at = item + (8 if version == 2 else 10)
                    if infe == b"infe" and version >= 2 and data[type_at : type_at + 4] in _METADATA_ITEMS:
                        patches.append(type_at)
            elif type_ == b"iprp":
                patches = [
                    colour - 4
                    for inner, ipco, inner_end in _boxes(data, place, stop)
                    if ipco == b"ipco"
                    for colour, name, _ in _boxes(data, inner, inner_end)
                    if name == b"colr" and data[colour : colour + 4] not in _COLOUR_TYPES
                ]
                damaged = ("colr",) if patches else damaged
            for patch in patches:
                cleaned = cleaned if cleaned is not None else bytearray(data)
                cleaned[patch : patch + 4] = b"free"
    return CleanFile(data if cleaned is None else bytes(cleaned), damaged)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes, int]]:
    """The boxes of a part of a file: where the content of each begins, its type, and where it ends."""
    while at + 8 <= end:
        size, kind, content = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1 and at + 16 <= end:
            size, content = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        stop = end if size == 0 else at + size
        if stop < content or stop > end:
            return
        yield content, kind, stop
        at = stop


_TIFF_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


def classic_tiff(data: bytes) -> bytes:
    """Turn a big-endian BigTIFF, which Pillow cannot read, into a TIFF with a new first directory.

    Offsets fit in 32 bits, since files are limited to far less than 4 GB. Other files are returned unchanged.
    """
    if data[:4] != b"MM\0+" or len(data) < 16:
        return data
    try:
        (start,) = struct.unpack_from(">Q", data, 8)
        (count,) = struct.unpack_from(">Q", data, start)
        entries: list[tuple[int, int, int, bytes]] = []
        for number in range(min(count, 4096)):
            at = start + 8 + 20 * number
            tag, kind, values = struct.unpack_from(">HHQ", data, at)
            size = _TIFF_SIZES.get(kind, 0) * values
            if not size:
                continue
            place = at + 12 if size <= 8 else struct.unpack_from(">Q", data, at + 12)[0]
            content = data[place : place + size]
            if len(content) < size:
                continue
            if kind == 16:  # 64-bit offsets and lengths
                kind = 4
                content = struct.pack(f">{values}I", *struct.unpack(f">{values}Q", content))
            entries.append((tag, kind, values, content))
    except (struct.error, OverflowError):
        return data
    offset = len(data) + len(data) % 2
    after = offset + 2 + 12 * len(entries) + 4
    directory, contents = struct.pack(">H", len(entries)), b""
    for tag, kind, values, content in entries:
        if len(content) <= 4:
            field = content.ljust(4, b"\0")
        else:
            field = struct.pack(">I", after + len(contents))
            contents += content + b"\0" * (len(content) % 2)
        directory += struct.pack(">HHI", tag, kind, values) + field
    head = b"MM\0*" + struct.pack(">I", offset)
    return head + data[8:] + b"\0" * (len(data) % 2) + directory + bytes(4) + contents


_PIXEL_TAGS: Final = frozenset(
    (
        *(254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338),
        *(339, 340, 341, 347, 529, 530, 531, 532),
    )
)


def clean_tiff(data: bytes) -> CleanFile:
    """Empty the tags of the first directory that no pixel depends on and whose values lie outside the file.

    Pillow reads no tag behind such a one. Other files are returned as they are.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return CleanFile(data)
    big = data[2:4] in (b"+\0", b"\0+")
    first, length = (f"{order}Q", f"{order}Q") if big else (f"{order}I", f"{order}H")
    entry, width, inline = (f"{order}HHQQ", 20, 8) if big else (f"{order}HHII", 12, 4)
    cleaned: bytearray | None = None
    damaged: dict[str, None] = {}
    try:
        (start,) = struct.unpack_from(first, data, 8 if big else 4)
        (count,) = struct.unpack_from(length, data, start)
        begin = start + struct.calcsize(length)
        for at in range(begin, begin + width * min(count, 4096), width):
            tag, kind, values, place = struct.unpack_from(entry, data, at)
            size = _TIFF_SIZES.get(kind, 0) * values
            if tag in _PIXEL_TAGS or size <= inline or place + size <= len(data):
                continue
            cleaned = cleaned if cleaned is not None else bytearray(data)
            struct.pack_into(entry, cleaned, at, tag, 1, 1, 0)
            damaged[f"tag {tag}"] = None
    except (struct.error, OverflowError):
        return CleanFile(data)
    return CleanFile(data if cleaned is None else bytes(cleaned), tuple(damaged))


def skips_pixels(bmp: bytes) -> bool:
    """Whether a run-length encoded BMP skips pixels: browsers show white there, Pillow the first colour.

    Source: Bitmap Compression (https://learn.microsoft.com/windows/win32/gdi/bitmap-compression).
    """
    if len(bmp) < 34 or int.from_bytes(bmp[14:18], "little") < 40:
        return False
    width, height = (int(value) for value in struct.unpack_from("<ii", bmp, 18))
    compression = int.from_bytes(bmp[30:34], "little")
    if compression not in (1, 2):
        return False
    at, column, row = int.from_bytes(bmp[10:14], "little"), 0, 0
    while at + 2 <= len(bmp):
        count, value = bmp[at], bmp[at + 1]
        at += 2
        if count:
            column += count
        elif value == 0:  # end of the line
            if column < width:
                return True
            column, row = 0, row + 1
        elif value == 1:  # end of the picture
            return row + (column >= width) < abs(height)
        elif value == 2:  # a jump
            return True
        else:
            column += value
            size = value if compression == 1 else (value + 1) // 2
            at += size + size % 2
    return False  # truncated: the decoder reports it
