"""What people find in the images that they review first.

    python -m benchmarks.priority [--draws 10]

For each set of scenes: the share of all mistakes that lies in the first 5, 10, 20, 40 and 60 % of 300 images,
ordered by each way; for the learned ones, the mean over draws of 25, 50 and 100 verified images. "Oracle"
orders by the true number. Then, how often the interval of `outlook` holds the true number of images that
need a change. The choices in `boxdrop.assessment.priority` were made on other seeds.
"""

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.review_scenes import DEFAULT, LABEL_SETS, scenes
from boxdrop.assessment.evidence import Evidence, count, tally
from boxdrop.assessment.priority import Ranking, learn_ranking, outlook
from boxdrop.domain.detections import select

TEST_SEED, POOL_SEED = 8_100_001, 7_200_001
SETS = (("known", "fruits", 0.0), ("known", "all", 0.0), ("unseen", "fruits", 0.0), ("unseen", "all", 0.0),
        ("unseen", "fruits", 2.0))  # fmt: skip
FIRST = (0.05, 0.1, 0.2, 0.4, 0.6)


@click.command()
@click.option("--draws", default=10, show_default=True)
def main(draws: int) -> None:
    """Print one table."""
    click.echo(f"{'set':22s}{'order':22s}" + "".join(f"{share:8.0%}" for share in FIRST))
    for style, label_set, offset in SETS:
        labels = len(LABEL_SETS[label_set])
        rng = np.random.default_rng(7)
        offsets = offset * rng.choice([-1, 1], labels)
        thresholds = np.full(labels, DEFAULT)
        images = [each.evidence(offsets) for each in scenes(style, label_set, TEST_SEED, 300)]
        pool = [each.evidence(offsets) for each in scenes(style, label_set, POOL_SEED, 300)]
        mistakes = np.array([wrong(each, thresholds) for each in images])

        name = f"{style} {label_set}{' ±2' if offset else ''}"

        def show(
            order: str, *doubts: list[float], name: str = name, found: NDArray[np.int64] = mistakes
        ) -> None:
            curves = [shares(np.array(each, np.float64), found) for each in doubts]
            figures = "".join(f"{each:8.2f}" for each in np.mean(curves, axis=0))
            click.echo(f"{name:22s}{order:22s}{figures}")

        show("oracle", [float(each) for each in mistakes])
        show("lowest score first", [-lowest(each, thresholds) for each in images])
        show("near thresholds", doubts_of(Ranking(thresholds), images))
        for number in (25, 50, 100):
            doubts: list[list[float]] = []
            held: list[bool] = []
            for _ in range(draws):
                chosen = [pool[each] for each in rng.choice(len(pool), number, replace=False)]
                ranking = learn_ranking(chosen, thresholds)
                doubts.append(doubts_of(ranking, images))
                if ranking.calibration is not None:
                    seen = outlook(ranking, [ranking.chance(each.candidates) for each in images])
                    held.append(seen.low <= int((mistakes > 0).sum()) <= seen.high)
            show(f"learned from {number}", *doubts)
            click.echo(f"{'':22s}{'':22s}interval held {sum(held)} of {len(held)}")


def doubts_of(ranking: Ranking, images: list[Evidence]) -> list[float]:
    """How much there is to check in each image."""
    return [ranking.doubt(each.candidates) for each in images]


def wrong(image: Evidence, thresholds: NDArray[np.floating]) -> int:
    """Boxes to delete and objects to add."""
    found = tally(count(image, thresholds, len(thresholds)))
    return found.shown + found.objects - 2 * found.right


def lowest(image: Evidence, thresholds: NDArray[np.floating]) -> float:
    """The score of the least certain box; 0 without any."""
    shown = select(image.candidates, thresholds).scores
    return float(shown.min()) if len(shown) else 0.0


def shares(doubt: NDArray[np.float64], mistakes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of all mistakes in the first images, for each of `FIRST`."""
    order = np.argsort(-doubt, kind="stable")
    found = np.cumsum(mistakes[order]) / mistakes.sum()
    return np.array([found[round(len(order) * share) - 1] for share in FIRST])


if __name__ == "__main__":
    main()
