"""Image files without the metadata that no pixel depends on.

Browsers ignore a damaged comment, colour profile or resolution; Pillow refuses the whole file for it. The
functions here keep only the parts of a file that say how its pixels are stored, and the orientation. They
return the file unchanged where its structure cannot be followed: the decoder then says what is wrong.

Sources: PNG (https://www.w3.org/TR/png-3/), JPEG (ITU-T T.81, B.1.1), TIFF 6.0 and BigTIFF
(https://www.awaresystems.be/imaging/tiff/bigtiff.html).
"""

import struct
import zlib
from typing import Final

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_ANIMATION: Final = (b"acTL", b"fcTL", b"fdAT")
_CRITICAL: Final = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_TRNS_BYTES: Final = {0: 2, 2: 6}  # by colour type; a palette may have fewer entries than colours


def clean_png(data: bytes) -> tuple[bytes, bytes | None]:
    """Keep the chunks that decide about pixels, and the orientation.

    Returns:
        the file, and the two or six bytes of its transparent colour, which are taken out: None where it has
        none.
    """
    kept: list[bytes] = [PNG_SIGNATURE]
    view = memoryview(data)
    at, colour_type, colours = 8, -1, 0
    animated = False
    transparent: bytes | None = None
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
        elif zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            pass  # damaged, and not needed
        elif name == b"tRNS" and colour_type == 3 and 0 < length <= colours:
            kept.append(data[at:end])
        elif name == b"tRNS" and _TRNS_BYTES.get(colour_type) == length:
            transparent = bytes(body)
        elif name == b"acTL":
            animated = length == 8 and int.from_bytes(body[:4], "big") > 0
            if animated:
                kept.append(data[at:end])
        elif (name in _ANIMATION and animated) or name == b"eXIf":
            kept.append(data[at:end])
        at = end
        if name == b"IEND":
            break
    if at < len(data) and data[at - 8 : at - 4] != b"IEND":
        kept.append(data[at:])  # cut off within a chunk: the decoder says so
    return b"".join(kept), transparent


_NO_LENGTH: Final = (0x01, *range(0xD0, 0xDA))


def clean_jpeg(data: bytes) -> bytes:
    """Keep the segments that decide about pixels, and EXIF; drop JFIF and Adobe segments that are too short.

    libjpeg itself takes a JFIF segment of less than 14 bytes, or an Adobe segment of less than 12, for none.
    """
    kept = [data[:2]]
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
            return data
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or end < at + 4:
            return data
        body = data[at + 4 : end]
        if marker == 0xDA:
            kept.append(data[at:])
            return b"".join(kept)
        if marker == 0xE1 and body.startswith(b"Exif\0") and len(body) > 6:
            kept += data[at : at + 4], b"Exif\0\0", body[6:]  # browsers take any byte for the padding
        elif _is_needed(marker, body):
            kept.append(data[at:end])
        at = end
    return data


def _is_needed(marker: int, body: bytes) -> bool:
    if marker == 0xE0:
        return len(body) >= 14 and body.startswith(b"JFIF\0")
    if marker == 0xEE:
        return len(body) >= 12 and body.startswith(b"Adobe")
    return not (0xE1 <= marker <= 0xEF or marker == 0xFE)


_TIFF_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


def classic_tiff(data: bytes) -> bytes:
    """Turn a big-endian BigTIFF, which Pillow cannot read, into a TIFF: the first directory is written anew.

    Offsets fit 32 bits, for files are limited to far less than 4 GB. Other files are returned as they are.
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
