"""Candidates of one image from the model's scores and boxes: every pair of box and label above the floor."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from boxdrop.domain.detections import Detections


def candidates_of(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    prompt_labels: Sequence[int] | NDArray[np.int64],
    floor: float,
    size: tuple[int, int],
) -> Detections:
    """Take the maximum over each label's prompts, clip boxes, and keep scores above the floor.

    Boxes without area inside the image are dropped: OWLv2 may find objects in the padding.

    Args:
        scores: float32 [N, prompts], 0 to 1.
        boxes: float32 [N, 4], xyxy, upright pixels; may reach beyond the image.
        prompt_labels: for each prompt, the index of its label.
        floor: lowest score kept.
        size: upright width and height in pixels.

    Returns:
        Detections in the order of boxes, then labels, before any suppression; `queries` are the rows of
        `boxes`, and `prompts` name the prompt that scored best (the first one if several did).
    """
    clipped = clip_boxes(boxes, size)
    inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    # Most boxes are below the floor for all prompts: only the others are processed label by label.
    rows = np.flatnonzero(inside & (scores.max(axis=1) >= floor))
    owners = np.asarray(prompt_labels)
    order = np.argsort(owners, kind="stable")
    labels, starts = np.unique(owners[order], return_index=True)
    ends = np.append(starts[1:], len(order))
    of_rows = scores[rows][:, order]
    best = np.maximum.reduceat(of_rows, starts, axis=1)
    at, group = np.nonzero(best >= floor)
    winners = order[starts[group]]
    for several in np.flatnonzero(ends - starts > 1):
        hits = np.flatnonzero(group == several)
        choice = of_rows[at[hits], starts[several] : ends[several]].argmax(axis=1)
        winners[hits] = order[starts[several] + choice]
    return Detections(
        boxes=clipped[rows[at]],
        scores=best[at, group],
        labels=labels[group].astype(np.int64),
        prompts=winners.astype(np.int64),
        queries=rows[at].astype(np.int64),
    )


def clip_boxes(boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes, float32 [N, 4], xyxy, cut off at the borders of an image of that width and height."""
    width, height = size
    clipped: NDArray[np.float32] = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    return clipped
