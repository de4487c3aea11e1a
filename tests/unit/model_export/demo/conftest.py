"""The tests of training need torch; `make quick` runs without it."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_training.py"]


def pytest_report_header() -> list[str]:
    """Say what is left out."""
    return [f"without torch, not run: {', '.join(collect_ignore)}"] if collect_ignore else []
