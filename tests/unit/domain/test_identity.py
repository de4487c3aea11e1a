"""Ids of runs."""

from datetime import UTC, datetime

import pytest

from boxdrop.domain.errors import RunError
from boxdrop.domain.identity import check_run_id, earliest_run_id, new_run_id, time_of_run

RUN = "20261124T215700Z-0123abcd"
BEGIN = datetime(2026, 11, 24, 21, 57, tzinfo=UTC)


def test_a_run_id_begins_with_its_time() -> None:
    run_id = new_run_id(BEGIN)
    assert run_id.startswith("20261124T215700Z-")
    assert check_run_id(run_id) == run_id
    assert new_run_id(BEGIN) != run_id


@pytest.mark.parametrize("run_id", ["", "../x", RUN.upper(), f"{RUN}\n", f"{RUN}/x"])
def test_an_invalid_run_id_is_refused(run_id: str) -> None:
    with pytest.raises(RunError, match="is not a run id"):
        check_run_id(run_id)


def test_the_time_of_a_run_is_read_from_its_id() -> None:
    assert time_of_run(new_run_id(BEGIN)) == BEGIN
    assert time_of_run(RUN) == BEGIN


def test_runs_of_a_moment_compare_as_later_than_it() -> None:
    assert earliest_run_id(BEGIN) < new_run_id(BEGIN)
    assert new_run_id(BEGIN) < earliest_run_id(BEGIN.replace(second=1))
