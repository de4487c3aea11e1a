"""Hostile files: each is treated as its manifest says, within bounds of memory and time.

All are read in one child process, so that a crash of a C library shows, and memory can be measured.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boxdrop.domain.images import decode
from tests.conftest import HostileFiles

MAX_SECONDS = 10  # of CPU time; the slowest, a 12-megapixel HEIC, takes about one
MAX_MEGABYTES = 200  # above the interpreter; the same HEIC takes 95

REASONS = (
    *("empty", "not_an_image", "unsupported", "too_many_bytes", "too_many_pixels"),
    *("truncated", "corrupt", "out_of_memory"),
)

CHILD = """
import json, pathlib, resource, sys, time
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import decode, probe

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


def read_in_child(paths: list[Path]) -> list[dict[str, Any]]:
    """Outcomes of the files in order, as far as the child got."""
    names = "".join(json.dumps(str(path)) + "\n" for path in paths)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD], input=names, capture_output=True, text=True, timeout=540
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_hostile_files_are_handled_as_in_the_manifest(hostile: HostileFiles) -> None:
    names = [row["file"] for row in hostile.rows]
    outcomes = dict(zip(names, read_in_child([hostile.files / name for name in names]), strict=False))
    faults = {}
    for row in hostile.rows:
        assert row["file"] in outcomes, f"the process died at {row['file']} or before it"
        if fault := fault_of(row["good_system"], outcomes[row["file"]]):
            faults[row["file"]] = (row["good_system"], fault, outcomes[row["file"]])
    assert not faults


def fault_of(wanted: str, outcome: dict[str, Any]) -> str | None:
    """What is wrong with how a file was read, by the manifest; None if nothing is."""
    decoded = outcome["decode"]
    rejected = "reason" in decoded
    size = re.search(r"(\d+)x(\d+)", wanted)
    checks = {
        "rejected": wanted.startswith("ACCEPT") and rejected,
        "accepted": wanted.startswith("REJECT") and not rejected,
        "wrong size": size and not rejected and decoded["size"] != [int(size[1]), int(size[2])],
        "unknown reason": rejected and decoded["reason"] not in REASONS,
        "the message names no way out": rejected and ":" not in decoded["message"],
        "header and pixels disagree": not rejected and outcome["probe"]["size"] != decoded["size"],
        "slow": outcome["seconds"] >= MAX_SECONDS,
        "too much memory": outcome["megabytes"] >= MAX_MEGABYTES,
    }
    return next((name for name, failed in checks.items() if failed), None)


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


def pixels_of(hostile: HostileFiles, name: str) -> NDArray[np.int64]:
    return decode((hostile.files / name).read_bytes()).pixels.astype(int)


def test_all_orientations_show_the_same_scene(hostile: HostileFiles) -> None:
    """The collected photos show the same scene in different light; the digit drawn on them differs."""
    pattern = re.compile(r"exif_(landscape_)?[1-8]\.(jpg|png|webp|avif)")
    upright, *turned = sorted(row["file"] for row in hostile.rows if pattern.fullmatch(row["file"]))
    assert len(turned) >= 4
    for name in turned:
        assert np.abs(pixels_of(hostile, upright) - pixels_of(hostile, name)).mean() < 6, name


def test_the_rotated_photo_equals_its_upright_original(hostile: HostileFiles) -> None:
    names = {row["file"] for row in hostile.rows}
    rotated = "coco471_exif6.jpg" if "coco471_exif6.jpg" in names else "exif_6.jpg"
    difference = pixels_of(hostile, rotated) - pixels_of(hostile, "UPPER.JPG")
    assert np.abs(difference).mean() < 3  # the noise of JPEG


def test_sixteen_bit_gray_keeps_its_shades(hostile: HostileFiles) -> None:
    pixels = pixels_of(hostile, "gray16.tif")
    assert len(np.unique(pixels)) > 50
    assert 0 < pixels.min() < pixels.max() < 255
