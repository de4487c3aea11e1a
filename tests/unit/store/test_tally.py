"""Counts of parts, of shards and of a whole run."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.domain.errors import RunError
from boxdrop.domain.identity import image_id
from boxdrop.domain.predictions import Box, Failure, Prediction, Record
from boxdrop.pipeline.findings import findings_of
from boxdrop.store.layout import PartName
from boxdrop.store.parts import Part
from boxdrop.store.reports import (
    SAMPLES,
    SCORE_BINS,
    Counts,
    ShardReport,
    ShardWork,
    Stages,
    SummaryBundle,
    summary_from_json,
    summary_to_json,
)
from boxdrop.store.tally import Tally, summarise
from tests.unit.store.test_manifests import BEGIN, RUN, header


def record(number: int, *scores: float) -> Prediction:
    key = f"fruit/{number}.jpg"
    boxes = tuple(Box("apple", score, (0.0, 0.0, 9.0, 9.0), "apple") for score in scores)
    return Prediction(f"s3://images/{key}", image_id("images", key), "v", "demo@0", 10, 10, boxes)


def failure(number: int) -> Failure:
    key = f"fruit/{number}.jpg"
    return Failure(f"s3://images/{key}", image_id("images", key), "v", "demo@0", "truncated", "broken: mend")


def part(*records: Record, superseded: int = 0, gone: int = 0) -> Part:
    return Part(PartName("fruit", RUN, 0, 1), records, superseded, gone)


def count(*parts: Part) -> Counts:
    tally = Tally()
    for each in parts:
        tally.add(each)
    return tally.counts


def test_parts_are_counted() -> None:
    counts = count(part(record(1, 0.99, 0.5), record(2)), part(failure(3), superseded=2, gone=1))
    assert (counts.predicted, counts.failed, counts.superseded, counts.gone) == (2, 1, 2, 1)
    assert counts.images == 6
    assert counts.boxes_by_label == {"apple": 2}
    assert counts.failures_by_reason == {"truncated": 1}
    assert [(bin, n) for bin, n in enumerate(counts.score_histograms["apple"]) if n] == [(10, 1), (19, 1)]


def test_images_with_damaged_metadata_are_counted_and_said() -> None:
    shards = []
    for shard in range(2):
        records = [record(8 * shard + number, 0.9) for number in range(8)]
        shards.append(report(shard, count(part(replace(records[0], damaged=("gAMA",)), *records[1:]))))
    summary = summarise(header(16), BUNDLE, None, shards)
    assert summary.damaged == 2
    said = "2 images have damaged metadata, which was ignored: the pixels are whole"
    assert findings_of(summary) == (said,)
    assert summary_from_json(summary_to_json(summary), "summary") == summary


@pytest.mark.parametrize(("score", "bin"), [(0.0, 0), (0.049, 0), (0.05, 1), (0.95, 19), (1.0, 19)])
def test_a_bin_holds_its_lower_edge_and_the_last_one_holds_1(score: float, bin: int) -> None:
    histogram = count(part(record(1, score))).score_histograms["apple"]
    assert len(histogram) == SCORE_BINS
    assert histogram.index(1) == bin


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 999), st.floats(0, 1)), max_size=20), max_size=8),
    st.randoms(use_true_random=False),
)
@pytest.mark.slow
def test_the_counts_do_not_depend_on_how_a_run_is_divided(images: Any, random: Any) -> None:
    seen: set[int] = set()
    parts = []
    for some in images:
        fresh = [(n, score) for n, score in some if n not in seen and not seen.add(n)]  # type: ignore[func-returns-value]
        parts.append(part(*(record(n, *([score] if score > 0.3 else [])) for n, score in fresh), gone=1))
    whole = count(*parts)
    shards = [parts[i::3] for i in range(3)]
    random.shuffle(shards)
    tally = Tally()
    for shard in shards:
        tally.merge(count(*shard))
    assert tally.counts == whole


def test_samples_are_images_with_boxes_if_there_are_any() -> None:
    empty = [record(n) for n in range(50)]
    full = [record(n, 0.9) for n in range(50, 60)]
    samples = count(part(*empty, *full)).samples
    assert len(samples) == SAMPLES
    assert [bool(sample.boxes) for sample in samples] == [True] * 10 + [False] * 2
    assert samples[0].key.startswith("fruit/")


def report(index: int, counts: Counts, **changes: Any) -> ShardReport:
    begin = BEGIN + timedelta(seconds=10 * index)
    work = ShardWork(index, begin, begin + timedelta(seconds=30), 8, 8, 0, 1.0, Stages(), 100.0)
    fields: dict[str, Any] = {
        "run_id": RUN,
        "work": work,
        "counts": counts,
        "provider": "CUDAExecutionProvider",
        "device": "Tesla T4",
        "launcher": "batch",
        "job_id": f"job:{index}",
        "instance_type": "g4dn.xlarge",
        "spot": True,
        "usd_per_hour": 0.36,
    }
    return ShardReport(**(fields | changes))


BUNDLE = SummaryBundle("demo", "1" * 64, "owlvit", "fp32")


def test_a_summary_adds_up_its_shards() -> None:
    shards = [report(n, count(part(*(record(8 * n + i, 0.9) for i in range(8))))) for n in range(2)]
    summary = summarise(header(16), BUNDLE, "fruit baskets", shards)
    assert (summary.images, summary.predicted, summary.boxes) == (16, 16, 16)
    assert (summary.seconds, summary.gpu_seconds, summary.estimated_cost_usd) == (40.0, 60.0, 0.006)
    assert summary.job_ids == ("job:0", "job:1")
    assert (summary.provider, summary.instance_type, summary.spot) == (
        "CUDAExecutionProvider",
        "g4dn.xlarge",
        True,
    )
    assert len(summary.parts) == 4


def test_a_cost_is_not_guessed() -> None:
    counts = count(part(*(record(n) for n in range(8))))
    shards = [report(0, counts), report(1, counts, usd_per_hour=None, spot=None, instance_type="g6.xlarge")]
    summary = summarise(header(16), BUNDLE, None, shards)
    assert summary.estimated_cost_usd is None
    assert summary.instance_type == "g4dn.xlarge, g6.xlarge"
    assert summary.spot is True


def test_reports_that_do_not_add_up_make_no_summary() -> None:
    counts = count(part(*(record(n) for n in range(8))))
    with pytest.raises(RunError, match="1 reports about 8 images, but its manifest has 2 shards and 16"):
        summarise(header(16), BUNDLE, None, [report(0, counts)])
