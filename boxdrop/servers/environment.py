"""A Python environment of its own for a server, from requirements that are pinned by hash.

The dependencies of servers conflict with nearly everything, so each server has a venv in boxdrop's home.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from boxdrop.domain.errors import LocalError

_MARK = "boxdrop-complete"
_STOP_S = 10
_LINES_SHOWN = 8


class Environment:
    """A venv that is either complete or created again.

    Args:
        path: of the venv. A symbolic link is followed and never replaced.
        requirements: a compiled requirements file.
        name: of the installed server, for messages.
        disk_bytes: needed during an installation.
    """

    def __init__(self, path: Path, requirements: Path, name: str, disk_bytes: int) -> None:
        self.path = path
        self.python = path / "bin" / "python"
        self._requirements = requirements
        self._name = name
        self._disk_bytes = disk_bytes

    @property
    def digest(self) -> str:
        """Hash of the requirements, which identifies a complete environment."""
        return hashlib.sha256(self._requirements.read_bytes()).hexdigest()

    def is_complete(self) -> bool:
        """Whether exactly these requirements were installed completely, and the Python still exists."""
        mark = self.path / _MARK
        return mark.is_file() and mark.read_text() == self.digest and self.python.exists()

    def install(self, say: Callable[[str], None]) -> None:
        """Install unless complete. The rest of an interrupted attempt is removed first.

        Args:
            say: called with a sentence before each step.

        Raises:
            LocalError: the disk is too full, or the installation failed; with its last lines and the log's
                path.
        """
        if self.is_complete():
            return
        path = self.path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            say(f"Removing an incomplete or older installation of {self._name} …")
            shutil.rmtree(path)
        free = shutil.disk_usage(path.parent).free
        if free < self._disk_bytes:
            raise LocalError(
                f"installing {self._name} needs {self._disk_bytes / 1e9:.1f} GB in {path.parent}, which has "
                f"{free / 1e9:.1f} GB left; free some, or put BOXDROP_HOME on another disk"
            )
        log = path.with_name("install.log")
        try:
            with log.open("wb") as output:
                for command in self._commands(path):
                    self._run(command, output.fileno(), log)
            (path / _MARK).write_text(self.digest)
        except BaseException:  # even Ctrl-C leaves nothing that looks complete
            shutil.rmtree(path, ignore_errors=True)
            raise

    def _commands(self, path: Path) -> list[list[str]]:
        """With uv in seconds, else with Python's own tools in minutes."""
        hashes = ["--require-hashes", "-r", str(self._requirements)]
        python = str(path / "bin" / "python")
        try:
            from uv import find_uv_bin

            uv = find_uv_bin()
        except (ImportError, FileNotFoundError):
            found = shutil.which("uv")
            if found is None:
                return [
                    [sys.executable, "-m", "venv", str(path)],
                    [python, "-m", "pip", "install", "--no-input", "--progress-bar", "off", *hashes],
                ]
            uv = found
        return [
            [uv, "venv", "--no-project", "--python", sys.executable, str(path)],
            [uv, "pip", "install", "--no-progress", "--python", python, *hashes],
        ]

    def _run(self, command: list[str], output: int, log: Path) -> None:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        if code != 0:
            raise LocalError(
                f"{self._name} could not be installed. The last lines of "
                f"{log}:\n{last_lines(log, _LINES_SHOWN)}\nIs the package index reachable, and the disk not "
                "full? Then run the same command again."
            )


def last_lines(log: Path, count: int, begin: int = 0) -> str:
    """The end of a log, indented; empty if there is none.

    Args:
        count: of lines.
        begin: offset of the first line to show; earlier lines belong to another process.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(begin, log.stat().st_size - 65536, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line[:300]}" for line in lines[-count:])
