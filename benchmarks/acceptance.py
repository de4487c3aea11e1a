"""Whether accepted images keep their promise, and how soon the audit notices a detector that got worse.

    python -m benchmarks.acceptance [--projects 50]

Maths alone: no detector and no server. Each kind of project is drawn `--projects` times: people verify some
images, the rule is learned from them, and 600 other images are judged by it. *kept* is the share of
projects in which the share of right boxes among the accepted ones reaches the promise; a project in which
nothing is accepted keeps it. *proven* is the share of projects in which images are accepted, *accepted* the
share of the images there.

Then the audit: for 100 images, a quarter of the wrong boxes that the promise allows; after that, so many
more. Given is the number of audited images from there until the rule stops, in half of the draws and in 95 of
100.
"""

import math
from dataclasses import dataclass

import click
import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.acceptance import AcceptanceRule, judge, learn_acceptance, watch
from boxdrop.assessment.calibration import sigmoid
from boxdrop.assessment.evidence import Evidence
from boxdrop.domain.detections import Detections

LABELS = 5
THRESHOLDS = np.full(LABELS, 0.5)
SIDE = 40.0
OTHERS = 600
RUNS = 400


@dataclass(frozen=True)
class Kind:
    """How a detector's scores relate to the truth.

    Attributes:
        ceiling: P(right) of a box that it is entirely sure of: below 1, no logistic curve fits.
        spread: standard deviation of the constants that are added to the labels' logits.
        alike: standard deviation of a constant that the boxes of one image share, which no score shows.
        missed: share of the objects that it does not find at all.
    """

    ceiling: float = 1.0
    spread: float = 0.5
    alike: float = 0.0
    missed: float = 0.05


KINDS = {
    "scores mean what they say": Kind(),
    "labels differ": Kind(spread=2.0),
    "one wrong box in 33, however sure": Kind(ceiling=0.97),
    "boxes of an image share their fate": Kind(alike=1.5),
    "all of it": Kind(ceiling=0.985, spread=1.5, alike=1.0, missed=0.1),
}


def draw(rng: np.random.Generator, kind: Kind, offsets: NDArray[np.float64], images: int) -> list[Evidence]:
    """Verified images of a detector of this kind."""
    drawn = []
    for number in range(images):
        size = int(rng.integers(1, 7))
        label = rng.integers(0, LABELS, size)
        places = rng.permutation(25)[:size]
        corners = np.stack([places % 5, places // 5], 1) * 50.0
        boxes = np.concatenate([corners, corners + SIDE], 1).astype(np.float32)
        honest = np.where(rng.random(size) < 0.75, rng.normal(5, 1.5, size), rng.normal(-2, 1.5, size))
        shared = rng.normal(0, kind.alike) if kind.alike else 0.0
        right = rng.random(size) < kind.ceiling * sigmoid(honest + shared)
        scores = sigmoid(honest + offsets[label]).astype(np.float32)
        found = (scores >= 0.02) & (rng.random(size) >= kind.missed)
        seen = Detections(boxes[found], scores[found], label[found], label[found], np.flatnonzero(found))
        drawn.append(Evidence.of(f"{number}", seen, boxes[right], label[right].astype(np.int64)))
    return drawn


@dataclass(frozen=True)
class Outcome:
    """What became of a project: accepted images and boxes, and how many of the boxes are right."""

    rule: AcceptanceRule | None
    images: int
    boxes: int
    right: int

    def keeps(self, promise: float) -> bool:
        """Whether the accepted boxes are as right as was promised."""
        return self.right >= promise * self.boxes


def run(seed: int, kind: Kind, verified: int, promise: float, others: int = OTHERS) -> Outcome:
    """One project: learn a rule, and judge other images by it."""
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, kind.spread, LABELS)
    rule = learn_acceptance(draw(rng, kind, offsets, verified), THRESHOLDS, promise)
    if rule is None or not rule.proven:
        return Outcome(None, 0, 0, 0)
    accepted = [each for each in draw(rng, kind, offsets, others) if rule.accepts(each.candidates)]
    counts = np.array([judge(each, THRESHOLDS) for each in accepted]).reshape(-1, 2).sum(axis=0)
    return Outcome(rule, len(accepted), int(counts[1]), int(counts[0]))


def images_until_noticed(
    rng: np.random.Generator, promise: float, before: float, after: float, alike: bool, most: int = 5000
) -> float:
    """Audited images from the change to the stop: `before` and `after` are shares of wrong boxes."""
    sure = 100
    audited = [_image(rng, before, alike) for _ in range(sure)] + [
        _image(rng, after, alike) for _ in range(most)
    ]
    broken = watch(audited, promise).broken_after
    return math.inf if broken is None else broken - sure


def _image(rng: np.random.Generator, wrong: float, alike: bool) -> tuple[int, int]:
    boxes = int(rng.integers(1, 6))
    mistakes = boxes * (rng.random() < wrong) if alike else int(rng.binomial(boxes, wrong))
    return boxes - mistakes, boxes


@click.command()
@click.option("--projects", default=50, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(projects: int, seed: int) -> None:
    """Print two tables."""
    click.echo(
        f"{'kind of project':38s}{'promise':>8s}{'verified':>9s}{'kept':>6s}{'proven':>8s}{'accepted':>10s}"
    )
    for name, kind in KINDS.items():
        for promise, verified in ((0.95, 300), (0.98, 600)):
            found = [run(seed + each, kind, verified, promise) for each in range(projects)]
            kept = np.mean([each.keeps(promise) for each in found])
            proven = [each for each in found if each.rule is not None]
            share = np.mean([each.images for each in proven]) / OTHERS if proven else 0
            click.echo(
                f"{name:38s}{promise:8.2f}{verified:9d}{kept:6.2f}{len(proven) / projects:8.2f}{share:10.2f}"
            )
    rng = np.random.default_rng(seed)
    click.echo(f"\n{'promise':>8s}{'wrong boxes':>12s}{'fates':>10s}{'half':>7s}{'95 of 100':>11s}")
    for promise in (0.95, 0.98):
        for times in (1.0, 2.0, 3.0, 5.0, 10.0):
            for alike in (False, True):
                wrong = times * (1 - promise)
                delays = [
                    images_until_noticed(rng, promise, (1 - promise) / 4, wrong, alike) for _ in range(RUNS)
                ]
                half, most = np.quantile(delays, [0.5, 0.95], method="higher")
                click.echo(
                    f"{promise:8.2f}{wrong:12.2f}{'shared' if alike else 'own':>10s}{half:7.0f}{most:11.0f}"
                )


if __name__ == "__main__":
    main()
