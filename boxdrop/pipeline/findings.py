"""findings: what speaks against boxes before a run, and whether a run found suspiciously few.

An empty result is no error, so nothing fails where a detector cannot know the labels. People are told by
these sentences instead, each with the way out.
"""

import tempfile
from pathlib import Path

from boxdrop.aws.s3 import Bucket
from boxdrop.detect.bundle import CARD, TOKENIZER, Bundle
from boxdrop.detect.vocabulary import doubts_of, few_boxes_said
from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.store.bundles import BundleRef, resolve, vocabulary
from boxdrop.store.reports import RunSummary


def doubts(data: Bucket, label_set: LabelSet) -> tuple[str, ...]:
    """What speaks against good boxes for these labels, a sentence each; empty if nothing is known.

    Args:
        data: the data bucket, which holds the detector.

    Raises:
        LabelSetError: a prompt is too long for the detector.
        BundleError: the detector is not there.
        BoxdropError: the bucket cannot be read.
    """
    ref = resolve(data, label_set.detector)
    check_prompts(data, ref, label_set)
    said = doubts_of(ref.name, vocabulary(data, ref), label_set)
    return (said,) if said else ()


def check_prompts(data: Bucket, ref: BundleRef, label_set: LabelSet) -> None:
    """Refuse prompts that are too long for a detector, if this machine can count their tokens.

    Raises:
        LabelSetError: names the label.
    """
    try:
        from tokenizers import Tokenizer

        from boxdrop.detect.families import family_of
    except ImportError:  # the job finds out
        return
    card, stored = data.get(ref.prefix + CARD), data.get(ref.prefix + TOKENIZER)
    if card is None or stored is None:
        return
    bundle = Bundle.parse(card.body, Path(tempfile.gettempdir()))
    tokenizer = Tokenizer.from_str(stored.body.decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = [bundle.text.fill(prompt) for prompt in label_set.prompts]
    for number, length in enumerate(family_of(bundle.family).lengths(texts, tokenizer)):
        if length > bundle.text.max_length:
            label = label_set.labels[label_set.prompt_labels[number]]
            raise LabelSetError(
                f"label {label.name!r}: {texts[number]!r} is {length} tokens long, detector {ref.name} reads "
                f"{bundle.text.max_length}; say it in fewer words"
            )


def few_boxes(summary: RunSummary) -> str | None:
    """What to say of a run that found nothing in most images; None if it found enough."""
    return few_boxes_said(
        summary.predicted,
        summary.predicted if not summary.boxes else summary.without_boxes,
        summary.bundle.name,
    )
