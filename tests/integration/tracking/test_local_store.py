"""ZenML without a server: the store of this machine, and its dashboard when somebody looks."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from boxdrop.servers.server import is_free
from tests.integration.tracking.conftest import System, boxdrop
from tests.ports import free_port
from tests.zenml_server import PATIENCE_S, with_empty_database

pytestmark = pytest.mark.slow


def test_a_run_goes_into_the_store_of_this_machine_and_its_dashboard_shows_it(
    system: System, tmp_path: Path
) -> None:
    with_empty_database(tmp_path / "zenml")
    variables = {"BOXDROP_HOME": str(tmp_path), "ZENML_STORE_URL": "", "ZENML_STORE_API_KEY": ""}
    summary = system.run(images=2)
    sync = boxdrop("track", "sync", "--data-bucket", system.data.name, **variables)
    assert "Runs: 1 registered" in sync.communicate()[0]
    assert sync.returncode == 0

    # The program `zenml` of a user, who has nothing but what boxdrop prints.
    printed = boxdrop("track", "env", **variables).communicate()[0]
    listing = 'eval "$PRINTED"; "$ZENML" pipeline runs list --columns name'
    listed = subprocess.run(
        ["sh", "-c", listing],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "COLUMNS": "200",
            "PRINTED": printed,
            "ZENML": str(Path(sys.executable).with_name("zenml")),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert summary.run_id in listed.stdout, listed.stdout + listed.stderr

    port = free_port()
    dashboard = boxdrop("track", "dashboard", "--no-browser", "--port", str(port), **variables)
    try:
        assert dashboard.stdout is not None
        while f"dashboard is at http://127.0.0.1:{port}" not in (line := dashboard.stdout.readline()):
            assert line, "it ended"

        def get(path: str) -> Any:
            return requests.get(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=PATIENCE_S).json()

        (run,) = get("runs?hydrate=true")["items"]
        assert run["name"] == summary.run_id
        assert get("current-user")["metadata"]["user_metadata"]["finished_onboarding_survey"]
        (sheet,) = get(f"artifact_versions?artifact=boxdrop-samples&version={summary.run_id}")["items"]
        shown = get(f"artifact_versions/{sheet['id']}/visualize")
        assert shown["value"].count("<figure>") == 2
        info = get("info")
        assert (info["analytics_enabled"], info["auth_scheme"]) == (False, "NO_AUTH")
        stranger = requests.get(
            f"http://127.0.0.1:{port}/api/v1/runs",
            headers={"Origin": "https://elsewhere.example"},
            timeout=PATIENCE_S,
        )
        assert "access-control-allow-origin" not in stranger.headers
    finally:
        os.kill(dashboard.pid, signal.SIGINT)
        said = dashboard.communicate(timeout=PATIENCE_S)[0]
    assert "dashboard is stopped; the runs stay" in said
    assert dashboard.returncode == 0

    again = boxdrop("track", "dashboard", "--no-browser", "--port", str(port), **variables)
    assert again.stdout is not None
    while "Press Ctrl-C" not in (line := again.stdout.readline()):
        assert line, "it ended"
    again.terminate()
    assert "dashboard is stopped" in again.communicate(timeout=PATIENCE_S)[0]
    assert again.returncode == 143
    assert is_free(port)
