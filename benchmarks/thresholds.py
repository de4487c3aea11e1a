"""What thresholds learned from verified images gain, and what they risk.

    python -m benchmarks.thresholds [--draws 20] [--seeds 1] [--style unseen]

For each style and number of verified images: F1 on 300 other scenes, the mean over draws and the worst draw,
against the detector's default threshold. Then the same with a constant of +2 or -2 added to each label's
logits, as the labels of real detectors differ, for five draws of these constants; there, the gain is also
given as a share of what thresholds searched on the test scenes themselves would gain.

Seeds 0 chose the rules of `boxdrop.assessment.thresholds`, so their figures flatter them. Seeds 1 only
report: other scenes to learn from and to test on, other draws and constants. Nothing is chosen on them.
"""

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.review_scenes import DEFAULT, FLOOR, LABEL_SETS, STYLES, scenes
from boxdrop.assessment.calibration import sigmoid
from boxdrop.assessment.evidence import Evidence, count, tally
from boxdrop.assessment.thresholds import TuningError, suggest

TEST_SEED, POOL_SEED = 8_100_001, 7_200_001
SEEDS_APART = 10_000
OFFSET_DRAWS = 5
VERIFIED = (10, 25, 50, 100)


@click.command()
@click.option("--draws", default=20, show_default=True)
@click.option("--labels", "label_set", default="fruits", show_default=True)
@click.option("--seeds", default=1, show_default=True, help="Number of the set of seeds.")
@click.option("--style", "styles", multiple=True, type=click.Choice(STYLES), help="Default: both.")
def main(draws: int, label_set: str, seeds: int, styles: tuple[str, ...]) -> None:
    """Print one table."""
    size, apart = len(LABEL_SETS[label_set]), seeds * SEEDS_APART
    click.echo(
        f"{'style':8s}{'offsets':9s}{'verified':>9s}{'default':>9s}{'mean':>9s}{'worst':>9s}{'share':>7s}"
    )
    for style in styles or STYLES:
        test = scenes(style, label_set, TEST_SEED + apart, 300)
        pool = scenes(style, label_set, POOL_SEED + apart, 300)
        for constants in ([0], range(1, 1 + OFFSET_DRAWS)):
            found: dict[int, list[tuple[float, float, float]]] = {each: [] for each in VERIFIED}
            for number in constants:
                rng = np.random.default_rng(1000 + number + apart)
                offsets = 2.0 * rng.choice([-1, 1], size) if number else np.zeros(size)
                others = [each.evidence(offsets) for each in test]
                verified = [each.evidence(offsets) for each in pool]
                current = np.full(size, DEFAULT)
                base = f1(others, current)
                best = search(others, current) if number else base
                for images in VERIFIED:
                    for _ in range(max(1, draws // len(constants))):
                        chosen = [verified[each] for each in rng.choice(len(verified), images, replace=False)]
                        found[images].append((base, f1(others, learned(chosen, current)), best))
            for images, outcomes in found.items():
                before, after, most = np.array(outcomes).T
                share = f"{(after - before).sum() / (most - before).sum():7.2f}" if len(constants) > 1 else ""
                click.echo(
                    f"{style:8s}{'±2' if share else 'none':9s}{images:9d}{before.mean():9.4f}"
                    f"{(after - before).mean():+9.4f}{(after - before).min():+9.4f}{share}"
                )


def learned(verified: list[Evidence], current: NDArray[np.floating]) -> NDArray[np.floating]:
    """The thresholds that `boxdrop tune` would put in force; those of before where it suggests none."""
    try:
        return suggest(verified, current, floor=FLOOR).thresholds
    except TuningError:  # no box among them
        return current


def f1(images: list[Evidence], thresholds: NDArray[np.floating]) -> float:
    """F1 of all boxes together."""
    return tally(np.stack([count(each, thresholds, len(thresholds)) for each in images])).f_score()


def search(images: list[Evidence], current: NDArray[np.floating]) -> float:
    """F1 with the best thresholds that two rounds of search, label by label, find on them."""
    labels = len(current)
    thresholds = current.astype(np.float64)
    counts = np.stack([count(each, thresholds, labels).sum(axis=0) for each in images])
    of_label = [
        [n for n, each in enumerate(images) if (each.candidates.labels == label).any()]
        for label in range(labels)
    ]
    for _ in range(2):
        for label in range(labels):
            best = tally(counts).f_score()
            for value in sigmoid(np.linspace(-3.6, 4.4, 17)):
                trial, changed = thresholds.copy(), counts.copy()
                trial[label] = value
                for n in of_label[label]:
                    changed[n] = count(images[n], trial, labels).sum(axis=0)
                if tally(changed).f_score() > best + 1e-9:
                    best, kept = tally(changed).f_score(), (trial, changed)
            if best > tally(counts).f_score() + 1e-9:
                thresholds, counts = kept
    return tally(counts).f_score()


if __name__ == "__main__":
    main()
