"""Injected mistakes in verified work: how many of the images named are the right ones.

    python -m benchmarks.mistakes [--seed 8110001] [--draws 20] [--objectlab PYTHON]

Five in a hundred boxes of drawn scenes get a wrong label, are shifted by 30 to 60 % of their size, or are
removed. As many boxes as were changed are then named; the figure is the share of them that were changed,
mean of 20 draws, in each of which about 15 boxes are changed. With ``--objectlab`` (a Python that has
cleanlab), ObjectLab's scores of the same kind get the same input: candidates from 0.02 or from 0.1 on, and
its own threshold of a sure box or 0.5. The best of the four is printed. It takes minutes per row, and may
have fewer draws (`--objectlab-draws`). The choices in `boxdrop.assessment.mistakes` were made on seeds
7200001, 7210001 and 8100001.
"""

import itertools
import pickle
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.review_scenes import LABEL_SETS, STYLES, scenes
from boxdrop.assessment.evidence import Evidence
from boxdrop.assessment.mistakes import Kind, doubts
from boxdrop.assessment.outcomes import RIGHT_IOU, iou_matrix
from boxdrop.assessment.thresholds import fit

SEED, SHARE = 8_110_001, 0.05
Boxes = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Spoiled:
    """A scene with mistakes: what a person "verified", and which of it is wrong.

    Attributes:
        wrong: bool [M], of the verified boxes.
        removed: float32 [K, 4], boxes that are no longer there.
    """

    evidence: Evidence
    wrong: NDArray[np.bool_]
    removed: Boxes


def spoil(
    image: Evidence, size: tuple[int, int], kind: Kind, labels: int, rng: np.random.Generator
) -> Spoiled:
    """Make mistakes of one kind in an image."""
    boxes, names = image.boxes.copy(), image.labels.copy()
    wrong = rng.random(len(names)) < SHARE
    for box in np.flatnonzero(wrong):
        if kind == Kind.WRONG_LABEL:
            names[box] = (names[box] + rng.integers(1, labels)) % labels
        elif kind == Kind.BADLY_PLACED:
            extent = boxes[box, 2:] - boxes[box, :2]
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.6)
            boxes[box] += np.tile(extent * far * np.array([np.cos(angle), np.sin(angle)]), 2)
            boxes[box] = np.clip(boxes[box], 0, np.tile(size, 2))
    if kind == Kind.MISSED:
        kept = Evidence.of("", image.candidates, boxes[~wrong], names[~wrong])
        return Spoiled(kept, np.zeros(int((~wrong).sum()), np.bool_), boxes[wrong])
    return Spoiled(Evidence.of("", image.candidates, boxes, names), wrong, boxes[:0])


def ours(spoiled: list[Spoiled], kind: Kind, labels: int) -> list[tuple[float, bool]]:
    """Score, and whether it was changed, of everything that `boxdrop recheck` would name."""
    calibration = fit([each.evidence for each in spoiled], labels)
    named = []
    for each in spoiled:
        for doubt in doubts(each.evidence, calibration):
            if doubt.kind == kind:
                hit = (
                    is_removed(doubt.xyxy, each.removed) if doubt.box is None else bool(each.wrong[doubt.box])
                )
                named.append((doubt.score, hit))
    return named


def is_removed(xyxy: Any, removed: Boxes) -> bool:
    """Whether a box lies on one that was removed."""
    return bool(len(removed) and iou_matrix([xyxy], removed).max() >= RIGHT_IOU)  # type: ignore[arg-type]


_OBJECTLAB = """
import pickle, sys, numpy as np
from cleanlab.object_detection import rank
images, kind, labels = pickle.load(open(sys.argv[1], "rb"))
score = {"missed": rank.compute_overlooked_box_scores, "wrong label": rank.compute_swap_box_scores,
         "badly placed": rank.compute_badloc_box_scores}[kind]
results = []
for floor, sure in ((0.02, None), (0.1, None), (0.02, 0.5), (0.1, 0.5)):
    given = [{"bboxes": each["boxes"], "labels": each["labels"]} for each in images]
    found = [[np.c_[each["found"], each["scores"]][(each["of"] == l) & (each["scores"] >= floor)]
              for l in range(labels)] for each in images]
    found = [np.array(each + [None], dtype=object)[:-1] for each in found]
    options = {} if sure is None or kind == "badly placed" else {"high_probability_threshold": sure}
    scores = score(labels=given, predictions=found, **options)
    results.append([(np.asarray(s), np.concatenate(list(f)) if len(f) else np.zeros((0, 5)))
                    for s, f in zip(scores, found)])
pickle.dump(results, open(sys.argv[2], "wb"))
"""


def objectlab(python: Path, spoiled: list[Spoiled], kind: Kind, labels: int, count: int) -> float:
    """The precision of ObjectLab's scores of this kind."""
    images = [
        {
            "boxes": each.evidence.boxes.astype(np.float64),
            "labels": each.evidence.labels,
            "found": each.evidence.candidates.boxes.astype(np.float64),
            "scores": each.evidence.candidates.scores.astype(np.float64),
            "of": each.evidence.candidates.labels,
        }
        for each in spoiled
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.write_bytes(pickle.dumps((images, str(kind), labels)))
        subprocess.run([python, "-c", _OBJECTLAB, source, target], check=True, capture_output=True)
        results = pickle.loads(target.read_bytes())
    best = 0.0
    for scores in results:
        named = []
        for each, (values, found) in zip(spoiled, scores, strict=True):
            for row, value in enumerate(values):
                if np.isfinite(value):
                    missed = kind == Kind.MISSED
                    hit = is_removed(found[row, :4], each.removed) if missed else bool(each.wrong[row])
                    named.append((1 - float(value), hit))
        best = max(best, precision(named, count))
    return best


def precision(named: list[tuple[float, bool]], count: int) -> float:
    """Share of hits among the `count` with the highest scores."""
    first = sorted(named, key=lambda each: -each[0])[:count]
    return sum(hit for _, hit in first) / max(1, count)


@click.command()
@click.option("--seed", default=SEED, show_default=True, help="Of the scenes.")
@click.option("--draws", default=20, show_default=True, help="How often mistakes are made in the scenes.")
@click.option("--objectlab", "python", type=click.Path(exists=True, path_type=Path))
@click.option("--objectlab-draws", "their_draws", default=4, show_default=True)
@click.option("--style", "styles", multiple=True, type=click.Choice(STYLES), help="Default: both.")
@click.option("--labels", "label_sets", multiple=True, type=click.Choice(list(LABEL_SETS)))
def main(
    seed: int,
    draws: int,
    python: Path | None,
    their_draws: int,
    styles: tuple[str, ...],
    label_sets: tuple[str, ...],
) -> None:
    """Print one table."""
    click.echo(f"{'style':8s}{'labels':8s}{'mistake':14s}{'boxdrop':>9s}{'±':>6s}{'ObjectLab':>11s}{'±':>6s}")
    for style, label_set in itertools.product(styles or STYLES, label_sets or LABEL_SETS):
        labels = len(LABEL_SETS[label_set])
        drawn = scenes(style, label_set, seed, 300)
        for kind in (Kind.WRONG_LABEL, Kind.BADLY_PLACED, Kind.MISSED):
            mine, theirs = [], []
            for draw in range(max(draws, their_draws if python else 0)):
                rng = np.random.default_rng(draw)
                spoiled = [spoil(each.evidence(), each.size, kind, labels, rng) for each in drawn]
                count = sum(int(each.wrong.sum()) + len(each.removed) for each in spoiled)
                if draw < draws:
                    mine.append(precision(ours(spoiled, kind, labels), count))
                if python is not None and draw < their_draws:
                    theirs.append(objectlab(python, spoiled, kind, labels, count))
            other = f"{np.mean(theirs):11.2f}{error(theirs):6.2f}" if theirs else ""
            click.echo(f"{style:8s}{label_set:8s}{kind:14s}{np.mean(mine):9.2f}{error(mine):6.2f}{other}")


def error(values: list[float]) -> float:
    """Standard error of the mean, over draws of mistakes in the same scenes."""
    return float(np.std(values) / max(1, len(values)) ** 0.5)


if __name__ == "__main__":
    main()
