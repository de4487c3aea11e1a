"""Fixtures that several packages' tests share."""

import signal
from pathlib import Path

import pytest

from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_configure() -> None:
    """Take Ctrl-C seriously: background jobs of a shell ignore it, and so would every program they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photos, hostile files and payloads, which are kept outside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the test data in ../shared/data, which is not part of the repository")
    return SHARED_DATA


@pytest.fixture(scope="session")
def demo_detector() -> Detector:
    """The detector that ships with boxdrop, loaded once."""
    return Detector.load(BUNDLE)
