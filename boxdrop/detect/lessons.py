"""A lesson as part of a pass of the image graph: its heads are queries like those of the words."""

import base64
import binascii
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect.families.words import Heads, Words
from boxdrop.domain.errors import LessonError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson, TaughtLabel


def taught_labels(lesson: Lesson, label_set: LabelSet) -> set[int]:
    """The labels of a label set, by index, that a lesson taught.

    A label counts as taught if its prompts are those of then: a renamed label keeps what it was taught, and
    one whose prompts changed is asked for in its new words.
    """
    return {number for number, _ in _matches(lesson, label_set)}


def add_lesson(
    passes: tuple[Words, ...], lesson: Lesson, label_set: LabelSet, input_name: str
) -> tuple[Words, ...]:
    """Add a lesson's heads, and one query of zeros, to a pass.

    Args:
        passes: one pass with the prompts of all labels that the lesson did not teach, or none.
        lesson: fits the detector.
        label_set: what to look for.
        input_name: the image graph's input of queries.
    """
    taught = _matches(lesson, label_set)
    if not taught:
        return passes
    first_prompts = np.unique(label_set.prompt_labels, return_index=True)[1]
    prompts, heads = [], []
    for number, label in taught:
        weights = decode_heads(label, lesson.width)
        heads.append(weights)
        # Of several heads, the first belongs to the first prompt, and so on.
        prompts += [
            int(first_prompts[number]) + min(head, len(label.prompts) - 1) for head in range(len(weights))
        ]
    weights = np.concatenate(heads)
    lengths = np.linalg.norm(weights[:, :-2], axis=1)
    queries = weights[:, :-2] / np.maximum(lengths, 1e-12)[:, None]
    zero = np.zeros((1, lesson.width), np.float32)
    [words] = passes or (Words(np.zeros(0, np.int64), {input_name: zero[:0]}),)
    asked = len(words.prompts)
    inputs = np.concatenate([words.inputs[input_name], queries.astype(np.float32), zero])
    inputs.setflags(write=False)
    return (
        replace(
            words,
            prompts=np.concatenate([words.prompts, np.array(prompts, np.int64)]),
            inputs={**words.inputs, input_name: inputs},
            heads=Heads(asked, lengths, weights[:, -2], weights[:, -1]),
        ),
    )


def encode_heads(heads: NDArray[np.float32]) -> str:
    """Write heads, float32 [heads, width + 2], as `TaughtLabel.heads` holds them."""
    return base64.b64encode(np.ascontiguousarray(heads, "<f4").tobytes()).decode("ascii")


def decode_heads(label: TaughtLabel, width: int) -> NDArray[np.float32]:
    """The heads of a label, float32 [heads, width + 2].

    Raises:
        LessonError: they are damaged.
    """
    try:
        flat = np.frombuffer(base64.b64decode(label.heads, validate=True), "<f4")
        heads: NDArray[np.float32] = flat.reshape(-1, width + 2).astype(np.float32)
    except (binascii.Error, ValueError):
        heads = np.zeros((0, width + 2), np.float32)
    if not len(heads) or not np.isfinite(heads).all():
        raise LessonError(f"lesson: the weights of label {label.name!r} are damaged; teach again")
    return heads


def _matches(lesson: Lesson, label_set: LabelSet) -> list[tuple[int, TaughtLabel]]:
    """Labels of a label set, by index, with what they were taught."""
    known = {frozenset(label.prompts): label for label in lesson.labels}
    return [
        (number, known[key])
        for number, label in enumerate(label_set)
        if (key := frozenset(label.prompts)) in known
    ]
