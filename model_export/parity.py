"""Parity: does a bundle answer what the model of transformers answers?

Pictures of several shapes and label sets of several sizes go through transformers' own processor, model and
post-processing, and through `boxdrop.detect` in batches of 1 and of all pictures. Every detection must have
its counterpart: the same box of the model, under the same label, within `TOLERANCE`.

- transformers' post-processing takes for each box the maximum over the prompts, and does not suppress: so
  suppression is off here (``nms_iou=1, rival_iou=None``).
- It does not clip. Its boxes are clipped here, as the detector clips; one with no area left is not expected.
- Scores are compared from a floor on, chosen for each picture so that its best 500 boxes (or all that there
  are) lie above it. A score within the tolerance of the floor may fall on either side of it.
- Where two labels score within the tolerance of each other, either may be the better one.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.bundle import Text
from boxdrop.detect.detector import Detector
from boxdrop.detections import Detections, select
from boxdrop.labels import Label, LabelSet
from model_export.pictures import SHAPES, draw
from model_export.reference import Reference

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model_export.families import LoadedModel


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest differences allowed.

    Attributes:
        score: of a detection.
        box: of a corner's coordinate, in pixels of the image.
        level: of the model's input, in levels of 255.
    """

    score: float
    box: float
    level: float


TOLERANCE: Final = Tolerance(score=1e-4, box=0.1, level=1.0)

_COMPARED = 500  # boxes of a picture
COCO_NAMES: Final = (  # noqa: SIM905
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, "
    "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, "
    "backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball "
    "bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, "
    "spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, "
    "couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, "
    "microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, "
    "toothbrush"
).split(", ")
"""The 80 names of COCO."""


@dataclass(frozen=True, slots=True)
class Row:
    """The comparison for one label set, one batch size and one picture.

    Attributes:
        labels, prompts, batch: sizes of the label set and of the batch.
        picture: name; width, height: its size in pixels.
        floor: lowest score compared.
        detections: how many transformers found.
        unmatched: of either side, those without a counterpart.
        score: largest difference of scores.
        box: largest difference of a corner's coordinate in pixels.
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

    def passes(self, tolerance: Tolerance) -> bool:
        """Whether all is within the tolerance; nothing compared is nothing shown."""
        return (
            self.detections > 0
            and self.unmatched == 0
            and self.score <= tolerance.score
            and self.box <= tolerance.box
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All rows, and the largest difference of the model's inputs in levels of 255."""

    rows: tuple[Row, ...]
    level: float
    tolerance: Tolerance = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the bundle may be used in the model's place."""
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
        """For people: a line a row, those outside the tolerance marked."""
        lines = ["labels prompts batch  picture             floor  detections  unmatched  Δscore    Δbox px"]
        for row in self.rows:
            picture = f"{row.picture} {row.width}×{row.height}"
            mark = "" if row.passes(self.tolerance) else "  ← outside"
            lines.append(
                f"{row.labels:6d} {row.prompts:7d} {row.batch:5d}  {picture:17s} {row.floor:7.4f} "
                f"{row.detections:11d} {row.unmatched:10d}  {row.score:.1e}  {row.box:.1e}{mark}"
            )
        limit = self.tolerance
        lines.append(
            f"inputs: {self.level:.1e} levels of 255 apart; allowed: Δscore {limit.score:g}, Δbox "
            f"{limit.box:g} px, "
            f"inputs {limit.level:g}, unmatched 0"
        )
        return "\n".join(lines)


def compare(
    loaded: "LoadedModel",
    detector: Detector,
    label_sets: Sequence[LabelSet] | None = None,
    pictures: Sequence[str] = tuple(SHAPES),
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Compare a bundle with the model that it was made of.

    Args:
        loaded: the model.
        detector: the bundle, opened.
        label_sets: default: of 1, 3 (with 6 prompts) and 80 labels.
        pictures: names of `model_export.pictures.SHAPES`.
        say: told what is being done.
    """
    bundle = detector.bundle
    if label_sets is None:
        label_sets = label_sets_for(bundle.text, loaded.tokenizer())
    images = [draw(name) for name in pictures]
    arrays = [np.asarray(image) for image in images]
    sizes = [image.size for image in images]
    inputs = [detector.preprocess(array) for array in arrays]
    rows: list[Row] = []
    levels: list[float] = []
    for label_set in label_sets:
        say(f"parity: {len(images)} pictures, {len(label_set)} labels, {len(label_set.prompts)} prompts")
        texts = [bundle.text.fill(prompt) for prompt in label_set.prompts]
        references = [loaded.reference(image, texts) for image in images]
        std = np.array(bundle.preprocess.std, np.float32)[:, None, None]
        for reference, pixels in zip(references, inputs, strict=True):
            levels.append(float(np.abs((reference.pixels - pixels) * std).max() * 255))
        floors = [_floor_for(reference) for reference in references]
        for batch in dict.fromkeys((1, len(images))):
            found: list[Detections] = []
            for start in range(0, len(images), batch):
                part = slice(start, start + batch)
                found += detector.candidates(
                    np.stack(inputs[part]),
                    sizes[part],
                    label_set,
                    nms_iou=1.0,
                    limit=10**9,
                    floor=min(floors[part]),
                )
            for number, candidates in enumerate(found):
                answer = select(candidates, [floors[number]] * len(label_set), rival_iou=None)
                row = _row(references[number], answer, label_set, sizes[number], floors[number])
                rows.append(replace(row, picture=pictures[number], batch=batch))
    return Report(tuple(rows), _largest(levels))


def label_sets_for(text: Text, tokenizer: "Tokenizer") -> list[LabelSet]:
    """Label sets of 1 label, of 3 with several prompts, and of 80, in words short enough for a model.

    COCO's names, and made-up words of two letters where a small vocabulary spells those out in too many
    tokens.
    """

    def is_short(prompt: str) -> bool:
        return len(tokenizer.encode(text.fill(prompt)).ids) <= text.max_length

    made_up = ("".join(letters) for letters in product(ascii_lowercase, repeat=2))
    words = [name for name in (*COCO_NAMES, *made_up) if is_short(name)][:80]
    several = (("one", words[0:1]), ("two", words[1:3]), ("three", words[3:6]))
    return [
        LabelSet((Label(words[0], (words[0],)),)),
        LabelSet(tuple(Label(name, tuple(prompts), None, i) for i, (name, prompts) in enumerate(several))),
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
    reference: Reference, answer: Detections, label_set: LabelSet, size: tuple[int, int], floor: float
) -> Row:
    """Match one picture's detections; the caller says which picture and batch."""
    width, height = size
    edges = np.array([width, height, width, height], np.float32)
    boxes = np.clip(reference.boxes, 0, edges)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    expected = {int(row) for row in np.flatnonzero((reference.best_scores >= floor) & (sides > 0))}
    # Rows that rounding may put on either side of the floor, or of having an area.
    doubtful = (np.abs(reference.best_scores - floor) <= TOLERANCE.score) | (sides <= TOLERANCE.box)
    answered = {int(query): row for row, query in enumerate(answer.queries)}
    unmatched = sum(not doubtful[query] for query in expected.symmetric_difference(answered))
    owners = label_set.prompt_labels
    scores = _by_label(reference.scores, label_set)
    score_gaps: list[float] = []
    box_gaps: list[float] = []
    for query, row in answered.items():
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
    """The maximum, NaN if there is one among them: Python's own max would hide it."""
    return float(np.max(gaps, initial=0.0))


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
