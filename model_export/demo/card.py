"""The model card of the demo detector, written from its figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from model_export.demo.art import ICON_SETS
from model_export.demo.evaluate import PHRASES, THE_THREE
from model_export.demo.names import HELD_OUT
from model_export.demo.pools import IMAGE_SIZE


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def write_card(results: dict[str, Any], curve: Sequence[dict[str, Any]]) -> str:
    """Markdown of the card.

    Args:
        results: of `evaluate.evaluate`.
        curve: lines of `curve.jsonl`, oldest first; may be empty.
    """
    level = results["threshold"]
    sets = (
        ("drawing styles seen in training", results["known_styles"]),
        ("a style never seen (Twemoji)", results["unseen_style"]),
    )
    overview = _table(
        ["scenes", "mAP50", *THE_THREE, f"precision ≥ {level:g}", f"recall ≥ {level:g}"],
        [
            [title, *(_share(part[key]) for key in ("mAP50", *THE_THREE, "precision", "recall"))]
            for title, part in sets
        ],
    )
    baskets = _table(
        ["fruit-basket scenes", *THE_THREE, "precision", "recall"],
        [
            [title, *(_share(results[key][name]) for name in (*THE_THREE, "precision", "recall"))]
            for title, key in (("styles seen", "baskets"), ("style never seen", "baskets_unseen_style"))
        ],
    )
    absent = _table(
        ["asked for, and not there", "no box, styles seen", "no box, style never seen"],
        [
            [title, *(f"{100 * part[key]['silent']:.1f} %" for _, part in sets)]
            for title, key in (
                ("a trained name", "absent_names"),
                ("a word that training never saw", "absent_words"),
            )
        ],
    )
    phrases = _table(
        ["prompt", "stands for", "AP50, styles seen", "AP50, baskets"],
        [
            [
                f"`{phrase}`",
                name,
                _share(results["known_styles"]["phrases"][phrase]),
                _share(results["baskets"]["phrases"][phrase]),
            ]
            for phrase, name in PHRASES.items()
        ],
    )
    held_out = ", ".join(f"{name} {_share(value)}" for name, value in results["held_out"]["ap"].items())
    weak = sorted(
        ((value, name) for name, value in results["known_styles"]["ap"].items() if value is not None)
    )[:8]
    moves = "; ".join(
        f"{title}: {_share(min(part['again']['mAP50']))} to {_share(max(part['again']['mAP50']))}, and "
        "pineapple, banana and apple over all of them "
        f"{', '.join(_share(part['again'][fruit]) for fruit in THE_THREE)}"
        for title, part in sets
    )
    art = _table(
        ["style", "author", "licence", "home", "used for"],
        [
            [
                f"{icons.title} (`{icons.package}` {icons.version})",
                icons.author,
                icons.licence,
                icons.homepage,
                {"training": "training", "evaluation": "evaluation only"}[icons.use],
            ]
            for icons in ICON_SETS
        ],
    )
    last = curve[-1] if curve else None
    trained = "Trained"
    if last:
        trained = f"Trained for {last['minutes']:.0f} minutes and {last['step']:,} steps"
        if last.get("start"):
            trained = f"Trained in several stretches, the last of {last['minutes']:.0f} minutes and "
            trained += f"{last['step']:,} steps,"
    return f"""---
license: apache-2.0
library_name: boxdrop
pipeline_tag: zero-shot-object-detection
---

# boxdrop's demo detector

A small open-vocabulary detector, so that boxdrop shows real boxes on the first day, offline and without a
GPU. It is transformers' OWL-ViT (`OwlViTForObjectDetection`, classes unchanged), {IMAGE_SIZE} px, trained on
drawn scenes.

**It knows drawings, not photographs.** For photographs, export OWLv2:
`python -m model_export google/owlv2-base-patch16-ensemble --out …`.

**Its vocabulary is a list.** It knows {len(results["names"])} names with their synonyms, plurals and common
adjectives, and stays silent for most other words. Names held out of training are found like this: {held_out}
(mAP50 {_share(results["held_out"]["mAP50"])} on {results["held_out"]["scenes"]} scenes); expect no more from
other words outside the list.

## Figures

Measured on the exported bundle through `boxdrop.detect`, on {results["known_styles"]["scenes"]} scenes a
line, of 448 × 448 to 800 × 600 px, with seeds and photographs that training never saw. AP at IoU 0.5 by
pycocotools.

{overview}

A set has some ten objects of most names, so figures move. mAP50 of five other sets of as many scenes, in
{moves}.

{baskets}

{absent}

{phrases}

The weakest names in known styles: {", ".join(f"{name} {_share(value)}" for value, name in weak)}.

## Training

{trained} on two CPU cores, shared with other work. The recipe and its reasons are in `model_export/demo/`:
points for all phrases first (`vocabulary.py`), then single objects (`glimpses.py`), then whole scenes
(`train.py`): icons of seven styles on photographs of scikit-image and scikit-learn and on computed grounds;
unlabelled faces, hands, patches and blobs among them.

To make it again: `python -m model_export.demo --help`. Seeds are fixed; how many steps fit into the minutes
depends on the machine, so the weights will differ a little. To teach it more:
`python -m model_export.demo train --start model_export/demo/weights`.

## Names

{", ".join(results["names"])}.

Held out: {", ".join(name.text for name in HELD_OUT)}.

## Whose art it learnt from

{art}

Icons of the CC BY 4.0 sets were scaled, turned and recoloured. No icon is in the bundle.
"""
