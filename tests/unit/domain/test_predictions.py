"""The wire format: round trips, and refusals that name the field."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.domain.errors import PredictionError
from boxdrop.domain.identity import ObjectContent, content_of, image_id, object_version
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import (
    Box,
    Candidate,
    Failure,
    Prediction,
    from_json,
    read_jsonl,
    reselect,
    select_boxes,
    to_json,
)

PREDICTION = Prediction(
    image="fruit/basket 1.jpg",
    image_id=image_id("", "fruit/basket 1.jpg"),
    version="17a-2048",
    model_version="demo@0123abcd",
    width=640,
    height=480,
    boxes=(Box("banana", 0.91, (10.5, 20.0, 110.25, 220.0), "bunch of bananas", (("apple", 0.4),)),),
    candidates=(
        Candidate("banana", "bunch of bananas", 7, 0.91, (10.5, 20.0, 110.25, 220.0)),
        Candidate("apple", "apple", 7, 0.4, (10.5, 20.0, 110.25, 220.0)),
        Candidate("banana", "banana", 9, 0.2, (300.0, 300.0, 640.0, 480.0)),
    ),
)

texts = st.text(min_size=1, max_size=20).map(lambda text: text.encode("utf-8", "replace").decode())
scores = st.integers(0, 10**6).map(lambda n: n / 10**6)
sizes = st.integers(1, 20000)


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    width, height = draw(sizes), draw(sizes)
    xs = st.integers(0, width * 1000).map(lambda n: n / 1000)
    ys = st.integers(0, height * 1000).map(lambda n: n / 1000)

    def corners() -> tuple[float, float, float, float]:
        left, right = sorted((draw(xs), draw(xs)))
        top, bottom = sorted((draw(ys), draw(ys)))
        return left, top, right, bottom

    boxes = tuple(
        Box(
            draw(texts),
            draw(scores),
            corners(),
            draw(texts),
            tuple(draw(st.lists(st.tuples(texts, scores), max_size=2))),
        )
        for _ in range(draw(st.integers(0, 3)))
    )
    candidates = tuple(
        Candidate(draw(texts), draw(texts), draw(st.integers(0, 5000)), draw(scores), corners())
        for _ in range(draw(st.integers(0, 3)))
    )
    display = draw(st.none() | texts)
    identity = draw(texts), draw(texts), draw(texts), draw(texts)
    damaged = tuple(draw(st.lists(texts, max_size=2)))
    return Prediction(*identity, width, height, boxes, candidates, display, damaged)


failures = st.builds(Failure, texts, texts, texts, texts, texts, texts, st.none() | sizes, st.none() | sizes)


@given(predictions() | failures)
def test_what_is_written_is_read_again_the_same(record: Prediction | Failure) -> None:
    line = to_json(record)
    assert "\n" not in line
    assert line.isascii()
    assert from_json(line) == record


def test_a_file_name_that_is_not_unicode_survives() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    record = Failure(name, image_id("", name), "v", "m", "corrupt", "…")
    assert from_json(to_json(record)) == record


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(to_json(PREDICTION)), **fields})


def box(**fields: Any) -> str:
    return changed(boxes=[{**json.loads(to_json(PREDICTION))["boxes"][0], **fields}])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "this is not JSON"),
        ("[]", "must be a JSON object"),
        (changed(format="boxdrop-prediction/2"), "this boxdrop reads 'boxdrop-prediction/1'"),
        (changed(image=""), "`image` must be text"),
        (changed(width=0), "`width` must be a whole number of pixels"),
        (changed(width=True), "`width` must be a whole number of pixels"),
        (changed(boxes=None), "`boxes` must be a list"),
        (changed(error={"reason": 1}), "error must hold the texts"),
        (box(label=""), "boxes[0] must have the texts"),
        (box(score=1.2), "score must be from 0 to 1, not 1.2"),
        (box(score=float("nan")), "score must be from 0 to 1, not nan"),
        (box(xyxy=[600, 0, 641, 10]), "is not inside the image of 640×480 pixels"),
        (box(xyxy=[20, 0, 10, 10]), "is not inside the image"),
        (box(xyxy=[0, 0, float("inf"), 10]), "xyxy must be four numbers"),
        (box(also=[{"score": 0.3}]), "`also` must be a list of labels"),
        (changed(damaged=[1]), "`damaged` must be a list of texts"),
        (changed(candidates=[[1, 2, 3]]), "candidates[0] must be [label, prompt"),
    ],
)
def test_an_invalid_record_is_refused_by_field(line: str, words: str) -> None:
    with pytest.raises(PredictionError) as caught:
        from_json(line, "part: line 3")
    assert str(caught.value).startswith("part: line 3: ")
    assert words in str(caught.value)


def test_a_broken_line_of_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text(to_json(PREDICTION) + "\n" + "{}\n", encoding="utf-8")
    records = read_jsonl(file)
    assert next(records) == PREDICTION
    with pytest.raises(PredictionError, match=r"predictions\.jsonl: line 2"):
        next(records)


def test_identity_depends_on_bucket_key_version_and_model() -> None:
    assert image_id("a", "b/c") != image_id("a/b", "c")
    assert image_id("bucket", "key") == "c716800ea46c49ba1f821088e94ec936"
    other = [
        Prediction("x", "i", version, model, 1, 1, ()).prediction_id
        for version in ("v1", "v2")
        for model in ("m1", "m2")
    ]
    assert len(set(other)) == 4
    assert Failure("y", "i", "v1", "m1", "r", "m").prediction_id == other[0]


def test_boxes_follow_the_thresholds_of_the_label_set() -> None:
    both = LabelSet.from_yaml("labels:\n- name: banana\n  prompts: [banana, bunch of bananas]\n- apple")
    boxes = select_boxes(PREDICTION.candidates, both, default_threshold=0.3)
    assert [(box.label, box.prompt, box.also) for box in boxes] == [
        ("banana", "bunch of bananas", (("apple", 0.4),))
    ]
    low = reselect(PREDICTION, both.with_threshold(0.15), default_threshold=0.9)
    assert [box.score for box in low.boxes] == [0.91, 0.2]
    strict = LabelSet.from_yaml("labels:\n- {name: banana, threshold: 0.95}\n- apple")
    assert [box.label for box in reselect(PREDICTION, strict, 0.3).boxes] == ["apple"]


def test_a_label_that_left_the_label_set_leaves_the_boxes() -> None:
    apples = LabelSet.from_short_form("apple")
    assert [box.label for box in reselect(PREDICTION, apples, 0.1).boxes] == ["apple"]


@pytest.mark.parametrize(
    ("version_id", "etag"),
    [
        ("3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY", None),
        ("b9b5ff49-2b1c-4d0a-a3c5-123456789012", None),  # an emulator's, which ends in digits
        (None, "5d41402abc4b2a76b9719d911017c592"),
        (None, "5d41402abc4b2a76b9719d911017c592-38"),  # uploaded in parts
    ],
)
def test_a_version_identifies_the_content_in_a_request(version_id: str | None, etag: str | None) -> None:
    version = object_version(version_id, etag and f'"{etag}"', 61022)
    assert version is not None
    size = None if version_id else 61022
    assert content_of(version) == ObjectContent(version_id, etag, size)
