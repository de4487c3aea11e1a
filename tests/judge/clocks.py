"""A clock that jumps, for some processes of a running system: libfaketime, preloaded.

Only the time of day jumps, as it does when a machine wakes up or its clock is set; the monotonic clock goes
on. Of the product's processes, the pump passes few variables on to its functions. So a `sitecustomize.py` in
their PYTHONPATH starts each of them again, with the same process id, with the library.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

_IN_PACKAGE = Path("vendor", "libfaketime", "src", "libfaketime.so.1")
_AGAIN = """
import os, sys
variables = {variables!r}
if os.environ.get("LD_PRELOAD") != variables["LD_PRELOAD"]:
    os.execve(sys.executable, sys.orig_argv, {{**os.environ, **variables}})
"""


class Clock:
    """A clock in a file, which processes with `variables` go by.

    Args:
        folder: for its files; made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._file = folder, folder / "offset"
        self.jump_to(0)
        text = _AGAIN.format(variables=dict(self._preload()))
        (folder / "sitecustomize.py").write_text(text)

    def jump_to(self, seconds: int) -> None:
        """Let it differ from the real time by so many seconds from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n")
        new.replace(self._file)  # readers see the old text or the new one

    def _preload(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def variables(self, before: Mapping[str, str]) -> dict[str, str]:
        """Variables of a process that goes by this clock, as do the Python processes that it starts."""
        paths = [str(self._folder), *filter(None, [before.get("PYTHONPATH")])]
        return {**before, **self._preload(), "PYTHONPATH": os.pathsep.join(paths)}


def _library() -> Path:
    found = find_spec("libfaketime")
    assert found is not None, "the judge's clocks need the package libfaketime"
    assert found.origin is not None
    return Path(found.origin).parent / _IN_PACKAGE
