"""boxdrop's folder on this machine: servers, their data, downloads."""

import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "BOXDROP_HOME"
NAME: Final = ".boxdrop"


def home() -> Path:
    """boxdrop's folder on this machine. It may not exist yet.

    ``$BOXDROP_HOME`` wins. Without it, the nearest ``.boxdrop`` in the current folder or above it is used, as
    git finds ``.git``, and then ``~/.boxdrop``.
    """
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser().absolute() if named else found_from_here()


def found_from_here() -> Path:
    """The folder that commands use in the current folder when ``$BOXDROP_HOME`` is not set."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the current folder was deleted
        return _default()
    for folder in (here, *here.parents):
        if is_own_folder(folder / NAME):
            return folder / NAME
    return _default()


def is_own_folder(path: Path) -> bool:
    """Whether a folder exists and is this user's.

    Programs in ``.boxdrop`` are run and addresses in it are trusted, so another user's folder, say in
    ``/tmp``, is ignored. Git has the same rule (https://git-scm.com/docs/git-config, ``safe.directory``).
    """
    try:
        return path.is_dir() and path.stat().st_uid == os.getuid()
    except OSError:
        return False


def _default() -> Path:
    return Path("~", NAME).expanduser().absolute()
