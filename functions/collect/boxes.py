"""The metric of each thing that annotators do with a box, see `boxdrop.assessment.outcomes.Change`."""

from typing import Final

from boxdrop import metrics

BOXES: Final = {
    "kept": metrics.BOXES_KEPT,
    "adjusted": metrics.BOXES_ADJUSTED,
    "relabelled": metrics.BOXES_RELABELLED,
    "deleted": metrics.BOXES_DELETED,
    "added": metrics.BOXES_ADDED,
}
