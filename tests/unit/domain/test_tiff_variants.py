"""TIFFs of every kind that programs write, compared with a second decoder, tifffile."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import decode

tifffile: Any = pytest.importorskip("tifffile", reason="tifffile is not installed")

RAMP = np.linspace(0.0, 1.0, 48 * 32).reshape(32, 48)
KINDS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")
VARIANTS = list(
    itertools.product(
        KINDS, ("minisblack", "miniswhite", "rgb", "palette"), (1, 2), "<>", (False, True), (None, "zlib")
    )
)


def stored(kind: str) -> NDArray[Any]:
    """A ramp over the whole range of a type."""
    if kind == "float32":
        return RAMP.astype(np.float32)
    limits = np.iinfo(kind)
    return (
        np.rint(RAMP * (float(limits.max) - limits.min) + limits.min)
        .clip(limits.min, limits.max)
        .astype(kind)
    )


def expected(values: NDArray[Any]) -> NDArray[np.float64]:
    """Gray or colour values as 8 bits, in floating point."""
    if values.dtype.kind == "f":
        return 255.0 * values
    limits = np.iinfo(values.dtype)
    return 255.0 * (values.astype(np.float64) - limits.min) / (float(limits.max) - limits.min)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiff_is_decoded_right_or_refused_as_unsupported(kind: str) -> None:
    """Never other pixels, and never called damaged."""
    right, refused = 0, dict[Any, str]()
    for variant in (each for each in VARIANTS if each[0] == kind):
        _, photometric, planar, order, big, compression = variant
        values, options = stored(kind), dict[str, Any]()
        if photometric == "rgb":
            values = np.stack([values, values[::-1], values[:, ::-1]], axis=0 if planar == 2 else 2)
            options["planarconfig"] = "separate" if planar == 2 else "contig"
        elif planar == 2:
            continue
        if photometric == "palette":
            if kind != "uint8":
                continue
            levels = np.arange(256, dtype=np.uint16)
            options["colormap"] = np.stack([levels * 256, levels[::-1] * 256, levels * 256])
        file = io.BytesIO()
        tifffile.imwrite(
            file,
            values,
            photometric=photometric,
            byteorder=order,
            bigtiff=big,
            compression=compression,
            **options,
        )
        second = tifffile.imread(io.BytesIO(file.getvalue()))
        try:
            found = decode(file.getvalue()).pixels.astype(float)
        except ImageError as error:
            refused[variant] = error.reason
            continue
        if photometric == "palette":
            wanted = np.stack([second, 255 - second, second], axis=2).astype(float)
        else:
            wanted = expected(np.moveaxis(second, 0, 2) if planar == 2 else second)
            if photometric == "miniswhite":
                wanted = 255 - wanted
        if wanted.ndim == 2:
            wanted = np.repeat(wanted[..., None], 3, axis=2)
        assert np.abs(found - wanted).max() <= 1.0, variant
        right += 1
    assert right > 0
    assert set(refused.values()) <= {"unsupported"}, refused
