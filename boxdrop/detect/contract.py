"""What the graph of a detector with fixed classes takes and gives: ``contract`` in ``bundle.json``.

A detector with fixed classes has one graph and no words: it scores every box for each of its classes. Graphs
differ in how they write boxes and scores, so the bundle describes that here, and one decoder reads all of
them (`boxdrop.detect.families.fixed`).
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

FIXED: Final = "fixed-classes"
"""Family of all bundles that have a contract."""

BoxFormat = Literal["cxcywh", "xyxy", "xywh", "grid"]
BoxUnit = Literal["fraction", "pixel"]
Scores = Literal["probability", "logit", "softmax"]


@dataclass(frozen=True, slots=True)
class Contract:
    """Inputs and outputs of a graph. B images, N boxes, C classes.

    Attributes:
        input: the images, float32 [B, 3, H, W], see `boxdrop.detect.settings.Preprocess`.
        boxes: the output that holds boxes, [B, N, 4 or more].
        scores: the output that holds scores: [B, N, C], or [B, N] with `labels`. If it is the same output as
            `boxes`, the scores follow a box's four numbers.
        box_format: ``cxcywh`` (centre, size), ``xyxy`` (corners), ``xywh`` (left, top, size), or ``grid``:
            YOLOX's raw numbers, the offset from a cell and the logarithm of the size, both in `strides`.
        box_unit: of the model's input: ``fraction`` (0 to 1) or ``pixel``.
        score_kind: ``probability`` (0 to 1 already), ``logit`` (a sigmoid each), or ``softmax`` (over a box's
            classes).
        no_object: the column that means "nothing here", if there is one.
        objectness: whether a column before the classes multiplies all of a box's scores.
        transposed: whether outputs are [B, numbers of a box, N].
        labels: the output with each box's class number, [B, N]; None if `scores` has a column per class.
        count: the output with the number of boxes that count, [B] or [B, 1]; None: all do.
        sizes: an input for the image's size, int64 [B, 2], that scales the boxes. It is given the size of
            the model's input, so boxes are in its pixels. None: there is no such input.
        strides: pixels of the model's input per cell, of each grid in order; for ``grid``.
        nms_iou: two boxes of one label that overlap by more than this are one object. None: the graph gives
            each object once, because it suppresses itself or was trained to.
    """

    input: str
    boxes: str
    scores: str
    box_format: BoxFormat
    box_unit: BoxUnit
    score_kind: Scores
    no_object: Literal["first", "last"] | None = None
    objectness: bool = False
    transposed: bool = False
    labels: str | None = None
    count: str | None = None
    sizes: str | None = None
    strides: tuple[int, ...] = ()
    nms_iou: float | None = None

    def __post_init__(self) -> None:
        if (self.box_format == "grid") != bool(self.strides):
            raise ValueError("`strides` belong to box_format grid, and grid needs them")
        if self.strides and min(self.strides) < 1:
            raise ValueError("`strides` must be whole numbers from 1")
        if self.box_format == "grid" and self.box_unit != "pixel":
            raise ValueError("boxes of box_format grid are in pixels: box_unit must be pixel")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise ValueError(f"`nms_iou` must be over 0 and at most 1, not {self.nms_iou:g}")
        if self.labels is not None and (self.no_object or self.objectness or self.boxes == self.scores):
            raise ValueError("with `labels`, each box has one score in an output of its own")
        if self.labels is not None and self.score_kind == "softmax":
            raise ValueError("with `labels`, each box has one score: score_kind cannot be softmax")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that the decoder needs, each once."""
        named = (self.boxes, self.scores, self.labels, self.count)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def columns(self, classes: int) -> int:
        """How many numbers the scores of a box have."""
        if self.labels is not None:
            return 1
        before = 4 if self.boxes == self.scores else 0
        return before + self.objectness + classes + (self.no_object is not None)

    def settings(self) -> dict[str, Any]:
        """For ``bundle.json``: the fields that differ from their defaults, and those without one."""
        values = asdict(self)
        return {each.name: values[each.name] for each in fields(self) if values[each.name] != each.default}
