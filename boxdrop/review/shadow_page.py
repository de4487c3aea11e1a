"""A shadow run as one HTML file: the figures, and the images in which the two differ most, side by side."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boxdrop.review.page import section
from boxdrop.review.shadow import Fate, Seen, Shadow
from boxdrop.review.side_by_side import PICTURES, View, fill_page, render_gallery, render_pair, render_table

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket

_CLASSES: Final = {Fate.BOTH: "after", Fate.RENAMED: "before", Fate.ONLY: "only"}


def render(project: str, candidate: str, found: Shadow, images: "Bucket") -> str:
    """Make the page.

    Args:
        candidate: its name, as the user wrote it.
        images: the bucket that holds the images.

    Raises:
        UnavailableError: S3 does not answer.
    """
    facts = [("unverified images", f"{len(found.images):,}"), ("boxes now", f"{found.boxes[0]:,}")]
    facts += [("boxes of the candidate", f"{found.boxes[1]:,}")]
    if found.agreement is not None:
        share = f"{100 * found.agreement:.0f} % ({100 * found.low:.0f}–{100 * found.high:.0f})"
        facts.append(("objects that both have", share))
    facts.append(("images that differ", f"{found.differing:,}"))
    pairs = [
        render_pair(images, each.key, each.version, _views(each))
        for each in found.images[:PICTURES]
        if each.difference
    ]
    hint = (
        "Now on the left, the candidate on the right. Green: both, orange: only this one, dashed red: the "
        "other one gives it another label."
    )
    return fill_page(
        f"{project}: what {Path(candidate).name} would change",
        f"now: {found.model_versions[0]} · candidate: {candidate} ({found.model_versions[1]})",
        facts,
        _figures(found) + render_gallery("Where they differ", hint, pairs),
    )


def _figures(found: Shadow) -> str:
    columns = ("", "now", "candidate", "both", "only now", "only candidate", "renamed", "score of both")
    rows = [
        (
            each.label,
            *(f"{count:,}" for count in (each.now, each.new, each.both, each.only_now, each.only_new)),
            f"{each.renamed:,}",
            "" if each.score_now is None else f"{each.score_now:.2f} → {each.score_new:.2f}",
        )
        for each in found.labels
    ]
    hint = (
        "Nobody has verified these images: the figures show what would change, not which is better. Renamed: "
        "boxes to which the candidate gives another label. Scores: medians over boxes that both have."
    )
    said = section("Boxes by label", hint, render_table(columns, rows))
    if found.renamed:
        names = ((f"{now} → {new}", f"{number:,}") for (now, new), number in found.renamed)
        said += section(
            "Renamed boxes", "Label now, and the candidate's.", render_table(("", "boxes"), names)
        )
    return said


def _views(seen: Seen) -> list[View]:
    views = []
    for title, boxes, fates in zip(("Now", "Candidate"), seen.boxes, seen.fates, strict=True):
        counts = Counter(box.label for box in boxes)
        said = ", ".join(f"{number:,} × {label}" for label, number in counts.items()) or "no box"
        rects = [(_CLASSES[fate], box.xyxy) for box, fate in zip(boxes, fates, strict=True)]
        views.append(View(rects, f"{title}: {said}"))
    return views
