"""AVIF, HEIC and TIFF with whole pixels and damaged metadata give the same pixels as without the damage."""

import struct
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms, TiffImagePlugin

from boxdrop.domain.containers import clean_isobmff
from boxdrop.domain.images import decode
from tests.data.hostile import encode, scene

pytest.importorskip("pillow_heif")
KINDS = pytest.mark.parametrize("kind", ["HEIF", "AVIF"])


@cache
def with_metadata(kind: str) -> bytes:
    """The scene with EXIF, XMP and a colour profile."""
    from pillow_heif import register_heif_opener

    register_heif_opener()
    exif = PIL.Image.Exif()
    exif[0x010E] = "a scene"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    buffer = BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    scene().save(buffer, kind, exif=exif.tobytes(), xmp=xmp, icc_profile=profile)
    return buffer.getvalue()


def overwrite(data: bytes, at: int, junk: bytes) -> bytes:
    assert at > 0
    return data[:at] + junk + data[at + len(junk) :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "EXIF that begins with junk": lambda data: overwrite(data, data.rfind(b"MM\0*"), b"\xff" * 16),
    "EXIF whose start lies outside": lambda data: overwrite(data, data.rfind(b"MM\0*") - 10, b"\xff" * 4),
    "XMP of junk": lambda data: overwrite(data, data.find(b"<x:xmp"), b"\0\xff" * 8),
    "a colour profile of junk": lambda data: overwrite(data, data.find(b"prof") + 4, b"\xff" * 60),
    "colours of an unknown type": lambda data: overwrite(data, data.find(b"prof"), b"zzzz"),
}


@KINDS
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metadata_does_not_change_a_pixel(kind: str, damage: str) -> None:
    whole = with_metadata(kind)
    damaged = DAMAGES[damage](whole)
    assert damaged != whole
    assert (decode(damaged).pixels == decode(whole).pixels).all()
    assert decode(whole).damaged == ()


def test_metadata_that_is_cut_off_behind_the_pixels_does_not_matter() -> None:
    whole = with_metadata("HEIF")
    assert whole.endswith(b"/>"), "in an AVIF, the pixels come last"
    assert (decode(whole[:-30]).pixels == decode(whole).pixels).all()


@KINDS
def test_a_file_without_metadata_is_left_as_it_is(kind: str) -> None:
    whole = with_metadata(kind)
    cleaned = clean_isobmff(whole).data
    assert len(cleaned) == len(whole)
    assert clean_isobmff(cleaned).data is cleaned


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_keep_their_length(data: st.DataObject) -> None:
    whole = bytearray(with_metadata("AVIF")[:600])
    for _ in range(data.draw(st.integers(0, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert len(clean_isobmff(bytes(whole)).data) == len(whole)


@pytest.mark.parametrize("tag", [270, 305, 700, 34675])
def test_a_tag_whose_value_lies_outside_the_file_hides_no_other_tag(tag: int) -> None:
    values = TiffImagePlugin.ImageFileDirectory_v2()
    text = "a text that does not fit into a tag itself"
    for each in (270, 305, 700, 34675):
        values[each] = text if each < 700 else text.encode()
    buffer = BytesIO()
    scene().save(buffer, "TIFF", tiffinfo=values)
    whole = buffer.getvalue()
    (start,) = struct.unpack("<I", whole[4:8])
    (count,) = struct.unpack("<H", whole[start : start + 2])
    tags = {struct.unpack_from("<H", whole, at)[0]: at for at in range(start + 2, start + 2 + 12 * count, 12)}
    damaged = overwrite(whole, tags[tag] + 8, struct.pack("<I", 0x7FFFFFFF))
    assert (decode(damaged).pixels == decode(whole).pixels).all()
    assert (decode(damaged).damaged, decode(whole).damaged) == ((f"tag {tag}",), ())


REPORTS = Path(__file__).parents[2] / "data" / "reports"


@pytest.mark.parametrize(
    ("file", "damaged"),
    [
        ("jpg_adobe_short.jpg", ("Adobe",)),
        ("jpg_jfif_empty.jpg", ("JFIF",)),
        ("png_chrm_short.png", ("cHRM",)),
        ("png_exif6_badcrc.png", ("eXIf",)),
        ("png_gama_bad.png", ("gAMA",)),
        ("png_phys_short.png", ("pHYs",)),
        ("png_trns_short.png", ("tRNS",)),
        ("webp_or6.webp", ()),
    ],
)
def test_ignored_metadata_is_named(file: str, damaged: tuple[str, ...]) -> None:
    assert decode((REPORTS / file).read_bytes()).damaged == damaged


def test_whole_files_of_every_kind_name_no_damage() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        assert decode(encode(scene(), kind)).damaged == (), kind
    assert decode(encode(scene(), "PNG", pnginfo=None, dpi=(72, 72), exif=with_exif())).damaged == ()
    assert decode(encode(scene(), "JPEG", dpi=(72, 72), comment=b"x", exif=with_exif())).damaged == ()


def with_exif() -> bytes:
    exif = PIL.Image.Exif()
    exif[0x010E] = "a scene"
    return exif.tobytes()
