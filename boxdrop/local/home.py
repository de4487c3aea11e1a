"""Where boxdrop keeps what belongs to this machine: servers, their data, downloads."""

import os
from pathlib import Path


def home() -> Path:
    """The folder of this machine's boxdrop: ``$BOXDROP_HOME``, or ``~/.boxdrop``. It may not exist yet."""
    return Path(os.environ.get("BOXDROP_HOME") or "~/.boxdrop").expanduser().absolute()
