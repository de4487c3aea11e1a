"""What teaching brings: the tables of docs/teaching.md.

    python -m benchmarks.teaching --icons .boxdrop/demo-training [--draws 5] [--cache DIR]

The demo detector stays as it is. Scenes are drawn from seeds, icons and backgrounds that its training never
saw. Nothing was ever chosen by these seeds: the recipe was tuned on verified images of 7.2, 9.2, 9.5 and 9.6
million. Drawing takes a quarter of an hour; `--cache` keeps the features.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import best_probability, calibrate
from boxdrop.demo import BUNDLE, SCENES
from boxdrop.detect import Detector, postprocess
from boxdrop.detect.families.arrays import sigmoid
from boxdrop.detect.features import Features
from boxdrop.detect.lessons import decode_heads
from boxdrop.domain.detections import RIVAL_IOU, select, suppress
from boxdrop.domain.images import decode
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson, TaughtImage
from boxdrop.teach.curve import draw_curve
from boxdrop.teach.guard import Words, judge
from boxdrop.teach.patches import PATCHES_OF_A_VIEW, VerifiedImage, stack
from boxdrop.teach.teaching import Examined, look_smaller, teach, words_of
from boxdrop.teach.trial import try_out
from model_export.demo.art import TRAINED_STYLES, UNSEEN_STYLES
from model_export.demo.evaluate import draw_set
from model_export.demo.names import HELD_OUT, names
from model_export.demo.scenes import EVALUATION, EVALUATION_PHOTOS, FRUITS, HELD_OUT_ONLY, Scene, load_art
from model_export.demo.scoring import Found, average_precision, count_right

TEST_SEED, VERIFIED_SEED = 8_800_000, 9_800_000
TEST_SCENES: Final = 300
VERIFIED: Final = (10, 50, 100)
_ART: Final = {"known": TRAINED_STYLES, "unseen": UNSEEN_STYLES}
_KNOWN: Final = len(names())
_FLOOR: Final = 0.02

NUMBERS: Final = {
    "held-out names": {_KNOWN + place: place for place in range(len(HELD_OUT))},
    "fruits": {number: place for place, number in enumerate(FRUITS)},
    "all names": {number: number for number in range(_KNOWN)},
}
"""By set, the place of each class id in its label set."""

ROWS: Final = (
    ("held-out names", "unseen"),
    ("held-out names", "known"),
    ("fruits", "unseen"),
    ("fruits", "known"),
    ("all names", "unseen"),
)
Logits = Callable[[Features], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Features of a set of scenes, with the truth under class ids."""

    features: list[Features]
    boxes: list[NDArray[np.float32]]
    classes: list[NDArray[np.int64]]
    sizes: list[tuple[int, int]]
    views: list[tuple[Features, ...]]

    def verified(self, names_of: dict[int, int], which: Sequence[int]) -> list[VerifiedImage]:
        """Some scenes, with the boxes of a label set."""
        found = []
        for number in which:
            kept = np.isin(self.classes[number], list(names_of))
            labels = np.array([names_of[int(each)] for each in self.classes[number][kept]], np.int64)
            found.append(
                VerifiedImage(
                    self.features[number],
                    self.boxes[number][kept],
                    labels,
                    self.sizes[number],
                    self.views[number],
                )
            )
        return found


def draw(
    detector: Detector,
    icons: Path,
    art: str,
    held_out: bool,
    seed: int,
    count: int,
    cache: Path | None,
    *,
    smaller: bool,
) -> Drawn:
    """Draw scenes and keep what the detector makes of them, or read what was kept.

    Args:
        smaller: also keep the second view that teaching takes.
    """
    name = f"{art}-{'held' if held_out else 'all'}-{seed + (not held_out)}.npz"
    if cache is not None and (cache / name).exists():
        return _kept(cache / name, count)
    recipe = HELD_OUT_ONLY if held_out else EVALUATION
    loaded = load_art(icons, _ART[art], EVALUATION_PHOTOS, 256)
    every: dict[str, list[NDArray[Any]]] = {
        key: [] for key in ("E", "S", "K", "B", "E2", "S2", "K2", "B2", "G")
    }
    sizes, counts = [], []
    for scene in draw_set(loaded, recipe, seed + (not held_out), count):
        height, width = scene.image.shape[:2]
        [features] = detector.features([detector.preprocess(scene.image)], [(width, height)])
        seen = [("", features)]
        if smaller:
            seen.append(("2", look_smaller(detector, scene.image)))
        for view, part in seen:
            every[f"E{view}"].append(part.embeddings)
            every[f"S{view}"].append(part.shifts)
            every[f"K{view}"].append(part.scales)
            every[f"B{view}"].append(part.boxes)
        every["G"].append(np.column_stack([scene.boxes, scene.labels]).astype(np.float32).reshape(-1, 5))
        sizes.append((width, height))
        counts.append(len(scene.labels))
    stacked = {key: np.stack(each) for key, each in every.items() if each and key != "G"}
    path = (cache or Path(".")) / name
    if cache is not None:
        np.savez(path, **stacked, G=np.concatenate(every["G"]), SZ=np.array(sizes), n=np.array(counts))  # type: ignore[arg-type]
        return _kept(path, count)
    truth = every["G"]
    return Drawn(
        [_features(stacked, number) for number in range(count)],
        [each[:, :4].astype(np.float32) for each in truth],
        [each[:, 4].astype(np.int64) for each in truth],
        sizes,
        [_views(stacked, number) for number in range(count)],
    )


def _views(arrays: dict[str, NDArray[Any]], number: int) -> tuple[Features, ...]:
    return (_features(arrays, number, "2"),) if "E2" in arrays else ()


def _features(arrays: dict[str, NDArray[Any]], number: int, view: str = "") -> Features:
    boxes = arrays[f"B{view}"][number].astype(np.float32)
    return Features(
        arrays[f"E{view}"][number].astype(np.float16),
        arrays[f"S{view}"][number].astype(np.float32),
        arrays[f"K{view}"][number].astype(np.float32),
        boxes,
        np.ones(len(boxes), np.float32),
    )


def _kept(path: Path, count: int) -> Drawn:
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    ends = np.cumsum(arrays["n"])
    truth = np.split(arrays["G"], ends[:-1])[:count]
    return Drawn(
        [_features(arrays, number) for number in range(len(truth))],
        [each[:, :4].astype(np.float32) for each in truth],
        [each[:, 4].astype(np.int64) for each in truth],
        [(int(width), int(height)) for width, height in arrays["SZ"]][:count],
        [_views(arrays, number) for number in range(len(truth))],
    )


def scores_of(words: Words, lesson: Lesson | None) -> Logits:
    """What detection computes, from features."""
    heads = {} if lesson is None else {each.name: decode_heads(each, lesson.width) for each in lesson.labels}
    order = [] if lesson is None else [each.name for each in lesson.figures]
    asked = np.ones((len(words.queries), 1), np.float32)
    rows = np.hstack([words.queries, asked, 0 * asked])
    every, owners = [], []
    for label in range(words.labels):
        mine = heads.get(order[label], rows[words.owners == label]) if order else rows[words.owners == label]
        every.append(mine)
        owners += [label] * len(mine)
    weights, places = np.concatenate(every), np.array(owners)

    def score(features: Features) -> NDArray[np.float32]:
        raw = features.embeddings.astype(np.float32) @ weights[:, :-2].T + np.outer(
            features.shifts, weights[:, -2]
        )
        each = features.scales[:, None] * raw + weights[:, -1]
        if len(places) == words.labels:
            return np.asarray(each, np.float32)
        return np.stack([each[:, places == label].max(axis=1) for label in range(words.labels)], axis=1)

    return score


def find(images: Sequence[VerifiedImage], score: Logits, labels: int, floor: float) -> list[Found]:
    """Boxes as people see them, down to a low score."""
    found = []
    for image in images:
        scored = sigmoid(score(image.features))
        merged = postprocess.candidates_of(scored, image.features.boxes, np.arange(labels), floor, image.size)
        kept = select(suppress(merged), np.full(labels, floor, np.float32), RIVAL_IOU)
        found.append(Found(kept.boxes, kept.scores, kept.labels))
    return found


def precision_and_f1(
    images: Sequence[VerifiedImage], score: Logits, thresholds: NDArray[np.float32]
) -> tuple[float, float]:
    """mAP50 (pycocotools) and F1 at the thresholds."""
    labels = len(thresholds)
    scenes = [Scene(np.zeros((1, 1, 3), np.uint8), each.boxes, each.labels) for each in images]
    found = find(images, score, labels, _FLOOR)
    ap = float(np.nanmean(average_precision(scenes, found, labels)))
    shown = []
    for each in found:
        kept = each.scores >= thresholds[each.labels]
        shown.append(Found(each.boxes[kept], each.scores[kept], each.labels[kept]))
    tally = count_right(scenes, shown, 0.0, range(labels))
    return ap, 2 * tally.right / max(1, tally.boxes + tally.objects)


def tuned(images: Sequence[VerifiedImage], words: Words) -> NDArray[np.float32]:
    """Thresholds of the words alone, tuned on verified images."""
    patches = stack(images, words.labels)
    ends = np.flatnonzero(np.diff(patches.images)) + 1
    trial = try_out(images, np.split(words.logits(patches), ends), words.labels, words.floor)
    if not len(trial.scores) or not trial.objects.sum():
        return words.thresholds
    model = calibrate(trial.scores, trial.labels, trial.right, words.labels)
    objects = int(trial.objects.sum())
    cut = best_probability(model.probabilities(trial.scores, trial.labels), trial.right, objects)
    return np.asarray(np.clip(sigmoid(model.cuts(cut).astype(np.float32)), _FLOOR, 1), np.float32)


def spoil(images: Sequence[VerifiedImage], labels: int, share: float, seed: int) -> list[VerifiedImage]:
    """Give a share of the boxes a wrong label, and drop as many."""
    rng = np.random.default_rng(seed)
    spoilt = []
    for image in images:
        wrong = np.where(
            rng.random(len(image.labels)) < share, rng.integers(0, labels, len(image.labels)), image.labels
        )
        kept = rng.random(len(image.labels)) >= share
        spoilt.append(replace(image, boxes=image.boxes[kept], labels=wrong[kept]))
    return spoilt


class Bench:
    """The detector and its scenes."""

    def __init__(self, icons: Path, draws: int, cache: Path | None) -> None:
        self.detector = Detector.load(BUNDLE, threads=1)
        self.draws = draws
        self._icons, self._cache = icons, cache
        self._drawn: dict[tuple[str, bool, int], Drawn] = {}

    def scenes(self, art: str, held_out: bool, seed: int) -> Drawn:
        key = (art, held_out, seed)
        if key not in self._drawn:
            count = TEST_SCENES if seed == TEST_SEED else self.draws * max(VERIFIED)
            self._drawn[key] = draw(
                self.detector,
                self._icons,
                art,
                held_out,
                seed,
                count,
                self._cache,
                smaller=seed != TEST_SEED,
            )
        return self._drawn[key]

    def label_set(self, kind: str) -> LabelSet:
        every = [*names(), *HELD_OUT]
        return LabelSet.from_short_form(", ".join(every[number].text for number in NUMBERS[kind]))

    def lesson(self, label_set: LabelSet, images: Sequence[VerifiedImage]) -> tuple[Lesson, float]:
        """Teach; returns the processor seconds that it took, too."""
        seen = [Examined(TaughtImage(f"{number:032x}", "v"), image) for number, image in enumerate(images)]
        started = time.process_time()
        lesson = teach(self.detector, label_set, seen, project="bench", made_at=datetime.now(UTC))
        return lesson, time.process_time() - started

    def row(self, kind: str, art: str, noise: float = 0.0) -> None:
        held_out = kind == "held-out names"
        label_set, numbers = self.label_set(kind), NUMBERS[kind]
        words = words_of(self.detector, label_set)
        test = self.scenes(art, held_out, TEST_SEED).verified(numbers, range(TEST_SCENES))
        pool = self.scenes(art, held_out, VERIFIED_SEED)
        ap, f1 = precision_and_f1(test, scores_of(words, None), words.thresholds)
        print(
            f"| {kind}, {art}{' (noise)' if noise else ''} | words | {ap:.3f} | {f1:.3f} | | | | |",
            flush=True,
        )
        elsewhere = self.scenes(art, False, TEST_SEED).verified({}, range(TEST_SCENES))
        worst = 0.0
        for count in VERIFIED:
            aps, f1s, best, seconds, fired, used = [], [], [], [], [], []
            for number in range(self.draws):
                images = pool.verified(numbers, range(number * 100, number * 100 + count))
                own = precision_and_f1(test, scores_of(words, None), tuned(images, words))[1]
                best.append(max(own, f1))
                if noise:
                    images = spoil(images, words.labels, noise, number)
                lesson, took = self.lesson(label_set, images)
                after = precision_and_f1(test, scores_of(words, lesson), words.thresholds)
                aps.append(after[0])
                f1s.append(after[1])
                seconds.append(took)
                used.append(len(lesson.labels))
                if held_out:
                    boxes = find(elsewhere, scores_of(words, lesson), words.labels, 0.5)
                    fired.append(sum(len(each.scores) for each in boxes))
            gains = [mine - f1 for mine in f1s]
            worst = min(worst, *gains)
            print(
                f"| | {count} | {np.mean(aps):.3f} ({min(aps):.3f}) | {np.mean(f1s):.3f} | "
                f"{np.mean(best):.3f} | {min(gains):+.3f} | {np.mean(used):.1f} | {np.mean(seconds):.2f} s"
                + (f" | fires {np.mean(fired):.0f}" if fired else "")
                + " |",
                flush=True,
            )
        print(
            f"| | | at most {abs(worst):.4f} of F1 lost in any of {len(VERIFIED) * self.draws} draws |",
            flush=True,
        )


def time_fits() -> None:
    """Processor time and memory to teach 20 labels from 100 images, at the sizes of three detectors.

    The features are random; set OPENBLAS_NUM_THREADS=1, then it is the wall's time on an idle core.
    """
    rng = np.random.default_rng(1)
    for name, width, patches in (("demo", 128, 196), ("OWL-ViT B/32", 512, 320), ("OWLv2 B/16", 512, 320)):
        queries = rng.normal(size=(20, width)).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        images = []
        for _ in range(100):
            labels = rng.integers(0, 20, 3)
            looks = 12 * queries[labels]
            features = _random_features(rng, looks, width, patches)
            view = _random_features(rng, looks, width, min(patches, PATCHES_OF_A_VIEW))
            images.append(VerifiedImage(features, features.boxes[:3], labels, (patches * 10, 10), (view,)))
        words = Words(queries, np.arange(20), np.full(20, 0.5, np.float32), _FLOOR)
        patches_of_all = stack(images, 20)
        started = time.process_time()
        verdict = judge(images, patches_of_all, words)
        whole = time.process_time() - started
        started = time.process_time()
        verdict.learner.fit(np.ones(len(images), bool))
        fit = time.process_time() - started
        started = time.process_time()
        draw_curve(images, patches_of_all, words, verdict)
        curve = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"| {name} ({patches} patches kept, {width} numbers) | fit {fit:.2f} s | with cross-validation "
            f"{whole:.2f} s | curve {curve:.2f} s | {peak:.0f} MB |",
            flush=True,
        )


def _random_features(
    rng: np.random.Generator, looks: NDArray[np.float32], width: int, patches: int
) -> Features:
    embeddings = rng.normal(size=(patches, width)).astype(np.float32)
    embeddings[: len(looks)] = embeddings[: len(looks)] * 0.5 + looks
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    left = np.arange(patches, dtype=np.float32) * 10
    return Features(
        embeddings.astype(np.float16),
        np.full(patches, -0.4, np.float32),
        np.full(patches, 15, np.float32),
        np.stack([left, 0 * left, left + 9, 0 * left + 9], axis=1),
        np.ones(patches, np.float32),
    )


def time_detection(bench: Bench) -> None:
    """Detection with a lesson against detection with words: the fastest of many runs, least disturbed."""
    label_set = bench.label_set("fruits")
    pool = bench.scenes("unseen", False, VERIFIED_SEED)
    lesson, _ = bench.lesson(label_set, pool.verified(NUMBERS["fruits"], range(100)))
    detector = bench.detector
    detector.learn("0" * 16, lesson)
    taught = replace(label_set, lesson="0" * 16)
    images = [decode(path.read_bytes()) for path in sorted(SCENES.glob("*.jpg"))[:8]]
    pixels = [detector.preprocess(image.pixels) for image in images]
    sizes = [(image.width, image.height) for image in images]
    asked = [("words", label_set), ("lesson", taught)]
    times: dict[str, list[tuple[float, float]]] = {"words": [], "lesson": []}
    for number in range(100):
        for name, labels in asked if number % 2 else reversed(asked):
            started = time.process_time()
            answer = detector.infer(pixels, labels)
            inferred = time.process_time()
            detector.read(answer, sizes, labels)
            times[name].append((inferred - started, time.process_time() - inferred))
    every = {name: 1000 * np.array(each) for name, each in times.items()}
    boxes = [sum(len(each.scores) for each in detector.candidates(pixels, sizes, each)) for _, each in asked]
    before, after = (float(every[name].sum(axis=1).min()) for name, _ in asked)
    paired = float(np.median(every["lesson"].sum(axis=1) / every["words"].sum(axis=1)))
    print(
        f"detection of {len(images)} images, {len(lesson.labels)} of {len(label_set)} labels taught: "
        f"{before:.1f} ms with words, {after:.1f} ms with the lesson: {after / before:.3f} × "
        f"(median of pairs {paired:.3f} ×)"
    )
    for (name, _), count in zip(asked, boxes, strict=True):
        model, reading = every[name].min(axis=0)
        print(f"  {name}: model {model:.2f} ms, reading its answer {reading:.2f} ms, {count} candidates")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--icons", type=Path, default=Path(".boxdrop/demo-training"))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--only", choices=["rows", "noise", "time"])
    parser.add_argument("--set", choices=list(NUMBERS), help="Rows of this set of names only.")
    options = parser.parse_args()
    bench = Bench(options.icons, options.draws, options.cache)
    if options.only in (None, "time"):
        time_fits()
        time_detection(bench)
    if options.only in (None, "rows"):
        print("| set | images | mAP50 (worst) | F1 | words' best F1 | worst F1 gain | taught | seconds |")
        for kind, art in ROWS:
            if options.set in (None, kind):
                bench.row(kind, art)
    if options.only in (None, "noise"):
        for kind, art in (ROWS[0], ROWS[2]):
            if options.set in (None, kind):
                bench.row(kind, art, noise=0.05)


if __name__ == "__main__":
    main()
