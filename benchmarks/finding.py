"""How well one box finds its like, and how often taught names fire where they are not.

    python -m benchmarks.finding --icons .boxdrop/demo-training [--cache DIR]

The scenes are those of `benchmarks.teaching`, on whose seeds nothing was tuned. Takes a quarter of an hour.
"""

import argparse
from collections.abc import Sequence
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
    Logits,
    find,
    precision_and_f1,
    scores_of,
)
from boxdrop.detect.features import Features
from boxdrop.domain.detections import iou
from boxdrop.teach.likeness import head_like
from boxdrop.teach.patches import VerifiedImage
from boxdrop.teach.teaching import words_of

SEARCHES: Final = 24
FIRST: Final = 20
RECALLS: Final = (0.5, 0.7)
COUNTS: Final = ((10, 0), (10, 300), (100, 0), (100, 100), (100, 300), (500, 500))
"""Verified images with the names and without them; of 500 there is a single draw."""

_RIGHT_IOU: Final = 0.5
_LOWEST: Final = 0.02


def precision_of_searches(bench: Bench, art: str) -> NDArray[np.float64]:
    """Of each search for a name that the detector never saw, the share of right ones among the first 20."""
    pool, test = (bench.scenes(art, True, seed) for seed in (VERIFIED_SEED, TEST_SEED))
    rng = np.random.default_rng(5)
    shares: list[float] = []
    for number in rng.permutation(len(pool.features)):
        boxes, classes = pool.boxes[number], pool.classes[number]
        if not len(classes):
            continue
        mine = int(rng.integers(len(classes)))
        head = head_like(pool.features[number], boxes[mine])

        def score(features: Features, head: NDArray[np.float32] = head) -> NDArray[np.float32]:
            raw = features.embeddings.astype(np.float32) @ head[:-2] + features.shifts * head[-2]
            return np.asarray(features.scales * raw + head[-1], np.float32)[:, None]

        everything = range(len(test.features))
        found = find(test.verified({int(classes[mine]): 0}, everything), score, 1, _LOWEST)
        hits: list[tuple[float, bool]] = []
        for scene, each in enumerate(found):
            truth = test.boxes[scene][test.classes[scene] == classes[mine]]
            for box, sure in zip(each.boxes, each.scores, strict=True):
                hits.append((float(sure), bool(len(truth) and iou(box, truth).max() >= _RIGHT_IOU)))
        best = sorted(hits, key=lambda hit: -hit[0])[:FIRST]
        shares.append(sum(right for _, right in best) / FIRST)
        if len(shares) == SEARCHES:
            break
    return np.array(shares)


def rates_at(
    images: list[VerifiedImage], elsewhere: list[VerifiedImage], score: Logits, labels: int
) -> list[float]:
    """Boxes per 100 scenes and name on scenes without the name, at the threshold that gives each recall.

    Args:
        images: to set the threshold by.
        elsewhere: scenes; a name counts only on those where it is not.
        score: see `benchmarks.teaching.scores_of`.
        labels: how many names.
    """
    right: list[float] = []
    for image, each in zip(images, find(images, score, labels, _LOWEST), strict=True):
        for box, label in zip(image.boxes, image.labels, strict=True):
            same = each.labels == label
            near = iou(box, each.boxes[same]) >= _RIGHT_IOU if same.any() else np.zeros(0, bool)
            right.append(float(each.scores[same][near].max()) if near.any() else 0.0)
    wrong: list[NDArray[np.float32]] = []
    absent = 0
    for image, each in zip(elsewhere, find(elsewhere, score, labels, _LOWEST), strict=True):
        there = np.isin(np.arange(labels), image.labels)
        wrong.append(each.scores[~there[each.labels]])
        absent += int((~there).sum())
    scores = np.concatenate(wrong)
    cuts = [max(float(np.quantile(right, 1 - recall)), 1e-6) for recall in RECALLS]
    return [100 * float((scores >= cut).sum()) / max(1, absent) for cut in cuts]


def false_boxes(bench: Bench, art: str, counts: Sequence[tuple[int, int]]) -> None:
    """Names that were taught beside names that the words know, at the same recall.

    Args:
        counts: how many verified images with such names, and how many without them.
    """
    new, known = NUMBERS["held-out names"], NUMBERS["fruits"]
    label_set, fruits = bench.label_set("held-out names"), bench.label_set("fruits")
    words = words_of(bench.detector, label_set)
    test = bench.scenes(art, True, TEST_SEED).verified(new, range(TEST_SCENES))
    others = bench.scenes(art, False, TEST_SEED)
    without = others.verified({}, range(TEST_SCENES))
    with_fruits = others.verified(known, range(TEST_SCENES))
    asked = scores_of(words_of(bench.detector, fruits), None)
    rates = rates_at(with_fruits, with_fruits, asked, len(known))
    print(
        f"{art} style, boxes of a fruit on 100 scenes without it, at recalls {RECALLS}: {_said(rates)}",
        flush=True,
    )
    pool, empty = bench.scenes(art, True, VERIFIED_SEED), bench.scenes(art, False, VERIFIED_SEED)
    for count, empties in counts:
        every, aps = [], []
        for number in range(min(bench.draws, len(pool.features) // count)):
            images = pool.verified(new, range(number * 100, number * 100 + count))
            first = np.arange(number * 100, number * 100 + empties)
            images += empty.verified(new, (first % len(empty.features)).tolist())
            lesson, _ = bench.lesson(label_set, images)
            score = scores_of(words, lesson)
            every.append(rates_at(test, without, score, len(new)))
            aps.append(precision_and_f1(test, score, words.thresholds))
        ap, f1 = np.mean(aps, axis=0)
        print(
            f"{art} style, a taught name, {count} images and {empties} without such things: "
            f"{_said(np.mean(every, axis=0).tolist())}; mAP50 {ap:.3f}, F1 {f1:.3f}",
            flush=True,
        )


def _said(rates: list[float]) -> str:
    return " / ".join(f"{rate:.2f}" for rate in rates)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--icons", type=Path, default=Path(".boxdrop/demo-training"))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    bench = Bench(options.icons, options.draws, options.cache)
    for art in ("unseen", "known"):
        shares = precision_of_searches(bench, art)
        print(
            f"{art} style: {FIRST * shares.mean():.1f} of the first {FIRST} are right (median "
            f"{FIRST * np.median(shares):.0f}) in {len(shares)} searches of {TEST_SCENES} scenes",
            flush=True,
        )
        false_boxes(bench, art, COUNTS)


if __name__ == "__main__":
    main()
