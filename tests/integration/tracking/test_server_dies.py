"""ZenML goes away in the middle: predictions go on, summaries wait, and each run is registered once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from boxdrop.domain.errors import TrackingError
from boxdrop.servers import processes
from boxdrop.tracking.register import connect
from boxdrop.tracking.track import Tracking
from tests.integration.tracking.conftest import System, boxdrop
from tests.integration.tracking.test_tracking import assert_complete
from tests.ports import free_port
from tests.zenml_server import RunningZenML, running, with_empty_database

pytestmark = pytest.mark.slow


class StoreThatCalls:
    """A store that calls somebody before a step of this number is created."""

    def __init__(self, store: Any, step: int, call: Callable[[], None]) -> None:
        self._store, self._left, self._call = store, step, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def create_run_step(self, request: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self._call()
        return self._store.create_run_step(request)


def kill(port: int) -> None:
    """As the kernel does when memory runs out."""
    (pid,) = processes.find(["--host", "127.0.0.1", "--port", str(port)])
    os.killpg(pid, signal.SIGKILL)


@contextmanager
def server_at(folder: Path, port: int) -> Iterator[RunningZenML]:
    from boxdrop.tracking.server import ZenMLServer

    server = ZenMLServer(folder) if folder.exists() else with_empty_database(folder)
    with running(server, {}, port) as zenml:
        yield zenml


def test_a_server_that_is_killed_in_the_middle_has_each_run_once_when_it_is_back(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, port = tmp_path / "zenml", free_port()
    monkeypatch.setattr(urllib3.Retry, "sleep", lambda *_: None)  # zenml tries for half a minute
    half_done = system.run(images=2)
    with server_at(folder, port) as zenml:
        tracker = connect(zenml.store, system.data.name)
        tracking = Tracking(tracker, system.data)
        store = StoreThatCalls(tracker._store, 2, lambda: kill(port))
        monkeypatch.setattr(tracker, "_store", store)
        with pytest.raises(TrackingError, match="track sync"):
            tracking.track(half_done.run_id)

    meanwhile = system.run(images=2)  # the job knows nothing of ZenML
    assert meanwhile.predicted == 2
    sync = ("track", "sync", "--data-bucket", system.data.name)
    variables = {"ZENML_STORE_URL": zenml.url, "ZENML_STORE_API_KEY": zenml.store.key or ""}
    process = boxdrop(*sync, **variables)
    said = process.communicate()[0]
    assert process.returncode == 1
    assert "cannot be reached: connection refused; runs wait in the data bucket" in " ".join(said.split())
    assert list(system.data.list("tracked/")) == []

    with server_at(folder, port) as zenml:
        process = boxdrop(*sync, **variables)
        said = process.communicate()[0]
        assert process.returncode == 0, said
        # The first had its row already; what it lacked was added.
        assert "1 registered; 1 already there" in " ".join(said.split())
        connect(zenml.store, system.data.name)
        for summary in (half_done, meanwhile):
            assert_complete(summary)
