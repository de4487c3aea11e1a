"""Past runs, from the data bucket alone: list them, find one, compare two."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.detector_names import shown_digest
from boxdrop.domain.errors import RunError
from boxdrop.domain.labels import Label, LabelSet
from boxdrop.iterables import chunked
from boxdrop.store.layout import RUNS
from boxdrop.store.manifests import ManifestHeader, read_header
from boxdrop.store.reports import RunSummary, read_summary

_READ_AT_ONCE: Final = 16
_SAME: Final = "="


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run in a list.

    Attributes:
        images: of its manifest.
        summary: None until the run is finished; a run whose jobs died never has one.
    """

    run_id: str
    project: str
    images: int
    summary: RunSummary | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a comparison; `change` is empty where both runs are the same."""

    about: str
    name: str
    before: str
    after: str
    change: str = ""


def list_runs(bucket: Bucket, project: str | None = None, limit: int | None = None) -> Iterator[PastRun]:
    """Stream the runs, newest first.

    Args:
        bucket: the data bucket.
        project: only its runs.
        limit: stop after this many.

    Raises:
        RunError: a summary is not valid.
    """
    run_ids = sorted(bucket.list_folders(RUNS), reverse=True)
    found = 0
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        for some in chunked(run_ids, _READ_AT_ONCE):
            for run in pool.map(lambda run_id: _past_run(bucket, run_id), some):
                if run is None or project not in (None, run.project):
                    continue
                yield run
                found += 1
                if found == limit:
                    return


def find_run(bucket: Bucket, text: str) -> str:
    """Find a run's id by a part of it, such as its last eight digits.

    Raises:
        RunError: no run matches, or more than one.
    """
    found = [run_id for run_id in bucket.list_folders(RUNS) if text in run_id]
    if text in found:
        return text
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunError(f"there is no run {text} in s3://{bucket.name}; `boxdrop runs` lists them")
    raise RunError(
        f"{len(found)} runs have {text} in their id, such as {found[-1]} and {found[-2]}; give more"
    )


def finished(bucket: Bucket, run_id: str) -> RunSummary:
    """Read a summary.

    Raises:
        RunError: the run is not finished.
    """
    summary = read_summary(bucket, run_id)
    if summary is None:
        raise RunError(f"run {run_id} has no summary: it is still running, or its jobs died")
    return summary


def images_per_s(summary: RunSummary) -> float:
    """Images that the detector saw, over the seconds from the first shard's start to the last one's end."""
    return (summary.predicted + summary.failed) / summary.seconds if summary.seconds else 0.0


def compare(
    before: RunSummary, after: RunSummary, labels_before: LabelSet, labels_after: LabelSet
) -> list[Difference]:
    """Compare two runs: labels, model, speed, counts."""
    return [
        *_compare_labels(labels_before, labels_after),
        *_compare_models(before, after),
        *_compare_speed(before, after),
        *_compare_counts(before, after),
    ]


def _past_run(bucket: Bucket, run_id: str) -> PastRun | None:
    summary = read_summary(bucket, run_id)
    if summary is not None:
        return PastRun(run_id, summary.project, summary.images, summary)
    try:
        header: ManifestHeader = read_header(bucket, run_id)
    except RunError:  # its manifest is not written yet
        return None
    return PastRun(run_id, header.project, header.images, None)


def _compare_labels(before: LabelSet, after: LabelSet) -> Iterator[Difference]:
    for name in dict.fromkeys([*before.names, *after.names]):
        if name not in after:
            yield Difference("labels", name, _label(before[name]), "", "removed")
        elif name not in before:
            yield Difference("labels", name, "", _label(after[name]), "added")
        else:
            old, new = before[name], after[name]
            changed = [
                *(["prompts"] if set(old.prompts) != set(new.prompts) else []),
                *(["threshold"] if old.threshold != new.threshold else []),
            ]
            if changed:
                yield Difference("labels", name, _label(old), _label(new), " and ".join(changed))


def _label(label: Label) -> str:
    threshold = "" if label.threshold is None else f" ≥ {label.threshold:g}"
    return ", ".join(label.prompts) + threshold


def _compare_models(before: RunSummary, after: RunSummary) -> Iterator[Difference]:
    def of(summary: RunSummary) -> dict[str, str]:
        bundle = summary.bundle
        return {
            "bundle": f"{bundle.name} {shown_digest(bundle.digest)}",
            "precision": bundle.precision,
            "model_version": summary.model_version,
            "provider": summary.provider,
            "device": summary.device,
            "instance": summary.instance_type or "",
        }

    for name, (old, new) in _pairs(of(before), of(after)):
        yield Difference("model", name, old, new, "" if old == new else "changed")


def _compare_speed(before: RunSummary, after: RunSummary) -> Iterator[Difference]:
    def of(summary: RunSummary) -> dict[str, float]:
        return {
            "images/s": images_per_s(summary),
            "seconds": summary.seconds,
            f"{summary.device_kind} seconds per 1,000": 1000
            * summary.gpu_seconds
            / max(1, summary.predicted + summary.failed),
            **({"$": summary.estimated_cost_usd} if summary.estimated_cost_usd is not None else {}),
        }

    for name, (old, new) in _pairs(of(before), of(after)):
        yield Difference("speed", name, _number(old), _number(new), _ratio(old, new))


def _compare_counts(before: RunSummary, after: RunSummary) -> Iterator[Difference]:
    for name in ("images", "predicted", "failed", "boxes"):
        old, new = getattr(before, name), getattr(after, name)
        yield Difference("counts", name, f"{old:,}", f"{new:,}", _ratio(old, new))
    # Runs differ in their images, so labels are compared by image.
    boxes = [
        {name: n / max(1, each.predicted) for name, n in each.boxes_by_label.items()}
        for each in (before, after)
    ]
    for name, (old, new) in _pairs(*boxes):
        old, new = old or 0.0, new or 0.0
        yield Difference("boxes an image", name, f"{old:.2f}", f"{new:.2f}", _ratio(old, new))


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in dict.fromkeys([*before, *after]):
        yield name, (before.get(name), after.get(name))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _ratio(old: float | None, new: float | None) -> str:
    if old == new or old is None or new is None:
        return ""
    return f"{100 * (new - old) / old:+.0f} %" if old else "new"
