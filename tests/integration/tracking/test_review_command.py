"""`boxdrop track review`: from verified work to a run in the store of this machine."""

from pathlib import Path

import pytest

from tests.integration.pipeline.conftest import client, ledger, world
from tests.integration.pipeline.test_retry_and_apply import Call, call
from tests.integration.pipeline.test_tune import verified
from tests.integration.pipeline.world import World
from tests.moto_server import aws, endpoint

__all__ = ["aws", "call", "client", "endpoint", "ledger", "verified", "world"]

pytestmark = pytest.mark.slow


def test_verified_work_is_counted_by_run_and_a_run_that_zenml_lacks_is_left_out(
    verified: World, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    for name in ("ZENML_STORE_URL", "ZENML_STORE_API_KEY"):
        monkeypatch.setenv(name, "")
    done = call("track", "review", "fruit")
    assert done.exit_code == 0, done.output
    assert "fruit: 1 run with verified images, 0 with new figures in ZenML" in done.output
    other = call("track", "review", "other")
    assert other.exit_code == 1
    assert "there is no project other" in other.output
