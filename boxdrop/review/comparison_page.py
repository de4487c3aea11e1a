"""A comparison as one HTML file: the figures, and the images in which the two differ most, side by side."""

from typing import TYPE_CHECKING

from boxdrop.review.comparison import Comparison, Pair, Score
from boxdrop.review.page import section
from boxdrop.review.side_by_side import PICTURES, View, fill_page, render_gallery, render_pair, render_table

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket


def render(project: str, found: Comparison, images: "Bucket") -> str:
    """Make the page.

    Args:
        images: the bucket that holds the images.

    Raises:
        UnavailableError: S3 does not answer.
    """
    a, b = found.first, found.second
    facts = [
        ("verified images", f"{found.images:,}"),
        ("F1 of A", f"{a.f1:.3f}"),
        ("F1 of B", f"{b.f1:.3f}"),
        ("B − A", f"{b.f1 - a.f1:+.3f}"),
        ("95 % interval", f"{found.low:+.3f} to {found.high:+.3f}"),
    ]
    pairs = [
        render_pair(images, pair.key, pair.version, _views(pair))
        for pair in found.pairs[:PICTURES]
        if pair.difference
    ]
    hint = "A on the left, B on the right. Green: right, red: wrong, dashed white: verified."
    return fill_page(
        f"{project}: A against B",
        f"A: {a.name} ({a.model_version}) · B: {b.name} ({b.model_version})",
        facts,
        _table(a, b) + render_gallery("Where they differ", hint, pairs),
    )


def _table(a: Score, b: Score) -> str:
    rows = [
        ("AP50", a.ap50, b.ap50),
        ("AP", a.ap, b.ap),
        ("F1", a.f1, b.f1),
        ("precision", a.precision, b.precision),
        ("recall", a.recall, b.recall),
        *((f"AP50 of {label}", a.labels[label], b.labels.get(label, 0.0)) for label in a.labels),
        ("seconds per image", a.seconds, b.seconds),
    ]
    said = ((name, f"{one:.3f}", f"{two:.3f}", f"{two - one:+.3f}") for name, one, two in rows)
    hint = "AP as COCO defines it; F1, precision and recall at thresholds learned from other images."
    return section("Figures", hint, render_table(("", "A", "B", "B − A"), said))


def _views(pair: Pair) -> list[View]:
    truth = [("missed", box) for box in pair.truth]
    return [
        View(
            [
                *truth,
                *(("after" if good else "wrong", box) for box, good in zip(shown.boxes, right, strict=True)),
            ],
            f"{side} {int(right.sum())} of {len(shown)} right",
        )
        for side, shown, right in zip("AB", pair.shown, pair.right, strict=True)
    ]
