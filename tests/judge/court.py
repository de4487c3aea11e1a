"""The court: waits until nothing moves, judges, and keeps the folder of a failure."""

import time
from pathlib import Path

from tests.judge.evidence import Addresses, Evidence, depths, gather
from tests.judge.journal import Journal
from tests.judge.rules import Violation, violations

QUIET_LOOKS = 3
LOOK_S = 0.5


def is_quiet(at: Addresses) -> bool:
    """Whether no queue but those of dead letters holds a message."""
    return not any(sum(each) for queue, each in depths(at).items() if not queue.endswith("-dlq"))


def wait_until_quiet(at: Addresses, patience_s: float) -> bool:
    """Whether it becomes quiet, and stays so for some looks."""
    until, looks = time.monotonic() + patience_s, 0
    while time.monotonic() < until:
        looks = looks + 1 if is_quiet(at) else 0
        if looks >= QUIET_LOOKS:
            return True
        time.sleep(LOOK_S)
    return False


def judge(at: Addresses, journal: Journal, patience_s: float) -> tuple[list[Violation], Evidence, float]:
    """Judge again and again, until the judge is content or out of patience.

    Returns:
        The violations that stay, the last evidence, and how many seconds it took.
    """
    began = time.monotonic()
    while True:
        wait_until_quiet(at, max(LOOK_S, began + patience_s - time.monotonic()))
        evidence = gather(at)
        found = violations(evidence, journal.done())
        took = time.monotonic() - began
        if not found or took > patience_s:
            return found, evidence, took
        time.sleep(2)


def keep(folder: Path, found: list[Violation], evidence: Evidence, repeat: str) -> None:
    """Keep what a failure is about, beside its journal: violations, evidence, the line that repeats it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "violations.txt").write_text("".join(f"{each}\n" for each in found))
    (folder / "evidence.json").write_text(evidence.to_json())
    (folder / "repeat.sh").write_text(f"{repeat}\n")
