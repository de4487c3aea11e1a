"""The collection of hostile files: each as its manifest says, within bounded memory and time.

All are read in one child process, so that a crash of a C library is seen as one, and memory can be measured.
"""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxdrop.images import decode

HOSTILE = Path(__file__).parents[3] / "shared" / "data" / "hostile"
MAX_SECONDS = 10  # of processor time; the slowest, a 12-megapixel HEIC, takes about one
MAX_MEGABYTES = 200  # above the interpreter; the same HEIC takes 95

pytestmark = pytest.mark.skipif(
    not HOSTILE.is_dir(), reason="needs ../shared/data/hostile, not in the repository"
)

CHILD = """
import json, pathlib, resource, sys, time
from boxdrop.errors import ImageError
from boxdrop.images import decode, probe

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

def memory(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

def outcome(read, data):
    try:
        image = read(data)
        return {"size": [image.width, image.height], "format": image.format}
    except ImageError as error:
        return {"reason": error.reason, "message": str(error), "size": [error.width, error.height]}

for line in sys.stdin:
    path = pathlib.Path(json.loads(line))
    data = path.read_bytes()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before, start = memory("VmRSS"), time.process_time()
    result = {"probe": outcome(probe, data), "decode": outcome(decode, data)}
    result["seconds"] = time.process_time() - start
    result["megabytes"] = memory("VmHWM") - before
    print(json.dumps(result), flush=True)
"""


def manifest() -> list[dict[str, str]]:
    if not HOSTILE.is_dir():
        return []
    with (HOSTILE / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def read_in_child(paths: list[Path]) -> list[dict[str, Any]]:
    """Outcomes of the files in order, as far as the child got."""
    names = "".join(json.dumps(str(path)) + "\n" for path in paths)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD], input=names, capture_output=True, text=True, timeout=540
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    names = [row["file"] for row in manifest()]
    return dict(zip(names, read_in_child([HOSTILE / "files" / name for name in names]), strict=False))


@pytest.mark.parametrize("row", manifest(), ids=lambda row: row["file"])
def test_a_hostile_file_is_treated_as_the_manifest_says(
    row: dict[str, str], outcomes: dict[str, dict[str, Any]]
) -> None:
    assert row["file"] in outcomes, f"the process died at {row['file']} or before it"
    outcome = outcomes[row["file"]]
    decoded, probed = outcome["decode"], outcome["probe"]
    rejected = "reason" in decoded
    wanted = row["good_system"]
    if wanted.startswith("ACCEPT"):
        assert not rejected, decoded
    if wanted.startswith("REJECT"):
        assert rejected, decoded
    size = re.search(r"(\d+)x(\d+)", wanted)
    if size and not rejected:
        assert decoded["size"] == [int(size[1]), int(size[2])]
    if rejected:
        assert decoded["reason"] in (
            *("empty", "not_an_image", "unsupported", "too_many_bytes", "too_many_pixels"),
            *("truncated", "corrupt", "out_of_memory"),
        )
        assert ":" in decoded["message"], "a message says what is wrong: and the mend"
    else:
        assert probed["size"] == decoded["size"]
    assert outcome["seconds"] < MAX_SECONDS
    assert outcome["megabytes"] < MAX_MEGABYTES


def test_a_large_photo_takes_memory_in_proportion(tmp_path: Path) -> None:
    import PIL.Image

    noise = np.random.default_rng(5).integers(0, 256, (4000, 6000), np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    paths: list[Path] = []
    for kind, options in (("jpeg", {"exif": exif}), ("jpeg", {"progressive": True}), ("png", {})):
        paths.append(tmp_path / f"{len(paths)}.{kind}")
        PIL.Image.fromarray(noise).convert("RGB").save(paths[-1], kind, **options)
    rotated, progressive, png = read_in_child(paths)
    pixels = 24e6
    assert rotated["decode"]["size"] == [4000, 6000]
    assert rotated["megabytes"] * 2**20 < 9 * pixels
    assert progressive["megabytes"] * 2**20 < 15 * pixels
    assert png["megabytes"] * 2**20 < 9 * pixels


def test_the_rotated_photo_equals_its_upright_original() -> None:
    rotated = decode((HOSTILE / "files" / "coco471_exif6.jpg").read_bytes()).pixels.astype(int)
    upright = decode((HOSTILE / "files" / "UPPER.JPG").read_bytes()).pixels.astype(int)
    assert np.abs(rotated - upright).mean() < 3  # the noise of JPEG


@pytest.mark.parametrize("number", [2, 4, 6, 7])
def test_real_photos_of_all_orientations_show_the_same_scene(number: int) -> None:
    """The photos of the collection differ by the digit drawn on them, not by how they lie."""
    reference = decode((HOSTILE / "files" / "exif_landscape_1.jpg").read_bytes()).pixels.astype(int)
    turned = decode((HOSTILE / "files" / f"exif_landscape_{number}.jpg").read_bytes()).pixels.astype(int)
    assert np.abs(reference - turned).mean() < 6


def test_sixteen_bit_gray_keeps_its_shades() -> None:
    pixels = decode((HOSTILE / "files" / "gray16.tif").read_bytes()).pixels
    assert len(np.unique(pixels)) > 50
    assert 0 < pixels.min() < pixels.max() < 255
