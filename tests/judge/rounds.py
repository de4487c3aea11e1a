"""Rounds of attacks, each judged when nothing moves any more.

    make judge SEED=7 MINUTES=60
    python -m tests.judge.rounds --seed 7 --first 12 --rounds 1      # round 12 again

What a round does follows from the seed and the round's number; how far the system has come by then also
depends on the machine. A round that fails leaves a folder: the journal, the evidence, the logs, the line that
repeats it.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread

from tests.judge.attacks import buckets, callers, people, size, webhook
from tests.judge.attacks import time as times
from tests.judge.court import judge, keep
from tests.judge.journal import Journal
from tests.judge.ring import Ring
from tests.judge.system import System

Attack = Callable[[Ring], None]

PEACEFUL: tuple[Attack, ...] = (*people.ATTACKS, *buckets.ATTACKS, *webhook.ATTACKS, *callers.ATTACKS)
"""Attacks that leave all processes alone, so that several may run at once."""
DEADLY: tuple[Attack, ...] = times.ATTACKS
ONLY_BY_NAME: tuple[Attack, ...] = size.ATTACKS

PATIENCE_S = 600.0
ROUNDS_OF_A_SYSTEM = 8


@dataclass(frozen=True, slots=True)
class Round:
    """What came of a round.

    Attributes:
        attacks: their names.
        attack_s, content_s: how long they took, and then the judge until it was content.
        recovery_s: seconds from the last kill until the judge was content; None without a kill.
        wrong: violations, and attacks that failed.
    """

    number: int
    attacks: tuple[str, ...]
    attack_s: float
    content_s: float
    wrong: tuple[str, ...] = field(default=())
    recovery_s: float | None = None


def plan(
    seed: int, number: int, among: Sequence[Attack] = (*PEACEFUL, *DEADLY), in_turn: bool = False
) -> list[Attack]:
    """The attacks of a round: one alone, or several peaceful ones at once; or (`in_turn`) each one alone."""
    if in_turn:
        return [among[number % len(among)]]
    dice = random.Random(f"{seed}/{number}")
    peaceful = [each for each in among if each not in DEADLY]
    if len(peaceful) > 1 and dice.random() < 0.5:
        return dice.sample(peaceful, min(len(peaceful), dice.randint(2, 3)))
    return [dice.choice(list(among))]


def fight(system: System, journal: Journal, seed: int, number: int, attacks: Sequence[Attack]) -> list[str]:
    """Run the attacks of a round at once; returns what failed of themselves."""
    at, failed = system.start(), []

    def run(attack: Attack) -> None:
        project = f"{attack.__name__.replace('_', '-')}-{number}"
        dice = random.Random(f"{seed}/{number}/{attack.__name__}")
        try:
            attack(Ring(system, at, journal, dice, project))
        except Exception:  # it is a finding, whatever it is
            failed.append(f"{attack.__name__} failed: {traceback.format_exc()}")

    journal.note("round", number=number, attacks=[each.__name__ for each in attacks])
    threads = [Thread(target=run, args=[attack], daemon=True) for attack in attacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def rounds(
    folder: Path,
    seed: int,
    numbers: Iterator[int],
    until: float,
    among: Sequence[Attack] = (*PEACEFUL, *DEADLY),
    patience_s: float = PATIENCE_S,
    in_turn: bool = False,
) -> Iterator[Round]:
    """Run rounds, a new system for each few of them, and after each failure.

    Args:
        folder: of homes and failures.
        numbers: of the rounds.
        until: `time.monotonic` after which no round begins.
        in_turn: see `plan`.
    """
    system: System | None = None
    journal = Journal(folder / "journal.jsonl")
    fought = 0
    try:
        for number in numbers:
            if time.monotonic() > until:
                return
            if system is None:
                system = System(folder / f"home-{number}")
                journal = Journal(folder / f"journal-{number}.jsonl")
                fought = 0
            attacks = plan(seed, number, among, in_turn)
            began, began_at = time.monotonic(), time.time()
            wrong = fight(system, journal, seed, number, attacks)
            attack_s = time.monotonic() - began
            found, evidence, content_s = judge(system.start(), journal, patience_s)
            killed_at = journal.last("killed")
            recovery_s = None if killed_at is None or killed_at < began_at else time.time() - killed_at
            wrong += map(str, found)
            names = tuple(each.__name__ for each in attacks)
            if wrong:
                place = folder / f"failure-{number}"
                is_any = len(among) == len(PEACEFUL) + len(DEADLY) and not in_turn
                chosen = "" if is_any else f" --attacks {','.join(names)}"
                line = f"python -m tests.judge.rounds --seed {seed} --first {number} --rounds 1{chosen}"
                keep(place, found, evidence, line)
                (place / "journal.jsonl").write_bytes(journal.path.read_bytes())
                (place / "wrong.txt").write_text("\n".join(wrong))
                system.keep_logs(place)
            fought += 1
            if wrong or fought == ROUNDS_OF_A_SYSTEM:
                system.stop()
                system = None
            yield Round(number, names, attack_s, content_s, tuple(wrong), recovery_s)
    finally:
        if system is not None:
            system.stop()


def summary(done: Sequence[Round]) -> str:
    """Seconds until the judge was content, by attack."""
    seconds = defaultdict(list)
    for each in done:
        seconds["+".join(each.attacks) if len(each.attacks) == 1 else "several at once"].append(
            each.content_s
        )
    lines = [
        f"{name:40} {len(some):3} rounds, content after {statistics.median(some):5.1f} s, "
        f"worst {max(some):5.1f} s"
        for name, some in sorted(seconds.items())
    ]
    recovered = [each.recovery_s for each in done if each.recovery_s is not None]
    if recovered:
        lines.append(
            f"{len(recovered)} kills: content after {statistics.median(recovered):.1f} s, "
            f"worst {max(recovered):.1f} s"
        )
    wrong = sum(bool(each.wrong) for each in done)
    return "\n".join([*lines, f"{len(done)} rounds, {wrong} of them with violations"])


def main() -> int:
    """The command line; the exit status is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=10**6)
    parser.add_argument("--attacks", default="", help="names with commas; default: all")
    parser.add_argument("--in-turn", action="store_true", help="each attack alone, one after the other")
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10_000) if asked.seed is None else asked.seed
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="boxdrop-judge-"))
    folder.mkdir(parents=True, exist_ok=True)
    names = asked.attacks.split(",") if asked.attacks else []
    among = [
        each
        for each in (*PEACEFUL, *DEADLY, *ONLY_BY_NAME)
        if each.__name__ in names or not (names or each in ONLY_BY_NAME)
    ]
    print(f"judge: SEED={seed}, {len(among)} attacks, in {folder}", flush=True)
    done = []
    numbers = iter(range(asked.first, asked.first + asked.rounds))
    until = time.monotonic() + asked.minutes * 60
    for each in rounds(folder, seed, numbers, until, among, in_turn=asked.in_turn):
        done.append(each)
        said = f"{each.attack_s:.0f} s, content after {each.content_s:.1f} s"
        print(f"round {each.number}: {' + '.join(each.attacks)}: {said}", flush=True)
        for one in each.wrong[:5]:
            print(f"    WRONG {one}", flush=True)
        with (folder / "rounds.jsonl").open("a") as file:
            file.write(json.dumps(asdict(each)) + "\n")
    print(summary(done))
    return int(any(each.wrong for each in done))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
