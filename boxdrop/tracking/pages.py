"""Pages about a run for ZenML's dashboard: sample images with their boxes, and scores by label.

Each page is one HTML text without scripts and links, since the dashboard shows it in a frame, perhaps years
later. It contains sample images as thumbnails: no presigned URL is valid for that long.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Final

from boxdrop.domain.labels import LabelSet
from boxdrop.store.reports import RunSummary, Sample

_OTHER_COLOR: Final = "#808890"
_BARS: Final = 20

_STYLE: Final = """
:root { color-scheme: light dark; --text: #1d242e; --soft: #66717f; --line: #e2e6eb; --page: #fff;
  --sunken: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e9edf2; --soft: #9aa5b4; --line: #2c343f; --page: #14181d; --sunken: #1b2027; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 20px 24px 28px; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0 0 2px; font-size: 20px; font-weight: 650; }
p { margin: 0; color: var(--soft); font-size: 14px; }
.labels { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 14px 0 18px; padding: 0; list-style: none; }
.labels i { display: inline-block; width: 11px; height: 11px; margin-right: 7px; border-radius: 3px; }
.labels span { color: var(--soft); margin-left: 6px; font-variant-numeric: tabular-nums; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 18px; }
figure { margin: 0; min-width: 0; }
.frame { display: flex; align-items: center; justify-content: center; height: 220px; border-radius: 9px;
  background: var(--sunken); overflow: hidden; }
.frame svg { max-width: 100%; max-height: 100%; display: block; }
figcaption { display: flex; justify-content: space-between; gap: 10px; padding-top: 5px; font-size: 13px; }
figcaption b { font-weight: 500; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
figcaption span { color: var(--soft); white-space: nowrap; }
.score { display: grid; grid-template-columns: minmax(90px, 170px) 1fr 80px; align-items: end; gap: 14px;
  padding: 14px 0 6px; border-bottom: 1px solid var(--line); }
.score b { font-weight: 600; overflow-wrap: anywhere; }
.score em { font-style: normal; color: var(--soft); text-align: right; font-variant-numeric: tabular-nums; }
.score svg { width: 100%; height: 60px; display: block; }
.ticks { display: flex; justify-content: space-between; color: var(--soft); font-size: 11px; }
"""


def sample_sheet(
    title: str,
    line: str,
    label_set: LabelSet,
    boxes_by_label: Mapping[str, int],
    samples: Sequence[Sample],
    thumbnails: Mapping[str, bytes],
) -> str:
    """Draw sample images with their boxes.

    Args:
        title, line: above them.
        label_set: gives colours and order.
        boxes_by_label: counts of all boxes, not only of those in the samples.
        samples: boxes in upright pixels.
        thumbnails: JPEGs by key. Where an image has none (deleted, or thumbnails are turned off), its boxes
            are drawn on an empty frame of its shape.

    Returns:
        One HTML text.
    """
    legend = "".join(
        f'<li><i style="background:{color}"></i>{html.escape(name)}'
        f"<span>{boxes_by_label.get(name, 0):,}</span></li>"
        for name, color in _colors(label_set, boxes_by_label).items()
    )
    colors = _colors(label_set, [box.label for sample in samples for box in sample.boxes])
    figures = "".join(_figure(sample, colors, thumbnails.get(sample.key)) for sample in samples)
    return _page(title, line, f'<ul class="labels">{legend}</ul><div class="grid">{figures}</div>')


def counts_line(predicted: int, boxes: int, failed: int, shown: int) -> str:
    """``497 images with 1,200 boxes, 3 failed; 12 of them:``."""
    text = f"{predicted:,} images with {boxes:,} boxes" + (f", {failed:,} failed" if failed else "")
    return f"{text}; {shown} of them:" if shown else text


def score_page(summary: RunSummary, label_set: LabelSet) -> str:
    """Draw histograms of the boxes' scores, one row per label, in steps of 0.05.

    Returns:
        One HTML text.
    """
    rows = []
    for name, color in _colors(label_set, summary.score_histograms).items():
        counts = summary.score_histograms.get(name, [0] * _BARS)
        boxes = summary.boxes_by_label.get(name, sum(counts))
        rows.append(
            f'<div class="score"><b>{html.escape(name)}</b>{_bars(counts, color)}'
            f"<em>{boxes:,} boxes</em></div>"
        )
    return _page(
        f"Scores of {summary.project}",
        f"Run {summary.run_id} · {summary.model_version} · boxes that people see, by score from 0 to 1",
        "".join(rows),
    )


def _page(title: str, line: str, body: str) -> str:
    title, line = html.escape(title), html.escape(line)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1><p>{line}</p>{body}</body></html>"
    )


def _colors(label_set: LabelSet, found: Mapping[str, object] | Sequence[str]) -> dict[str, str]:
    """Colours in the label set's order; removed names come last."""
    known = {label.name: label.color for label in label_set}
    return known | {name: _OTHER_COLOR for name in found if name not in known}


def _figure(sample: Sample, colors: Mapping[str, str], thumbnail: bytes | None) -> str:
    width, height = sample.width, sample.height
    picture = ""
    if thumbnail is not None:
        data = base64.b64encode(thumbnail).decode("ascii")
        picture = (
            f'<image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}" '
            'preserveAspectRatio="none"/>'
        )
    boxes = "".join(
        f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}" fill="none" '
        f'stroke="{colors[box.label]}" stroke-width="2.5" vector-effect="non-scaling-stroke">'
        f"<title>{html.escape(box.label)} {box.score:.2f}</title></rect>"
        for box in sample.boxes
        for x1, y1, x2, y2 in (box.xyxy,)
    )
    name = html.escape(sample.key.rsplit("/", 1)[-1])
    several = f"{len(sample.boxes)} boxes" if len(sample.boxes) != 1 else "1 box"
    return (
        f'<figure><div class="frame"><svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{name}"><rect width="{width}" height="{height}" fill="#8882"/>'
        f"{picture}{boxes}</svg></div>"
        f'<figcaption><b title="{html.escape(sample.key)}">{name}</b><span>{several}</span></figcaption>'
        "</figure>"
    )


def _bars(counts: Sequence[int], color: str) -> str:
    heights = [56 * count / max([*counts, 1]) for count in counts]
    bars = "".join(
        f'<rect x="{10 * i + 0.7:.1f}" y="{58 - heights[i]:.1f}" width="8.6" height="{heights[i]:.1f}" '
        f'rx="1" fill="{color}"><title>{i / _BARS:.2f} to {(i + 1) / _BARS:.2f}: {count:,}</title></rect>'
        for i, count in enumerate(counts)
        if count
    )
    line = '<path d="M0 58.5H200" stroke="currentColor" opacity=".25"/>'
    return (
        f'<div><svg viewBox="0 0 200 60" preserveAspectRatio="none">{bars}{line}</svg>'
        '<div class="ticks"><span>0</span><span>0.5</span><span>1</span></div></div>'
    )
