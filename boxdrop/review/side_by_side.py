"""One image twice, with the boxes of two sides: pictures of the pages of `compare` and `shadow`, as HTML."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import PIL.Image

from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, decode

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket

PICTURES: Final = 12
"""Images that a page shows."""

_SIDE: Final = 560
_QUALITY: Final = 78

Rect = tuple[str, Sequence[float]]
"""A class of ``page.css`` and a box: left, top, right, bottom in upright pixels."""


@dataclass(frozen=True, slots=True)
class View:
    """One of the two: rectangles from back to front, and a line below them; text, not HTML."""

    rects: Sequence[Rect]
    caption: str


def render_pair(images: "Bucket", key: str, version: str, views: Iterable[View]) -> str:
    """An image with two views of it, side by side; a sentence where it can no longer be read.

    Raises:
        UnavailableError: S3 does not answer.
    """
    name = html.escape(key)
    try:
        image = decode(images.read_version(key, version, DEFAULT_LIMITS.max_bytes))
    except ImageError:
        return f"<p>{name}: the image can no longer be read.</p>"
    picture = PIL.Image.fromarray(image.pixels)
    picture.thumbnail((_SIDE, _SIDE), PIL.Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
    address = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
    figures = "".join(_figure(address, (image.width, image.height), view) for view in views)
    return f'<div class="pair"><h3>{name}</h3>{figures}</div>'


def render_gallery(title: str, hint: str, pairs: Sequence[str]) -> str:
    """A section of pairs; nothing where there is none. `hint` is HTML."""
    if not pairs:
        return ""
    return (
        f'<section><h2>{html.escape(title)}</h2><p class="hint">{hint}</p>'
        f'<div class="pairs">{"".join(pairs)}</div></section>'
    )


def fill_page(heading: str, origin: str, facts: Iterable[tuple[str, str]], sections: str) -> str:
    """The whole page.

    Args:
        heading, origin: text.
        facts: name and value of the figures at the top; text.
        sections: HTML.
    """
    style, template = (
        (files("boxdrop.review") / name).read_text(encoding="utf-8") for name in ("page.css", "page.html")
    )
    counts = ((html.escape(name), html.escape(value)) for name, value in facts)
    values = {
        "title": html.escape(heading),
        "heading": html.escape(heading),
        "origin": html.escape(origin),
        "style": style,
        "counts": "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in counts),
        "notice": "",
        "sections": sections,
    }
    start, *rest = template.split("{{")
    return start + "".join(values[name] + after for name, _, after in (part.partition("}}") for part in rest))


def render_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text: names in its first column, numbers in the others."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        first, *others = map(html.escape, texts)
        inside = "".join(f'<{tag} class="number">{each}</{tag}>' for each in others)
        return f"<tr><{tag}>{first}</{tag}>{inside}</tr>"

    body = "".join(cells("td", row) for row in rows)
    table = f"<table><thead>{cells('th', columns)}</thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _figure(address: str, size: tuple[int, int], view: View) -> str:
    width, height = size
    rects = ""
    for kind, box in view.rects:
        if kind != "missed":
            rects += f'<rect class="halo" {_place(box)}/>'
        rects += f'<rect class="{kind}" {_place(box)}/>'
    inside = (
        f'<svg viewBox="0 0 {width} {height}" role="img"><image href="{address}" width="{width}" '
        f'height="{height}" preserveAspectRatio="none"/>{rects}</svg>'
    )
    return f"<figure>{inside}<figcaption>{html.escape(view.caption)}</figcaption></figure>"


def _place(box: Sequence[float]) -> str:
    left, top, right, bottom = (float(value) for value in box)
    return f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
