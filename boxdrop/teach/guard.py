"""The guard: a lesson is used only where verified work says that it is better than the words.

Cross-fitting gives each verified image scores from a fit that did not see it. On those scores the guard
decides two questions, each by a paired bootstrap over images, and each for a group of labels at once, since
a label alone seldom has enough boxes to prove anything:

- labels that the words do not find (*new* ones): are fitted weights alone better than the words?
- labels that the words find (*known* ones): are the words' logits better when fitted ones are mixed in?
  The measure is average precision plus half of F1: two views of the same boxes, so less depends on luck.

A known label that is clearly worse off than with its words keeps them, whatever its group says.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from boxdrop.assessment.calibration import best_probability, calibrate, logit, sigmoid
from boxdrop.teach.fit import NEW_PATCH_WEIGHT, PATCH_WEIGHT, Heads, fit_several, prototypes
from boxdrop.teach.patches import Patches, VerifiedImage, stack_views
from boxdrop.teach.trial import Trial, compare_patches, try_out, weighted_ap

Choice = Literal["words", "mixed", "lesson"]

SHARES: Final = (1 / 3, 1 / 2, 2 / 3)
"""Of the fitted logits, in what may replace the words' of known labels. The words keep a third at least."""

CAUTION: Final = 0.75
"""What a mixture lowers the logits of known labels by, times its share. Fitted queries score hardly an object
lower than the words do, and some of what resembles one higher: without it, F1 falls at the same threshold."""

NEW_CAUTION: Final = 0.25
"""What the logits of new labels are lowered by. People verify images that show the things more often than
other images do, so cross-validation sees too few of the false boxes."""

F1_COUNTS: Final = 0.5
"""A mixture's worth is its average precision plus so much of its F1 at the thresholds in force."""

_EXPECTED: Final = 0.1
"""What a mixture is expected to gain, and how far off that may be (one standard deviation), as parts of what
the words' average precision lacks: who errs has something to learn."""

_NO_BETTER: Final = 0.75
"""A mixture nearer to the words is used if the best one is better in no more than this share of samples."""

PROOF: Final = 0.9
"""How likely a lesson must be better."""

_PROOF_DEVIATIONS: Final = round(NormalDist().inv_cdf(PROOF), 4)
"""So many standard deviations above 0, a normal distribution's mean is above 0 with a chance of `PROOF`."""

FEWEST_KNOWN_BOXES: Final = 20
"""Verified boxes that all known labels together need: a bootstrap of fewer is surer than it should be."""

_FOLDS: Final = 5
_FOLDS_OF_FEW: Final = 10
_FEW: Final = 50
"""Up to so many images, ten folds: with five, each fit lacks a fifth of what is little already."""

_WORDS_COUNT: Final = 6.0
"""A known label starts between its words and its boxes: the words count as much as so many boxes."""

_SAMPLES: Final = 500
_NEW_RECALL: Final = 0.25
_PRIOR_BOXES: Final = 2.0
_SEED: Final = 20251128
UNASKED: Final = -30.0
"""Logit of a label without words."""


@dataclass(frozen=True, eq=False, slots=True)
class Words:
    """What the detector knows without a lesson.

    Attributes:
        queries: float32 [P, D], of unit length, of all prompts that are asked.
        owners: int64 [P], the label of each.
        thresholds: float32 [L], in force.
        floor: lowest score that the detector keeps.
    """

    queries: NDArray[np.float32]
    owners: NDArray[np.int64]
    thresholds: NDArray[np.float32]
    floor: float

    @property
    def labels(self) -> int:
        """How many labels there are."""
        return len(self.thresholds)

    def logits(self, patches: Patches) -> NDArray[np.float32]:
        """Of each label, that of its best prompt: float32 [N, L]."""
        found = np.full((len(patches), self.labels), UNASKED, np.float32)
        if len(self.queries):
            every = patches.logits(self.queries)
            for label in np.unique(self.owners):
                found[:, label] = every[:, self.owners == label].max(axis=1)
        return found

    def starts(self, patches: Patches) -> NDArray[np.float32]:
        """Of each label, the prompt that scores best on the patches of its boxes; zeros without words."""
        starts = np.zeros((self.labels, patches.embeddings.shape[1]), np.float32)
        for label in np.unique(self.owners):
            prompts = self.queries[self.owners == label]
            mine = patches.best[patches.best[:, 1] == label, 0]
            scores = (patches.embeddings[mine] @ prompts.T).sum(axis=0)
            starts[label] = prompts[int(scores.argmax())] if len(prompts) > 1 else prompts[0]
        return starts


@dataclass(frozen=True, eq=False, slots=True)
class Learner:
    """Fits heads to some of the verified images.

    Attributes:
        patches: of all images.
        words: what the detector knows without a lesson.
        new: bool [L], labels that the words do not find: their heads start at their boxes alone.
        able: bool [L], labels with a verified box; the others get no head of use.
    """

    patches: Patches
    words: Words
    new: NDArray[np.bool_]
    able: NDArray[np.bool_]

    def fit(self, images: NDArray[np.bool_]) -> Heads:
        """Fit to the images, bool [images], that are to be learned from."""
        return self.fit_several([images])[0]

    def fit_several(self, selections: Sequence[NDArray[np.bool_]]) -> list[Heads]:
        """Fit to several selections of images, bool [images] each; the first holds the images of all."""
        columns, labels = np.flatnonzero(self.able), self.words.labels
        rows = [images[self.patches.images] for images in selections]
        asked = self.words.starts(self.patches)
        starts = [self._start(asked, each)[columns] for each in rows]
        counts = np.where(self.new, NEW_PATCH_WEIGHT, PATCH_WEIGHT).astype(np.float32)
        fitted = fit_several(self.patches.of_labels(columns), rows, starts, counts[columns])
        return [_spread(heads, columns, labels) for heads in fitted]

    def _start(self, asked: NDArray[np.float32], rows: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Of each label, where its fit begins, given the starts of its words: float32 [L, D]."""
        centres, examples = prototypes(self.patches, rows, self.words.labels)
        wordy = np.where(self.new & (examples > 0), 0, _WORDS_COUNT)
        begin = wordy[:, None] * asked + examples[:, None] * centres
        begin /= np.maximum(np.linalg.norm(begin, axis=1, keepdims=True), 1e-6)
        return np.asarray(begin, np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class Verdict:
    """What the guard decided.

    Attributes:
        shares: float32 [L], how much of each label's logits is fitted: 0 for the words, 1 for the lesson.
        heads: fitted to all images; rows of labels that keep their words are of no use.
        biases: float32 [L], what to add to a label's logits: what makes its threshold in force the best
            cut of a new label, and caution.
        before, after: cross-fitted trials, with the words and with the choices.
        learner: what fitted the heads.
    """

    shares: NDArray[np.float32]
    heads: Heads
    biases: NDArray[np.float32]
    before: Trial
    after: Trial
    learner: Learner

    @property
    def new(self) -> NDArray[np.bool_]:
        """Labels that the words do not find, bool [L]."""
        return self.learner.new

    @property
    def choices(self) -> tuple[Choice, ...]:
        """For each label, what to use."""
        return tuple("words" if share == 0 else "lesson" if share == 1 else "mixed" for share in self.shares)


def judge(verified: Sequence[VerifiedImage], patches: Patches, words: Words) -> Verdict:
    """Fit, cross-fit, and decide for each label what to use.

    Args:
        verified: the images, at least one.
        patches: of these images.
        words: what the detector knows without a lesson.
    """
    labels, images = words.labels, len(verified)
    asked = words.logits(patches)
    covered_by = compare_patches(verified)
    ends = np.flatnonzero(np.diff(patches.images)) + 1

    def tried_with(logits: NDArray[np.float32]) -> Trial:
        return try_out(verified, np.split(logits, ends), labels, words.floor, covered_by)

    before = tried_with(asked)
    boxes = before.objects.sum(axis=0)
    new = _is_new(before, words)
    able = boxes >= 1
    learner = Learner(stack_views(verified, patches, labels), words, new, able)
    fold_of = _folds(images)
    kept = [fold_of != fold for fold in range(int(fold_of.max()) + 1 if images > 1 else 0)]
    heads, *partial = learner.fit_several([np.ones(images, bool), *kept])
    learned = np.full_like(asked, UNASKED)
    for known, without in zip(kept, partial, strict=True):
        held = ~known[patches.images]
        learned[held] = without.logits(patches, held)
        # Like the lesson itself, a fit leaves a known label without a box to its words.
        unseen = ~new & (before.objects[known].sum(axis=0) == 0)
        learned[np.ix_(held, unseen)] = asked[np.ix_(held, unseen)]
    learned[:, ~able] = asked[:, ~able]
    rng = np.random.default_rng(_SEED)
    weights = rng.multinomial(images, np.full(images, 1 / images), size=_SAMPLES).astype(np.float64)
    shares, biases = np.zeros(labels, np.float32), np.zeros(labels, np.float32)
    if (group := able & new).any():
        alone = _candidate(1.0, asked, learned, before, tried_with, words, weights, group)
        if _share(alone.f1_gain) > PROOF:
            shares[group], biases[group] = 1, alone.biases[group]
    if boxes[group := able & ~new].sum() >= FEWEST_KNOWN_BOXES:
        tried = [
            _candidate(share, asked, learned, before, tried_with, words, weights, group) for share in SHARES
        ]
        former = _ap(before, weights, group)
        proven = [each for each in tried if _is_proven(each, former)]
        if proven:
            highest = max(proven, key=lambda each: float(each.ap.mean()))
            best = next(each for each in proven if _share(highest.ap - each.ap) <= _NO_BETTER)
            for label in np.flatnonzero(group).tolist():
                only = np.arange(labels) == label
                if _share(_ap(best.trial, weights, only) - _ap(before, weights, only)) >= 1 - PROOF:
                    shares[label], biases[label] = best.share, best.biases[label]
    used = asked + shares * (learned - asked) + biases
    after = tried_with(used.astype(np.float32))
    return Verdict(shares, heads, biases, before, after, learner)


@dataclass(frozen=True, eq=False, slots=True)
class _Candidate:
    """The words' logits and the fitted ones, mixed.

    Attributes:
        share: of the fitted ones.
        biases: float32 [L], what to add to each label's logits.
        trial: cross-fitted.
        ap: of each bootstrap sample, float64.
        f1_gain: over the words' F1, of each bootstrap sample, float64.
    """

    share: float
    biases: NDArray[np.float32]
    trial: Trial
    ap: NDArray[np.float64]
    f1_gain: NDArray[np.float64]


def _is_proven(mixture: _Candidate, former: NDArray[np.float64]) -> bool:
    """Whether a mixture is better than the words, whose average precision in each sample is `former`.

    What the samples say is weighed against what mixtures usually gain, as two normal distributions are.
    """
    gain = mixture.ap - former + F1_COUNTS * mixture.f1_gain
    expected = _EXPECTED * max(1e-3, 1 - float(former.mean()))
    trust, doubt = 1 / max(1e-6, float(gain.var())), 1 / expected**2
    mean = (float(gain.mean()) * trust + expected * doubt) / (trust + doubt)
    return mean * math.sqrt(trust + doubt) > _PROOF_DEVIATIONS


def _candidate(
    share: float,
    asked: NDArray[np.float32],
    learned: NDArray[np.float32],
    before: Trial,
    tried_with: Callable[[NDArray[np.float32]], Trial],
    words: Words,
    weights: NDArray[np.float64],
    group: NDArray[np.bool_],
) -> _Candidate:
    trial = tried_with((asked + share * (learned - asked)).astype(np.float32))
    none = np.zeros(words.labels)
    if share < 1:  # the words' cut is good, and few boxes say little about a better one
        shifts = [none - CAUTION * share]
    else:
        shifts = [each - NEW_CAUTION for each in (none, _shifts(trial, words.thresholds))]
    f1 = _f1(before, none, words, weights, group)
    gains = [(_f1(trial, shift, words, weights, group) - f1, shift) for shift in shifts]
    gain, shift = max(gains, key=lambda each: float(each[0].mean()))
    return _Candidate(share, shift.astype(np.float32), trial, _ap(trial, weights, group), gain)


def _folds(images: int) -> NDArray[np.int64]:
    """The fold of each image, by chance that is the same every time."""
    count = min(images, _FOLDS_OF_FEW if images <= _FEW else _FOLDS)
    return np.random.default_rng(_SEED).permutation(np.arange(images) % count)


def _spread(heads: Heads, columns: NDArray[np.int64], labels: int) -> Heads:
    """Heads of some labels, as rows of all of them."""
    queries = np.zeros((labels, heads.queries.shape[1]), np.float32)
    shifts, biases = np.ones(labels, np.float32), np.zeros(labels, np.float32)
    queries[columns], shifts[columns], biases[columns] = heads.queries, heads.shifts, heads.biases
    return Heads(queries, shifts, biases)


def _is_new(before: Trial, words: Words) -> NDArray[np.bool_]:
    """Labels whose boxes the words do not find, bool [L].

    A label with a single box that was missed is new only if the words miss most boxes of all labels: each
    label's recall is shrunk towards that of all.
    """
    right, _ = before.counts(words.thresholds)
    found, boxes = right.sum(axis=0), before.objects.sum(axis=0)
    whole = found.sum() / max(1, boxes.sum())
    recall = (_PRIOR_BOXES * whole + found) / (_PRIOR_BOXES + boxes)
    without_words = ~np.isin(np.arange(words.labels), words.owners)
    new: NDArray[np.bool_] = without_words | ((boxes > 0) & (recall < _NEW_RECALL))
    return new


def _shifts(trial: Trial, thresholds: NDArray[np.float32]) -> NDArray[np.float64]:
    """What to add to each label's logits so that its best cut becomes its threshold in force."""
    objects = int(trial.objects.sum())
    if not len(trial.scores) or not objects:
        return np.zeros(len(thresholds))
    model = calibrate(trial.scores, trial.labels, trial.right, len(thresholds))
    cut = best_probability(model.probabilities(trial.scores, trial.labels), trial.right, objects)
    shift: NDArray[np.float64] = logit(thresholds) - model.cuts(cut)
    return shift


def _f1(
    trial: Trial,
    shifts: NDArray[np.float64],
    words: Words,
    weights: NDArray[np.float64],
    group: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """F1 over a group of labels in each bootstrap sample, with logits moved by `shifts`."""
    moved = sigmoid(logit(words.thresholds) - shifts)
    right, boxes = (weights @ count[:, group].sum(axis=1) for count in trial.counts(moved.astype(np.float32)))
    objects = weights @ trial.objects[:, group].sum(axis=1)
    f1: NDArray[np.float64] = 2 * right / np.maximum(boxes + objects, 1)
    return f1


def _ap(trial: Trial, weights: NDArray[np.float64], group: NDArray[np.bool_]) -> NDArray[np.float64]:
    """AP over a group of labels in each bootstrap sample.

    The boxes of all labels are ranked together, by how likely each is right given its score and label.
    """
    mine = group[trial.labels]
    if not mine.any():
        return np.zeros(len(weights))
    scores, labels, right = trial.scores[mine], trial.labels[mine], trial.right[mine]
    chance = calibrate(scores, labels, right, len(group)).probabilities(scores, labels)
    objects = weights @ trial.objects[:, group].sum(axis=1)
    return weighted_ap(chance, right, trial.images[mine], weights, objects)


def _share(gains: NDArray[np.float64]) -> float:
    return float((gains > 1e-9).mean() + 0.5 * (np.abs(gains) <= 1e-9).mean())
