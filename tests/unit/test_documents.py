"""Dataclasses as JSON, checked by their types when they are read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.documents import DocumentError, from_json, to_json


@dataclass(frozen=True)
class Inner:
    name: str
    corners: tuple[float, float]


@dataclass(frozen=True)
class Outer:
    count: int
    share: float
    is_new: bool
    at: datetime
    kind: Literal["a", "b"]
    inner: Inner
    all: tuple[Inner, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    note: str | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count must be 0 or more")


NOON = datetime(2026, 11, 24, 12, 0, 0, 123000, UTC)
GOOD = Outer(1, 0.5, True, NOON, "a", Inner("ü\u2028", (0.0, 1.5)), (Inner("x", (1.0, 2.0)),), {"k": 3})


def spoilt(**changes: Any) -> str:
    return json.dumps(json.loads(to_json(GOOD, format="test/1")) | changes)


@given(
    st.builds(
        Outer,
        count=st.integers(0, 2**60),
        share=st.floats(allow_nan=False, allow_infinity=False),
        is_new=st.booleans(),
        at=st.datetimes(timezones=st.just(UTC)),
        kind=st.sampled_from(["a", "b"]),
        inner=st.builds(Inner, st.text(), st.tuples(*[st.floats(-9, 9)] * 2)),
        all=st.lists(st.builds(Inner, st.text(), st.tuples(*[st.floats(-9, 9)] * 2)), max_size=3).map(tuple),
        counts=st.dictionaries(st.text(), st.integers()),
        note=st.none() | st.text(),
    )
)
def test_what_was_written_is_read_back(document: Outer) -> None:
    line = to_json(document)
    assert line.isascii()
    assert "\n" not in line
    assert from_json(Outer, line) == document


def test_times_are_utc_with_a_z() -> None:
    assert json.loads(to_json(GOOD))["at"] == "2026-11-24T12:00:00.123000Z"


def test_times_of_other_precisions_and_zones_are_read() -> None:
    for text in ("2026-11-24T12:00:00.123Z", "2026-11-24T14:00:00.123+02:00"):
        assert from_json(Outer, spoilt(at=text)).at == NOON


def test_fields_of_a_newer_program_are_passed_over() -> None:
    assert from_json(Outer, spoilt(news=[1]), format="test/1") == GOOD


def test_fields_with_a_default_may_be_missing() -> None:
    fields = json.loads(to_json(GOOD))
    del fields["note"], fields["counts"]
    assert from_json(Outer, json.dumps(fields)).counts == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        (spoilt(format="test/2"), "format is 'test/2'; this boxdrop reads 'test/1'"),
        (spoilt(count="1"), "`count` must be a whole number, not '1'"),
        (spoilt(count=True), "`count` must be a whole number, not True"),
        (spoilt(count=-1), "count must be 0 or more"),
        (spoilt(share="x"), "`share` must be a number"),
        (spoilt(share=float("nan")), "`share` must be a number"),
        (spoilt(is_new=1), "`is_new` must be true or false"),
        (spoilt(at="yesterday"), "`at` must be a time"),
        (spoilt(at="2026-11-24T12:00:00"), "`at` must be a time"),
        (spoilt(kind="c"), "`kind` must be one of 'a', 'b', not 'c'"),
        (spoilt(inner={"name": "x"}), "`inner.corners` is missing"),
        (spoilt(inner={"name": "x", "corners": [1]}), "`inner.corners` must have 2 entries, not 1"),
        (spoilt(inner=None), "`inner` must be an object, not None"),
        (spoilt(all=[{"name": 1, "corners": [1, 2]}]), r"`all\[0\].name` must be text, not 1"),
        (spoilt(all={}), "`all` must be a list"),
        (spoilt(counts={"k": "v"}), "`counts.k` must be a whole number"),
        (spoilt(note=3), "`note` must be text, not 3"),
    ],
)
def test_what_is_not_right_is_named(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        from_json(Outer, text, format="test/1")
