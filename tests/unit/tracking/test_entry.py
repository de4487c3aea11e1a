"""What ZenML is told of a run, and the pages that it shows: plain data, without ZenML."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from boxdrop.detect.lessons import encode_heads
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Figures, Lesson, TaughtImage, TaughtLabel
from boxdrop.store.reports import (
    RunSummary,
    Sample,
    SampleBox,
    ShardWork,
    Stages,
    SummaryBundle,
    summary_from_json,
)
from boxdrop.tracking.entry import Published, make_entry
from boxdrop.tracking.pages import sample_sheet, score_page

BEGAN = datetime(2026, 11, 24, 22, 0, 0, tzinfo=UTC)
LABELS = "labels: [banana, {name: '<b>apple</b>', color: '#112233'}]\n"
SAMPLE = Sample(
    "fruit/<1>.jpg",
    "v1",
    400,
    300,
    (SampleBox("banana", 0.91, (10, 20, 110, 220)), SampleBox("gone", 0.5, (0, 0, 5, 5))),
)


def summary(**changes: Any) -> RunSummary:
    def shard(index: int) -> ShardWork:
        stages = Stages(fetch=1.0, detect=5.25)
        return ShardWork(index, BEGAN, BEGAN + timedelta(seconds=10), 50, 50, 0, 5.0, stages, 500.0)

    made = RunSummary(
        run_id="20261124T215800Z-0123abcd",
        project="fruit",
        bucket="photos",
        generation=3,
        labels="ab" * 32,
        caption="fruit & more",
        model_version="demo@12345678",
        bundle=SummaryBundle("demo", "cd" * 32, "owlvit", "fp32"),
        provider="CPUExecutionProvider",
        device="processor",
        images=100,
        predicted=97,
        failed=1,
        superseded=1,
        gone=1,
        boxes=2,
        boxes_by_label={"banana": 1, "gone": 1},
        score_histograms={"banana": (0,) * 18 + (1, 0), "gone": (0,) * 10 + (1,) + (0,) * 9},
        failures_by_reason={"truncated": 1},
        parts=(),
        samples=(SAMPLE,),
        launcher="batch",
        job_ids=("job:0", "job:1"),
        instance_type=None,
        spot=None,
        shards=(shard(0), shard(1)),
        created_at=BEGAN - timedelta(seconds=100),
        started_at=BEGAN,
        finished_at=BEGAN + timedelta(seconds=10),
        seconds=10.0,
        gpu_seconds=20.0,
        estimated_cost_usd=None,
    )
    return replace(made, **changes)


def entry(made: RunSummary, published: Published | None = None, thumbnails: Any = None) -> Any:
    lines = [
        {"format": "boxdrop-manifest/1"},
        *({"key": f"fruit/{n}|.jpg", "version": "v"} for n in range(100)),
    ]
    manifest = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return make_entry(
        made, manifest=manifest, labels=LABELS, thumbnails=thumbnails or {}, published=published
    )


def test_an_array_job_is_one_run_with_the_work_of_all_its_shards() -> None:
    metadata = entry(summary()).metadata
    assert metadata["shards"] == 2
    assert metadata["jobs"] == ["job:0", "job:1"]
    assert metadata["seconds_by_stage"] == {"fetch": 2.0, "detect": 10.5}
    assert metadata["images_per_s"] == 9.8


def test_what_is_not_known_is_left_out() -> None:
    metadata = entry(summary()).metadata
    assert not {"estimated_cost_usd", "instance_type", "spot", "tasks", "label_studio_project"} & set(
        metadata
    )
    assert None not in metadata.values()
    told = entry(summary(), Published(7, 97, 0, None)).metadata
    assert (told["label_studio_project"], told["tasks"]) == (7, 97)


def test_a_run_with_a_lesson_has_its_cross_validated_figures() -> None:
    number = "0123456789abcdef"
    labels = f'lesson: "{number}"\n{LABELS}'
    heads = encode_heads(np.ones((1, 130), np.float32))
    lesson = Lesson(
        project="fruit",
        bundle="demo",
        bundle_digest="cd" * 32,
        width=128,
        made_at=BEGAN,
        labels=(TaughtLabel("banana", 1, ("banana",), "mixed", 9, heads),),
        images=(TaughtImage("a" * 32, "v1"),),
        boxes=9,
        before=Figures(0.5, 0.4, 0.44, None),
        after=Figures(0.7, 0.6, 0.65, 0.6),
        figures=(),
    )
    told = make_entry(summary(), manifest=b"", labels=labels, thumbnails={}, published=None, lesson=lesson)
    assert {key: value for key, value in told.metadata.items() if "lesson" in key} == {
        "lesson": number,
        "lesson_images": 1,
        "lesson_boxes": 9,
        "lesson_labels": ["banana"],
        "lesson_f1_of_words": 0.44,
        "lesson_f1": 0.65,
        "lesson_ap": 0.6,
        "lesson_made_at": BEGAN.isoformat(),
    }
    lost = make_entry(summary(), manifest=b"", labels=labels, thumbnails={}, published=None)
    assert lost.metadata["lesson"] == number
    assert (
        "lesson"
        not in make_entry(summary(), manifest=b"", labels=LABELS, thumbnails={}, published=None).metadata
    )


def test_steps_have_the_times_at_which_they_happened() -> None:
    last_task = BEGAN + timedelta(seconds=25)
    told = entry(summary(), Published(7, 97, 0, last_task))
    dataset, predict, sync = told.steps
    assert dataset.started_at == datetime(2026, 11, 24, 21, 58, tzinfo=UTC)
    assert dataset.finished_at == BEGAN - timedelta(seconds=100)
    assert (predict.started_at, predict.finished_at) == (BEGAN, BEGAN + timedelta(seconds=10))
    assert (sync.started_at, sync.finished_at) == (predict.finished_at, last_task)
    assert (told.started_at, told.finished_at) == (dataset.started_at, last_task)


def test_no_step_ends_before_it_begins_when_clocks_differ() -> None:
    odd = summary(created_at=BEGAN - timedelta(seconds=500), finished_at=BEGAN - timedelta(seconds=1))
    for step in entry(odd, Published(7, 1, 0, BEGAN - timedelta(seconds=60))).steps:
        assert step.started_at <= step.finished_at


def test_artifacts_are_kept_as_they_were_with_a_page_for_people() -> None:
    manifest, labels = entry(summary()).steps[0].artifacts
    assert manifest.body.count(b"\n") == 101
    assert "… and 50 more" in manifest.shown.decode()
    assert "`fruit/0¦.jpg`" in manifest.shown.decode()
    assert labels.body.decode() == LABELS
    predictions = entry(summary()).steps[1].artifacts[0]
    assert summary_from_json(predictions.body) == summary()


def test_a_sheet_draws_boxes_in_the_colours_of_labels_and_runs_nothing() -> None:
    label_set = LabelSet.from_yaml(LABELS)
    page = sample_sheet("a & b", "line", label_set, {"banana": 1}, [SAMPLE], {SAMPLE.key: b"jpeg"})
    assert "a &amp; b" in page
    assert "<b>apple</b>" not in page
    assert 'viewBox="0 0 400 300"' in page
    assert f'stroke="{label_set["banana"].color}"' in page
    assert 'x="10.0" y="20.0" width="100.0" height="200.0"' in page
    assert "data:image/jpeg;base64,anBlZw==" in page
    assert not re.search(r"<script|<link|https?://|on\w+=", page)


def test_an_image_that_is_gone_has_its_boxes_on_an_empty_frame() -> None:
    page = sample_sheet("t", "l", LabelSet.from_yaml(LABELS), {}, [SAMPLE], {})
    assert "<image" not in page
    assert page.count("vector-effect") == 2


def test_scores_have_a_row_a_label_also_for_those_that_found_nothing_or_have_left() -> None:
    page = score_page(summary(), LabelSet.from_yaml(LABELS))
    assert page.count('class="score"') == 3
    assert "0.90 to 0.95: 1" in page
    assert "&lt;b&gt;apple&lt;/b&gt;" in page
