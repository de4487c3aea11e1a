"""Parity: does a bundle give the same results as the transformers model?

Images of several shapes and label sets of several sizes go through transformers' own processor, model and
post-processing, and through `boxdrop.detect` in batches of 1 and of all images. Every detection must have a
counterpart: the same box of the model, under the same label, within `TOLERANCE`.

- transformers' post-processing takes for each box the maximum over the prompts, and does not suppress: so
  suppression is off here (``nms_iou=1, rival_iou=None``).
- It does not clip. Its boxes are clipped here, as the detector clips; one with no area left is not expected.
- Scores are compared from a floor on, chosen for each picture so that its best 500 boxes (or all that there
  are) lie above it. A score within the tolerance of the floor may fall on either side of it.
- Where two labels score within the tolerance of each other, either may be the better one.
- Some families choose their boxes: the best so many of thousands of places go on, in order, and a box
  depends on its rank. The places' scores are compared before the choice. Where two of them are as good as
  equal, rounding may
  put either first: a swap of ranks, which also happens in PyTorch with other rounding. Swapped boxes are
  counted, a few are allowed, and they are not compared.
- A label set that takes several passes of the model is compared pass by pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.bundle import Text
from boxdrop.detect.detector import Detector
from boxdrop.detectors.coco import COCO_NAMES
from boxdrop.domain.detections import Detections, select
from boxdrop.domain.labels import Label, LabelSet
from model_export.pictures import SHAPES, draw
from model_export.reference import Reference

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model_export.families import LoadedModel
    from model_export.families.fixed import FixedModel


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest allowed differences.

    Attributes:
        score: of a detection.
        box: of a corner's coordinate, in pixels of the image.
        level: of the model's input, in levels of 255.
        place: of a position's score before the selection, as a logit.
        swapped: share of the selected boxes that may have another rank.
    """

    score: float
    box: float
    level: float
    place: float
    swapped: float


TOLERANCE: Final = Tolerance(score=1e-4, box=0.1, level=1.0, place=1e-3, swapped=0.02)

_COMPARED = 500  # boxes of a picture


@dataclass(frozen=True, slots=True)
class Row:
    """The comparison for one label set, one batch size and one picture.

    Attributes:
        labels, prompts, batch: sizes of the label set and of the batch.
        picture: name; width, height: its size in pixels.
        floor: lowest score compared.
        detections: how many transformers found.
        unmatched: detections of either side without a counterpart.
        score: largest difference of scores.
        box: largest difference of a corner's coordinate in pixels.
        chosen: boxes that the model selected among positions; 0 for families that select none.
        swapped: how many of them have another rank.
        place: largest difference of a position's score before the selection, as a logit.
    """

    labels: int
    prompts: int
    batch: int
    picture: str
    width: int
    height: int
    floor: float
    detections: int
    unmatched: int
    score: float
    box: float
    chosen: int = 0
    swapped: int = 0
    place: float = 0.0

    def passes(self, tolerance: Tolerance) -> bool:
        """Whether all is within the tolerance; False if nothing was compared."""
        return (
            self.detections > 0
            and self.unmatched == 0
            and self.score <= tolerance.score
            and self.box <= tolerance.box
            and self.place <= tolerance.place
            and self.swapped <= tolerance.swapped * self.chosen
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All rows, and the largest difference of the model's inputs in levels of 255."""

    rows: tuple[Row, ...]
    level: float
    tolerance: Tolerance = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the bundle may replace the model."""
        within = [row.passes(self.tolerance) for row in self.rows]
        return self.level <= self.tolerance.level and bool(within) and all(within)

    def to_json(self) -> dict[str, Any]:
        """For ``bundle.json``."""
        return {
            "passed": self.passed,
            "tolerance": asdict(self.tolerance),
            "detections": sum(row.detections for row in self.rows),
            "unmatched": sum(row.unmatched for row in self.rows),
            "largest": {
                "score": _rounded(max(row.score for row in self.rows)),
                "box": _rounded(max(row.box for row in self.rows)),
                "level": _rounded(self.level),
                "place": _rounded(max(row.place for row in self.rows)),
                "swapped": max(row.swapped for row in self.rows),
            },
            "rows": [
                {
                    key: _rounded(value) if isinstance(value, float) else value
                    for key, value in asdict(row).items()
                }
                for row in self.rows
            ],
        }

    def table(self) -> str:
        """A readable table: one line per row, with rows outside the tolerance marked."""
        chooses = any(row.chosen for row in self.rows)
        more = "   Δplace   swapped" if chooses else ""
        lines = [
            f"labels prompts batch  picture             floor  detections  unmatched  Δscore    Δbox px{more}"
        ]
        for row in self.rows:
            picture = f"{row.picture} {row.width}×{row.height}"
            mark = "" if row.passes(self.tolerance) else "  ← outside"
            if chooses:
                mark = f"   {row.place:.1e}  {row.swapped:7d}{mark}"
            lines.append(
                f"{row.labels:6d} {row.prompts:7d} {row.batch:5d}  {picture:17s} {row.floor:7.4f} "
                f"{row.detections:11d} {row.unmatched:10d}  {row.score:.1e}  {row.box:.1e}{mark}"
            )
        limit = self.tolerance
        choice = f", Δplace {limit.place:g}, swapped {limit.swapped:.0%}" if chooses else ""
        lines.append(
            f"inputs: {self.level:.1e} levels of 255 apart; allowed: Δscore {limit.score:g}, Δbox "
            f"{limit.box:g} px, inputs {limit.level:g}, unmatched 0{choice}"
        )
        return "\n".join(lines)


def compare(
    loaded: "LoadedModel | FixedModel",
    detector: Detector,
    label_sets: Sequence[LabelSet] | None = None,
    pictures: Sequence[str] = tuple(SHAPES),
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Compare a bundle with its source model.

    Args:
        loaded: the model.
        detector: the bundle, opened.
        label_sets: default: of 1, 3 (with 6 prompts) and 80 labels.
        pictures: names of `model_export.pictures.SHAPES`.
        say: called with each step.
    """
    bundle = detector.bundle
    settings = bundle.text
    if label_sets is None:
        label_sets = label_sets_of(loaded, settings)
    images = [draw(name) for name in pictures]
    arrays = [np.asarray(image) for image in images]
    sizes = [image.size for image in images]
    inputs = [detector.preprocess(array) for array in arrays]
    rows: list[Row] = []
    levels: list[float] = []
    for label_set in label_sets:
        say(f"parity: {len(images)} pictures, {len(label_set)} labels, {len(label_set.prompts)} prompts")
        texts = [prompt if settings is None else settings.fill(prompt) for prompt in label_set.prompts]
        passes = [words.prompts for words in detector.embed(label_set)]
        by_pass = [
            [loaded.reference(image, [texts[i] for i in prompts]) for prompts in passes] for image in images
        ]
        references = [_joined(each, passes) for each in by_pass]
        std = np.array(bundle.preprocess.std, np.float32)[:, None, None]
        for reference, pixels in zip(references, inputs, strict=True):
            levels.append(float(np.abs((reference.pixels - pixels) * std).max() * 255))
        floors = [_floor_for(reference) for reference in references]
        # Fixed classes have no padding: only images of one size share a batch.
        together = 1 if settings is None and bundle.preprocess.resize == "short-edge" else len(images)
        for batch in dict.fromkeys((1, together)):
            for start in range(0, len(images), batch):
                part = range(start, min(start + batch, len(images)))
                found, choices = _answers(
                    detector,
                    [inputs[i] for i in part],
                    [sizes[i] for i in part],
                    label_set,
                    by_pass[start][0],
                )
                for number, candidates, choice in zip(part, found, choices, strict=True):
                    answer = select(candidates, [floors[number]] * len(label_set), rival_iou=None)
                    swapped, counted, place = _compare_choices(by_pass[number], choice)
                    row = _row(references[number], swapped, answer, label_set, sizes[number], floors[number])
                    rows.append(
                        replace(
                            row,
                            picture=pictures[number],
                            batch=batch,
                            chosen=0 if choice is None else len(choice.chosen),
                            swapped=counted,
                            place=place,
                        )
                    )
    return Report(tuple(rows), _largest(levels))


@dataclass(frozen=True, slots=True)
class _Choice:
    """A bundle's selection for one image, pass by pass; see `Reference` for the names."""

    place_logits: list[NDArray[np.float32]]
    places: list[NDArray[np.int64]]
    chosen: NDArray[np.int64]


def _answers(
    detector: Detector,
    inputs: Sequence[NDArray[np.float32]],
    sizes: Sequence[tuple[int, int]],
    label_set: LabelSet,
    like: Reference,
) -> tuple[list[Detections], list[_Choice | None]]:
    """One batch through the bundle: all candidates without suppression, and the model's selection."""
    outputs = detector.outputs
    chooses = like.chosen is not None
    asked = (*outputs, "place_logits", "places", "chosen") if chooses else outputs
    answer = detector.ask(asked, inputs, label_set)
    passes = [answer[start : start + len(asked)] for start in range(0, len(answer), len(asked))]
    found = detector.read(
        [output for each in passes for output in each[: len(outputs)]],
        sizes,
        label_set,
        nms_iou=1.0,
        limit=10**9,
        floor=1e-9,
    )
    if not chooses:
        return found, [None] * len(found)
    choices: list[_Choice | None] = [
        _Choice(
            [each[-3][number] for each in passes],
            [each[-2][number] for each in passes],
            np.concatenate([each[-1][number] for each in passes]),
        )
        for number in range(len(found))
    ]
    return found, choices


def _joined(references: Sequence[Reference], passes: Sequence[NDArray[np.int64]]) -> Reference:
    """The results of several passes of transformers' model for one image, combined; see `Detector.read`."""
    prompts = sum(len(part) for part in passes)
    scores = []
    for reference, part in zip(references, passes, strict=True):
        wide = np.zeros((len(reference.scores), prompts), np.float32)
        wide[:, part] = reference.scores
        scores.append(wide)
    return Reference(
        pixels=references[0].pixels,
        scores=np.concatenate(scores),
        best_scores=np.concatenate([reference.best_scores for reference in references]),
        best_prompts=np.concatenate(
            [part[reference.best_prompts] for reference, part in zip(references, passes, strict=True)]
        ),
        boxes=np.concatenate([reference.boxes for reference in references]),
    )


def _compare_choices(
    references: Sequence[Reference], choice: _Choice | None
) -> tuple[NDArray[np.bool_], int, float]:
    """For each box, whether another position was selected for its rank; how many of these are swaps; and the
    largest difference of a position's score.

    Positions whose scores are exactly equal have no order, so exchanging them is no swap. A detector that has
    learned little has many: all positions at the edge, for example.
    """
    if choice is None:
        return np.zeros(sum(len(reference.boxes) for reference in references), bool), 0, 0.0
    gaps, chosen, tied = [], [], []
    start = 0
    for reference, logits, places in zip(references, choice.place_logits, choice.places, strict=True):
        assert reference.places is not None
        assert reference.place_logits is not None
        assert reference.chosen is not None
        # A batch's canvas also has positions outside the image; their names rise with their numbers.
        at = np.searchsorted(places, reference.places)
        assert (places[at] == reference.places).all(), "the canvas lacks positions of the image"
        gaps.append(float(np.abs(logits[at] - reference.place_logits).max()))
        chosen.append(reference.chosen)
        ours = choice.chosen[start : start + len(reference.chosen)]
        start += len(ours)
        known = dict(zip(reference.places.tolist(), reference.place_logits.tolist(), strict=True))
        tied += [
            one in known and known[one] == known.get(other)
            for one, other in zip(ours.tolist(), reference.chosen.tolist(), strict=True)
        ]
    differs = np.concatenate(chosen) != choice.chosen
    return differs, int((differs & ~np.array(tied)).sum()), _largest(gaps)


def label_sets_of(loaded: "LoadedModel | FixedModel", text: Text | None) -> list[LabelSet]:
    """Label sets of 1 label, of 3 with several prompts, and of up to 80: words or, without text, classes."""
    if text is None:
        names = cast("FixedModel", loaded).classes
        return _label_sets([name for name in names if name][:80])
    return label_sets_for(text, cast("LoadedModel", loaded).tokenizer())


def label_sets_for(text: Text, tokenizer: "Tokenizer") -> list[LabelSet]:
    """Label sets of 1 label, of 3 with several prompts, and of 80, in words short enough for a model.

    COCO's names, or made-up words of two letters if a small vocabulary needs too many tokens for those.
    """

    def is_short(prompt: str) -> bool:
        return len(tokenizer.encode(text.fill(prompt)).ids) <= text.max_length

    made_up = ("".join(letters) for letters in product(ascii_lowercase, repeat=2))
    words = [name for name in (*COCO_NAMES, *made_up) if is_short(name)][:80]
    return _label_sets(words)


def _label_sets(words: list[str]) -> list[LabelSet]:
    several = (("one", words[0:1]), ("two", words[1:3]), ("three", words[3:6]))
    return [
        LabelSet((Label(words[0], (words[0],)),)),
        LabelSet(
            tuple(Label(name, tuple(words), None, i) for i, (name, words) in enumerate(several) if words)
        ),
        LabelSet(tuple(Label(word, (word,), None, i) for i, word in enumerate(words))),
    ]


def _floor_for(reference: Reference) -> float:
    scores = np.sort(reference.best_scores)[::-1]
    return float(scores[min(_COMPARED, len(scores)) - 1])


def _by_label(scores: NDArray[np.float32], label_set: LabelSet) -> NDArray[np.float32]:
    """float32 [N, prompts] to [N, labels], the maximum over each label's prompts."""
    owners = np.array(label_set.prompt_labels)
    return np.stack([scores[:, owners == i].max(axis=1) for i in range(len(label_set))], axis=1)


def _row(
    reference: Reference,
    swapped: NDArray[np.bool_],
    answer: Detections,
    label_set: LabelSet,
    size: tuple[int, int],
    floor: float,
) -> Row:
    """Match one image's detections, except those `swapped`; the caller fills in image and batch."""
    width, height = size
    edges = np.array([width, height, width, height], np.float32)
    boxes = np.clip(reference.boxes, 0, edges)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    expected = {int(row) for row in np.flatnonzero((reference.best_scores >= floor) & (sides > 0))}
    # Rows that rounding may move across the floor, or to an empty area.
    doubtful = (np.abs(reference.best_scores - floor) <= TOLERANCE.score) | (sides <= TOLERANCE.box) | swapped
    answered = {int(query): row for row, query in enumerate(answer.queries)}
    unmatched = sum(not doubtful[query] for query in expected.symmetric_difference(answered))
    owners = label_set.prompt_labels
    scores = _by_label(reference.scores, label_set)
    score_gaps: list[float] = []
    box_gaps: list[float] = []
    for query, row in answered.items():
        if swapped[query]:
            continue
        wanted = owners[int(reference.best_prompts[query])]
        given = int(answer.labels[row])
        if given != wanted and reference.best_scores[query] - scores[query, given] > TOLERANCE.score:
            unmatched += 1
        score_gaps.append(abs(float(answer.scores[row]) - float(reference.best_scores[query])))
        box_gaps.append(float(np.abs(answer.boxes[row] - boxes[query]).max()))
    return Row(
        labels=len(label_set),
        prompts=len(label_set.prompts),
        batch=1,
        picture="",
        width=width,
        height=height,
        floor=floor,
        detections=len(expected),
        unmatched=unmatched,
        score=_largest(score_gaps),
        box=_largest(box_gaps),
    )


def _largest(gaps: Sequence[float]) -> float:
    """The maximum, or NaN if any value is NaN, which Python's own max would hide."""
    return float(np.max(gaps, initial=0.0))


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
