"""findings: warnings about labels before a run, and about runs with suspiciously few boxes.

An empty result is not an error, so nothing fails if a detector does not know the labels. Instead, these
sentences warn the user, each with the way out.
"""

import tempfile
from pathlib import Path

from boxdrop.aws.s3 import Bucket
from boxdrop.detect.allotment import allot
from boxdrop.detect.bundle import CARD, TOKENIZER, Bundle
from boxdrop.detect.vocabulary import doubts_of, few_boxes_said
from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import damaged_said
from boxdrop.store.bundles import BundleRef, resolve, vocabulary
from boxdrop.store.reports import RunSummary


def doubts(data: Bucket, label_set: LabelSet) -> tuple[str, ...]:
    """Warnings about labels that the detector may not find, one sentence each; empty if there are none.

    Args:
        data: the data bucket, which stores the detector.

    Raises:
        LabelSetError: a prompt is too long for the detector, or names none of its fixed classes.
        BundleError: the detector is missing.
        BoxdropError: the bucket cannot be read.
    """
    ref = resolve(data, label_set.detector)
    said = []
    for single, share in _shares(ref, label_set):
        _check_prompts(data, single, share)
        if doubt := doubts_of(single.name, vocabulary(data, single), share):
            said.append(doubt)
    return tuple(said)


def _shares(ref: BundleRef, label_set: LabelSet) -> list[tuple[BundleRef, LabelSet]]:
    """Each detector with the labels that it looks for."""
    singles = ref.singles
    allotted = allot(label_set, [(each.name, each.classes) for each in singles])
    return [(singles[each.detector], each.label_set) for each in allotted]


def check_prompts(data: Bucket, ref: BundleRef, label_set: LabelSet) -> None:
    """Refuse labels that a detector cannot find: prompts that are too long, if this machine can count their
    tokens, and prompts that are none of its fixed classes.

    Raises:
        LabelSetError: names the label.
    """
    for single, share in _shares(ref, label_set):
        _check_prompts(data, single, share)


def _check_prompts(data: Bucket, ref: BundleRef, label_set: LabelSet) -> None:
    if ref.classes:
        return
    try:
        from tokenizers import Tokenizer

        from boxdrop.detect.families import family_of
    except ImportError:  # the job will check
        return
    card, stored = data.get(ref.prefix + CARD), data.get(ref.prefix + TOKENIZER)
    if card is None or stored is None:
        return
    bundle = Bundle.parse(card.body, Path(tempfile.gettempdir()))
    tokenizer = Tokenizer.from_str(stored.body.decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = bundle.text
    assert settings is not None
    texts = [settings.fill(prompt) for prompt in label_set.prompts]
    for number, length in enumerate(family_of(bundle.family).lengths(texts, tokenizer)):
        if length > settings.max_length:
            label = label_set.labels[label_set.prompt_labels[number]]
            raise LabelSetError(
                f"label {label.name!r}: {texts[number]!r} is {length} tokens long, but detector {ref.name} "
                f"reads only {settings.max_length}; use fewer words"
            )


def findings_of(summary: RunSummary) -> tuple[str, ...]:
    """What is worth knowing about a finished run, one sentence each; empty if there is nothing."""
    return tuple(said for said in (few_boxes(summary), damaged_said(summary.damaged)) if said)


def few_boxes(summary: RunSummary) -> str | None:
    """A warning about a run that found nothing in most images; None if it found enough."""
    return few_boxes_said(
        summary.predicted,
        summary.predicted if not summary.boxes else summary.without_boxes,
        summary.bundle.name,
        summary.bundle.family,
    )
