"""The credits page, as Markdown or HTML."""

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from boxdrop.retrieve.provenance import SourceRecord

FORMATS: Final = ("markdown", "html")

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;"
    "background:#fff}li{margin:.4rem 0}small,code{color:#666}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8ab4f8}small,code{color:#999}}"
)


def credits_page(title: str, records: Iterable[SourceRecord], format: str = "markdown") -> str:
    """Render the page.

    Args:
        title: the project.
        records: its images; a repeated image is credited once.
        format: one of `FORMATS`.
    """
    listed = sorted({record.file: record for record in records}.values(), key=lambda record: record.file)
    return _html(title, listed) if format == "html" else _markdown(title, listed)


def _summary(records: Sequence[SourceRecord]) -> str:
    counts = Counter(record.candidate.license.name or record.candidate.license.code for record in records)
    found = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
    return f"{len(records):,} images: {found}." if records else "No images were retrieved."


def _parts(record: SourceRecord) -> list[tuple[str, str]]:
    """(text, URL or empty) of the required credits: title, creator, licence; then the collection."""
    candidate = record.candidate
    parts = [(candidate.title or record.file, candidate.landing_page or candidate.url)]
    if candidate.creator:
        parts.append((candidate.creator, candidate.creator_url))
    parts.append((candidate.license.name or "licence not stated", candidate.license.url))
    return [*parts, (candidate.source, "")]


def _markdown(title: str, records: Sequence[SourceRecord]) -> str:
    lines = [f"# Credits: {_escaped(title)}", "", _escaped(_summary(records)), ""]
    for record in records:
        said = " · ".join(
            f"[{_escaped(text)}](<{address}>)" if _is_link(address) else _escaped(text)
            for text, address in _parts(record)
        )
        # The collection's own wording, if it requires one.
        own = record.candidate.attribution
        lines.append(f"- `{record.file}`: {said}{f'  {chr(10)}  {_escaped(own)}' if own else ''}")
    return "\n".join(lines) + "\n"


def _html(title: str, records: Sequence[SourceRecord]) -> str:
    items = []
    for record in records:
        said = " · ".join(
            f'<a href="{html.escape(address)}" rel="noopener noreferrer">{html.escape(text)}</a>'
            if _is_link(address)
            else html.escape(text)
            for text, address in _parts(record)
        )
        own = record.candidate.attribution
        more = f"<br><small>{html.escape(own)}</small>" if own else ""
        items.append(f"<li>{said} <code>{html.escape(record.file)}</code>{more}</li>")
    name = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Credits: {name}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n"
        f"<body><h1>Credits: {name}</h1>\n<p>{html.escape(_summary(records))}</p>\n<ul>\n"
        + "\n".join(items)
        + "\n</ul></body></html>\n"
    )


def _is_link(address: str) -> bool:
    return address.startswith(("http://", "https://")) and not set(address) & set("<>\"' \n")


def _escaped(text: str) -> str:
    """Text with Markdown's special characters escaped, including those of entities."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_{}[]#|~!" else c for c in text)
