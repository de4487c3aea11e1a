"""The card of a trained detector: what it learned from, how good it is, and how it got there."""

from collections.abc import Sequence
from typing import Final

from boxdrop.detect.settings import HELD_OUT
from boxdrop.training.figures import SplitFigures
from boxdrop.training.folder import Ended
from boxdrop.training.plan import LEARNT, SMALL, WATCHED, Epoch, Plan

_ROWS: Final = 20
_BAR: Final = 20


def card(
    plan: Plan,
    ended: Ended,
    epochs: Sequence[Epoch],
    figures: Sequence[SplitFigures],
    images: dict[str, int],
    threshold: float,
) -> str:
    """The card as Markdown.

    Args:
        plan: of the training.
        ended: how it ended.
        epochs: the curve.
        figures: of the watched and the held-out images.
        images: how many each split has.
        threshold: the bundle's default.
    """
    start = "nothing (random weights)" if plan.start == SMALL else plan.start
    lines = [
        f"# {_cell(plan.name)}",
        "",
        f"Trained by boxdrop on the data set **{_cell(plan.dataset)}** (`{plan.digest}`) of the project "
        f"**{_cell(plan.project)}**, from {_cell(start)}.",
        "",
        f"It learned from {images.get(LEARNT, 0):,} images. {images.get(WATCHED, 0):,} images decided when "
        f"to end, and {images.get(HELD_OUT, 0):,} were held out. Ended {ended.why}; the best epoch is "
        f"{ended.epoch}. It ran on: {ended.device}. Seed {plan.seed}, batch {plan.batch}, learning rate "
        f"{plan.rate:g}, mirrored: {'yes' if plan.mirror else 'no'}, mosaics: {plan.mosaic:g}.",
        "",
    ]
    for each in figures:
        lines += _table(each, threshold)
    lines += _curve(epochs)
    return "\n".join(lines) + "\n"


_TITLES: Final = {
    WATCHED: "Validation images (they decided when to end, so they flatter)",
    HELD_OUT: "Test images (held out)",
}


def _table(each: SplitFigures, threshold: float) -> list[str]:
    title = f"## {_TITLES.get(each.split, each.split)}"
    if not each.boxes:
        return [title, "", f"None: the data set has no split {each.split} with boxes.", ""]
    rows = [_row(_cell(one.name), f"{one.boxes:,}", _share(one.ap50), _share(one.ap)) for one in each.labels]
    return [
        title,
        "",
        f"{each.images:,} images. At the threshold {threshold:g}: precision {each.precision:.3f}, recall "
        f"{each.recall:.3f}.",
        "",
        _row("label", "boxes", "AP50", "AP"),
        _row("---", "---:", "---:", "---:"),
        *rows,
        _row("**mean**", f"{each.boxes:,}", _share(each.ap50), _share(each.ap)),
        "",
    ]


def _curve(epochs: Sequence[Epoch]) -> list[str]:
    step = max(1, -(-len(epochs) // _ROWS))
    shown = [each for number, each in enumerate(epochs, 1) if number % step == 0 or number == len(epochs)]
    rows = []
    for each in shown:
        bar = "" if each.ap is None else f"`{'█' * round(_BAR * each.ap):<{_BAR}}`"
        rows.append(_row(str(each.epoch), f"{each.loss:.2f}", _share(each.ap50), _share(each.ap), bar))
    return [
        "## Curve",
        "",
        _row("epoch", "loss", "AP50, validation", "AP, validation", ""),
        _row("---:", "---:", "---:", "---:", "---"),
        *rows,
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
