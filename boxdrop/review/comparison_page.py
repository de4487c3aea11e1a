"""A comparison as one HTML file: the figures, and the images in which the two differ most, side by side."""

import base64
import html
import io
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from boxdrop.domain.detections import Detections
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, decode
from boxdrop.review.comparison import Comparison, Pair, Score

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket

_PICTURES: Final = 12
_SIDE: Final = 560
_QUALITY: Final = 78


def render(project: str, found: Comparison, images: "Bucket") -> str:
    """Make the page.

    Args:
        images: the bucket that holds the images.

    Raises:
        UnavailableError: S3 does not answer.
    """
    style, template = (
        (files("boxdrop.review") / name).read_text(encoding="utf-8") for name in ("page.css", "page.html")
    )
    a, b = found.first, found.second
    facts = [
        ("verified images", f"{found.images:,}"),
        ("F1 of A", f"{a.f1:.3f}"),
        ("F1 of B", f"{b.f1:.3f}"),
        ("B − A", f"{b.f1 - a.f1:+.3f}"),
        ("95 % interval", f"{found.low:+.3f} to {found.high:+.3f}"),
    ]
    pictures = [_row(pair, images) for pair in found.pairs[:_PICTURES] if pair.difference]
    hint = "A on the left, B on the right. Green: right, red: wrong, dashed white: verified."
    gallery = (
        f'<section><h2>Where they differ</h2><p class="hint">{hint}</p>'
        f'<div class="pairs">{"".join(pictures)}</div></section>'
    )
    values = {
        "title": html.escape(f"{project}: A against B"),
        "heading": html.escape(f"{project}: A against B"),
        "origin": html.escape(f"A: {a.name} ({a.model_version}) · B: {b.name} ({b.model_version})"),
        "style": style,
        "counts": "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts),
        "notice": "",
        "sections": _table(a, b) + (gallery if pictures else ""),
    }
    start, *rest = template.split("{{")
    return start + "".join(values[name] + after for name, _, after in (part.partition("}}") for part in rest))


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
    body = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="number">{one:.3f}</td><td class="number">{two:.3f}</td>'
        f'<td class="number">{two - one:+.3f}</td></tr>'
        for name, one, two in rows
    )
    head = '<th></th><th class="number">A</th><th class="number">B</th><th class="number">B − A</th>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    hint = "AP as COCO defines it; F1, precision and recall at thresholds learned from other images."
    inside = f'<p class="hint">{hint}</p><div class="scroll">{table}</div>'
    return f"<section><h2>Figures</h2>{inside}</section>"


def _row(pair: Pair, images: "Bucket") -> str:
    name = html.escape(pair.key)
    try:
        image = decode(images.read_version(pair.key, pair.version, DEFAULT_LIMITS.max_bytes))
    except ImageError:
        return f"<p>{name}: the image can no longer be read.</p>"
    picture = PIL.Image.fromarray(image.pixels)
    picture.thumbnail((_SIDE, _SIDE), PIL.Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
    address = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
    size = (image.width, image.height)
    figures = "".join(
        _figure(address, size, pair.truth, shown, right, f"{side} {int(right.sum())} of {len(shown)} right")
        for side, shown, right in zip("AB", pair.shown, pair.right, strict=True)
    )
    return f'<div class="pair"><h3>{name}</h3>{figures}</div>'


def _figure(
    address: str,
    size: tuple[int, int],
    truth: NDArray[np.float32],
    shown: Detections,
    right: NDArray[np.bool_],
    caption: str,
) -> str:
    rects = "".join(f'<rect class="missed" {_place(box)}/>' for box in truth)
    for box, good in zip(shown.boxes, right, strict=True):
        kind = "after" if good else "wrong"
        rects += f'<rect class="halo" {_place(box)}/><rect class="{kind}" {_place(box)}/>'
    width, height = size
    inside = (
        f'<svg viewBox="0 0 {width} {height}" role="img"><image href="{address}" width="{width}" '
        f'height="{height}" preserveAspectRatio="none"/>{rects}</svg>'
    )
    return f"<figure>{inside}<figcaption>{caption}</figcaption></figure>"


def _place(box: NDArray[np.float32]) -> str:
    left, top, right, bottom = (float(value) for value in box)
    return f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
