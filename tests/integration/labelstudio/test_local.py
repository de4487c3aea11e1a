"""The real server through `boxdrop local`: what people did survives everything.

What needs no real server is in tests/unit/local.
"""

import os
import signal
from pathlib import Path

import pytest

from boxdrop.labelstudio.connection import connect
from boxdrop.labelstudio.project import ensure_project
from tests.label_studio_server import quiet, with_empty_database
from tests.ports import free_port

from .conftest import FRUIT


@pytest.mark.slow
def test_projects_survive_a_stop_a_crash_and_a_lost_log_in(tmp_path: Path) -> None:
    studio = with_empty_database(tmp_path / "label-studio")
    server = studio.up(free_port(), quiet)
    try:
        project = ensure_project(connect(server.url, server.token), FRUIT, "kept", key="kept")
        os.kill(server.pid, signal.SIGKILL)
        again = studio.up(say=quiet)
        assert (again.url, again.token) == (server.url, server.token)
        assert ensure_project(connect(again.url, again.token), FRUIT, "kept", key="kept") == project
        assert studio.down(quiet)
        (studio.folder / "server.json").unlink()
        other = studio.up(free_port(), quiet)
        assert other.token != server.token
        found = ensure_project(connect(other.url, other.token), FRUIT, "kept", key="kept")
        assert found.id == project.id
    finally:
        studio.down(quiet)
