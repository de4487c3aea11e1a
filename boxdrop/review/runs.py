"""What people changed, run by run: the figures that ZenML keeps beside each run."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from boxdrop.assessment.intervals import Share
from boxdrop.review.figures import Figures, Tally, split
from boxdrop.review.reviewed import LeftOut, Reviewed


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What people made of the boxes of a run.

    Attributes:
        whole: all labels.
        labels: by label.
    """

    whole: Figures
    labels: Mapping[str, Figures]


def count_by_run(reviewed: Iterable[Reviewed | LeftOut]) -> dict[str, RunFigures]:
    """Count a stream of verified images by the run that made their boxes.

    Images whose boxes people did not see, or of which it is unknown what they started from, are left out.

    Args:
        reviewed: as `boxdrop.review.reviewed.read_reviewed` streams it.
    """
    whole: dict[str, Tally] = defaultdict(Tally)
    labels: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
    for each in reviewed:
        if isinstance(each, LeftOut) or each.outcomes is None or each.row.run_id is None:
            continue
        run_id = each.row.run_id
        whole[run_id].add(each.outcomes, each.annotation, is_image=True)
        for label, part in split(each.outcomes, lambda boxes: [box.label for box in boxes]).items():
            labels[run_id][label].add(part, each.annotation)
    return {
        run_id: RunFigures(
            whole[run_id].figures(), {name: labels[run_id][name].figures() for name in sorted(labels[run_id])}
        )
        for run_id in sorted(whole)
    }


def metadata_of(figures: RunFigures) -> dict[str, Any]:
    """The figures as metadata of a run; all names begin with ``review_``. Shares have 95 % intervals."""
    whole = figures.whole
    found: dict[str, Any] = {
        "images": whole.images,
        "untouched": whole.untouched,
        "kept": whole.kept,
        "adjusted": whole.adjusted,
        "relabelled": whole.relabelled,
        "deleted": whole.deleted,
        "added": whole.added,
        **_share("precision", whole.precision),
        **_share("recall", whole.recall),
        "adjusted_iou": whole.median_iou,
        "seconds_per_image": whole.seconds.median,
        "precision_by_label": _by_label(figures.labels, "precision"),
        "recall_by_label": _by_label(figures.labels, "recall"),
    }
    return {f"review_{name}": value for name, value in found.items() if value not in (None, {})}


def _share(name: str, share: Share) -> dict[str, float]:
    if share.value is None:
        return {}
    return {
        name: round(share.value, 4),
        f"{name}_low": round(share.low, 4),
        f"{name}_high": round(share.high, 4),
    }


def _by_label(labels: Mapping[str, Figures], name: str) -> dict[str, float]:
    shares: dict[str, Share] = {label: getattr(each, name) for label, each in labels.items()}
    return {label: round(each.value, 4) for label, each in shares.items() if each.value is not None}
