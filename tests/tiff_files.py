"""TIFF files written field by field, for variants that no library writes."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack_bits(values: NDArray[Any], bits: int) -> bytes:
    """Pack values [rows, columns] of 1 to 16 bits, each row from a byte of its own."""
    shifts = np.arange(bits - 1, -1, -1)
    planes = (values[..., None].astype(np.uint32) >> shifts & 1).astype(np.uint8)
    return np.packbits(planes.reshape(len(values), -1), axis=1).tobytes()


def write_tiff(
    pixels: bytes,
    size: tuple[int, int],
    bits: tuple[int, ...],
    photometric: int,
    compression: int = 1,
    order: str = "<",
    **tags: tuple[int, ...],
) -> bytes:
    """Write one strip as a TIFF 6.0 file.

    Args:
        size: width and height.
        bits: BitsPerSample.
        tags: further fields of shorts by name and number, such as ``fill_order_266=(2,)``.
    """
    width, height = size
    fields: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: bits,
        259: (compression,),
        262: (photometric,),
        273: (0,),
        277: (len(bits),),
        278: (height,),
        279: (len(pixels),),
    } | {int(name.rsplit("_", 1)[1]): values for name, values in tags.items()}
    count = len(fields)
    extra = b""
    after = 8 + 2 + 12 * count + 4
    outside = {tag: values for tag, values in fields.items() if 2 * len(values) > 4}
    strip_at = after + sum(2 * len(values) for values in outside.values())
    directory = struct.pack(f"{order}H", count)
    for tag, values in sorted(fields.items()):
        if tag in (273, 279):
            directory += struct.pack(f"{order}HHII", tag, 4, 1, strip_at if tag == 273 else values[0])
            continue
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            field = struct.pack(f"{order}I", after + len(extra))
            extra += packed
        else:
            field = packed.ljust(4, b"\0")
        directory += struct.pack(f"{order}HHI", tag, 3, len(values)) + field
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return head + directory + bytes(4) + extra + pixels
