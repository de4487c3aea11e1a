"""A Python environment of its own for a server, from requirements that are pinned by hash.

Servers conflict with nearly everything else in what they depend on, so each lives in a venv below boxdrop's
home.
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
    """A venv that is either complete or made again.

    Args:
        path: of the venv. A link to another place is followed and never replaced.
        requirements: a compiled requirements file.
        name: of what is in it, for messages.
        disk_bytes: what an installation needs while it runs.
    """

    def __init__(self, path: Path, requirements: Path, name: str, disk_bytes: int) -> None:
        self.path = path
        self.python = path / "bin" / "python"
        self._requirements = requirements
        self._name = name
        self._disk_bytes = disk_bytes

    @property
    def digest(self) -> str:
        """Hash of the requirements: what a complete environment was made from."""
        return hashlib.sha256(self._requirements.read_bytes()).hexdigest()

    def is_complete(self) -> bool:
        """Whether an installation of exactly these requirements ran to its end, and its Python is there."""
        mark = self.path / _MARK
        return mark.is_file() and mark.read_text() == self.digest and self.python.exists()

    def install(self, say: Callable[[str], None]) -> None:
        """Install unless complete. What an earlier attempt left half done is removed first.

        Args:
            say: told what happens, in sentences.

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
        except BaseException:  # Ctrl-C, too, leaves nothing that looks installed
            shutil.rmtree(path, ignore_errors=True)
            raise

    def _commands(self, path: Path) -> list[list[str]]:
        """With uv in seconds, else with what comes with Python in minutes."""
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
                f"{self._name} could not be installed. The last lines of {log}:\n"
                f"{last_lines(log, _LINES_SHOWN)}\n"
                "Is the package index reachable, and the disk not full? Then run the same command again."
            )


def last_lines(log: Path, count: int, begin: int = 0) -> str:
    """The end of a log, indented; empty if there is none.

    Args:
        count: of lines.
        begin: offset before which nothing is shown: lines of an earlier process.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(begin, log.stat().st_size - 65536, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line[:300]}" for line in lines[-count:])
