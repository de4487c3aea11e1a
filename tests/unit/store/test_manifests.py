"""How a manifest divides a run into shards and parts."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.domain.errors import RunError
from boxdrop.store.manifests import ManifestHeader, PinnedBundle

RUN = "20261124T215700Z-0123abcd"
BEGIN = datetime(2026, 11, 24, 21, 57, tzinfo=UTC)


def header(images: int, part_images: int = 4, shard_images: int = 8) -> ManifestHeader:
    return ManifestHeader(
        run_id=RUN,
        project="fruit",
        bucket="images",
        generation=1,
        labels="0" * 64,
        bundle=PinnedBundle("demo", "1" * 64),
        model_version="demo@00000000",
        images=images,
        created_at=BEGIN,
        part_images=part_images,
        shard_images=shard_images,
    )


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 5))
def test_shards_and_parts_cover_every_line_once(images: int, part_images: int, parts: int) -> None:
    run = header(images, part_images, part_images * parts)
    by_shard = [run.parts(shard) for shard in range(run.shards)]
    assert [part for some in by_shard for part in some] == run.parts()
    lines = [line for part in run.parts() for line in range(part.first, part.last)]
    assert lines == list(range(images))
    assert all(0 < len(some) <= parts for some in by_shard)


def test_a_shard_that_the_run_does_not_have_is_refused() -> None:
    with pytest.raises(RunError, match="has 2 shards, numbered from 0; there is no 2"):
        header(16).parts(2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": -1}, "images must be 0 or more"),
        ({"part_images": 0}, "part_images and shard_images 1 or more"),
        ({"shard_images": 6}, "must be a multiple of part_images"),
        ({"run_id": "run#1"}, "use new_run_id"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(header(16), **changes)
