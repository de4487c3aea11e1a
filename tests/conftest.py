"""Fixtures that several packages' tests share."""

import csv
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector
from boxdrop.detectors.choice import VARIABLE
from tests.data import hostile as small_files
from tests.turns import turn

DATA = Path(__file__).parent / "data"
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_configure() -> None:
    """Take Ctrl-C seriously: background jobs of a shell ignore it, and so would every program they start.

    And no command of a test gets or chooses a detector by itself, unless the test wants it to.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ[VARIABLE] = "never"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Under pytest-xdist, a test marked `alone` waits until no other worker runs a test."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    # The folder of one worker is in the folder that all workers of this run share.
    shared = item.config._tmp_path_factory.getbasetemp().parent  # type: ignore[attr-defined]
    with turn(shared, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session")
def events() -> Path:
    """Payloads that AWS documents, and that moto, MiniStack and Label Studio sent."""
    return DATA / "events"


@dataclass(frozen=True)
class HostileFiles:
    """A collection of hostile image files.

    Attributes:
        files: folder with nothing but the files.
        rows: of the manifest: `file`, `what_is_special`, `good_system` (ACCEPT as WxH, REJECT, or EITHER).
    """

    files: Path
    rows: tuple[dict[str, str], ...]

    @staticmethod
    def read(folder: Path) -> "HostileFiles":
        with (folder / "manifest.tsv").open(encoding="utf-8", newline="") as file:
            return HostileFiles(folder / "files", tuple(csv.DictReader(file, delimiter="\t")))


@pytest.fixture(scope="session", params=["small", "collected"])
def hostile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HostileFiles:
    """The small files that tests/data/hostile.py makes; then the collected ones, if they are there."""
    if request.param == "small":
        folder = tmp_path_factory.mktemp("hostile")
        small_files.write(folder)
        return HostileFiles.read(folder)
    folder = SHARED_DATA / "hostile"
    if not folder.is_dir():
        pytest.skip("the collected hostile files are not part of the repository; the small ones were tried")
    return HostileFiles.read(folder)


@pytest.fixture(scope="session")
def demo_detector() -> Detector:
    """The detector that ships with boxdrop, loaded once."""
    return Detector.load(BUNDLE)
