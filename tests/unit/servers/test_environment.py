"""An environment is complete, or made again."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boxdrop.domain.errors import LocalError
from boxdrop.servers import processes
from boxdrop.servers.environment import Environment, last_lines


def nothing_to_install(folder: Path, disk_bytes: int = 0) -> Environment:
    """An environment with an empty list of requirements: made in a moment, without a network."""
    requirements = folder / "requirements.txt"
    requirements.write_text("# nothing\n")
    return Environment(folder / "venv", requirements, "Nothing 1.0", disk_bytes)


def test_an_environment_is_installed_once(tmp_path: Path) -> None:
    environment = nothing_to_install(tmp_path)
    assert not environment.is_complete()
    environment.install(print)
    assert environment.is_complete()
    made = environment.python.lstat().st_mtime_ns
    environment.install(print)
    assert environment.python.lstat().st_mtime_ns == made


def test_what_was_left_half_done_is_made_again(tmp_path: Path) -> None:
    environment = nothing_to_install(tmp_path)
    rest = environment.path / "lib" / "half"
    rest.mkdir(parents=True)
    said: list[str] = []
    environment.install(said.append)
    assert environment.is_complete()
    assert not rest.exists()
    assert "Removing an incomplete" in said[0]


def test_other_requirements_make_it_again(tmp_path: Path) -> None:
    environment = nothing_to_install(tmp_path)
    environment.install(print)
    (tmp_path / "requirements.txt").write_text("# still nothing\n")
    assert not environment.is_complete()


def test_a_failed_installation_shows_the_end_of_its_log_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = nothing_to_install(tmp_path)
    script = "import sys; print('no route to index', file=sys.stderr); sys.exit(1)"
    monkeypatch.setattr(Environment, "_commands", lambda *_: [[sys.executable, "-c", script]])
    with pytest.raises(LocalError, match=r"Nothing 1\.0 could not be installed(.|\n)*no route to index"):
        environment.install(print)
    assert not environment.path.exists()


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    environment = nothing_to_install(tmp_path, disk_bytes=10**18)
    with pytest.raises(LocalError, match=r"needs 1000000000\.0 GB .*BOXDROP_HOME"):
        environment.install(print)


def test_an_interrupted_installation_ends_its_process_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from boxdrop.servers.environment import Environment\nfolder "
        f"= Path({str(tmp_path)!r}); (folder / 'r.txt').write_text('#')\nwait = 'import sys, time; "
        "open(sys.argv[1], chr(119)).close(); time.sleep(60)'\nstarted = str(folder / "
        "'started')\nEnvironment._commands = lambda self, path: [path.mkdir() or [sys.executable, '-c', "
        "wait, started]]\nEnvironment(folder / 'venv', folder / 'r.txt', 'It', 0).install(print)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    assert program.wait(120) != 0
    assert not (tmp_path / "venv").exists()
    assert processes.find([str(tmp_path / "started")]) == []


def test_the_end_of_a_log_is_shown_without_empty_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n\nsecond \xff\n\nthird\n")
    assert last_lines(log, 2) == "  second \ufffd\n  third"
    assert last_lines(tmp_path / "missing", 2) == ""
