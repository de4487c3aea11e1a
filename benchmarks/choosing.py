"""What it brings to choose the images that are verified: the table of docs/teaching.md.

    python -m benchmarks.choosing --icons .boxdrop/demo-training [--cache DIR] [--draws 8]

Each draw chooses from 300 other scenes, or takes as many at random. The scenes are those of
`benchmarks.teaching`; how images are chosen was tuned on seeds of 71 and 72 million. In the row *rare*, the
n-th name is about 1/n as frequent as the first.
"""

import argparse
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.teaching import (
    NUMBERS,
    TEST_SCENES,
    TEST_SEED,
    VERIFIED_SEED,
    Bench,
    Drawn,
    precision_and_f1,
    scores_of,
)
from boxdrop.teach.choice import choose, things_of
from boxdrop.teach.next_images import margins
from boxdrop.teach.teaching import words_of

POOL: Final = 300
ROWS: Final = (
    ("held-out names", "unseen", False, (10, 20, 50)),
    ("held-out names", "known", False, (10, 20, 50)),
    ("held-out names", "unseen", True, (10, 20)),
    ("fruits", "unseen", False, (20, 50)),
    ("fruits", "known", False, (50,)),
)


def rare_ones_left(pool: Drawn, numbers: dict[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Scenes of a world where the n-th name is 1/n as frequent as the first."""
    kept = []
    for scene, classes in enumerate(pool.classes):
        places = [numbers[each] for each in classes.tolist() if each in numbers]
        if not places or rng.random() < np.mean([1 / (1 + place) for place in places]):
            kept.append(scene)
    return np.array(kept, np.int64)


def compare(bench: Bench, kind: str, art: str, rare: bool, count: int, draws: int) -> None:
    """Print one row: lessons of random images, and of chosen ones."""
    held_out = kind == "held-out names"
    label_set, numbers = bench.label_set(kind), NUMBERS[kind]
    words = words_of(bench.detector, label_set)
    test = bench.scenes(art, held_out, TEST_SEED).verified(numbers, range(TEST_SCENES))
    pool = bench.scenes(art, held_out, VERIFIED_SEED)
    things = [things_of(each, margins(bench.detector, label_set, each)) for each in pool.features]
    _, asked = precision_and_f1(test, scores_of(words, None), words.thresholds)
    rows = []
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        kept = rare_ones_left(pool, numbers, rng) if rare else np.arange(len(pool.features))
        mine = rng.permutation(kept)[:POOL]
        picks = mine[:count], mine[choose([things[place] for place in mine], count)]
        row = []
        for pick in picks:
            images = pool.verified(numbers, pick.tolist())
            lesson, _ = bench.lesson(label_set, images)
            ap, f1 = precision_and_f1(test, scores_of(words, lesson), words.thresholds)
            row.append((ap, f1, sum(len(each.labels) for each in images)))
        rows.append(row)
    every = np.array(rows)  # [draws, random or chosen, mAP50, F1 and boxes]
    (ap, f1, boxes), (ap_chosen, f1_chosen, boxes_chosen) = every.mean(axis=0)
    won = int((every[:, 1, 0] > every[:, 0, 0]).sum())
    worst = every[:, 1, 1].min() - asked
    print(
        f"| {kind}, {art}{', rare' if rare else ''} | {count} | {ap:.3f} | {ap_chosen:.3f} | {f1:.3f} | "
        f"{f1_chosen:.3f} | {boxes:.0f} | {boxes_chosen:.0f} | {won} of {draws} | {worst:+.3f} | "
        f"{len(mine)} |",
        flush=True,
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--icons", type=Path, default=Path(".boxdrop/demo-training"))
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    bench = Bench(options.icons, 5, options.cache)
    print(
        "| set | images | mAP50 random | chosen | F1 random | chosen | boxes random | chosen | won | "
        "worst F1 gain | from |"
    )
    for kind, art, rare, counts in ROWS:
        for count in counts:
            compare(bench, kind, art, rare, count, options.draws)


if __name__ == "__main__":
    main()
