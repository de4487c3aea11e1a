"""A real Label Studio server for tests, started through boxdrop's own `local`.

Its venv is that of the checkout (`make demo` uses the same one) and is installed once. An empty database with
all migrations is kept beside it as a template, for making one takes longer than everything else here
together.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.local.label_studio import LabelStudio, Server
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[1]
SHARED_HOME = Path(os.environ.get("BOXDROP_HOME") or REPOSITORY / ".boxdrop")


def quiet(_: str) -> None:
    """Take what `LabelStudio` says."""


def with_shared_venv(folder: Path) -> LabelStudio:
    """A Label Studio of its own in `folder`, without data, which needs no installation."""
    shared = LabelStudio(SHARED_HOME / "label-studio")
    with shared._only_one(quiet):
        shared.install(quiet)
    folder.mkdir(parents=True)
    (folder / "venv").symlink_to(shared.environment.path.resolve())
    return LabelStudio(folder)


def with_empty_database(folder: Path) -> LabelStudio:
    """As `with_shared_venv`, with a database that is set up already."""
    studio = with_shared_venv(folder)
    template = SHARED_HOME / f"label-studio-template-{studio.environment.digest[:12]}"
    if not template.exists():
        made = with_shared_venv(folder.with_name(f"{folder.name}-template"))
        made.up(free_port(), quiet)
        made.down(quiet)
        partial = template.with_name(f"{template.name}-{os.getpid()}")
        shutil.copytree(made.data, partial / "data")
        shutil.copy2(made.folder / "server.json", partial / "server.json")
        try:
            partial.rename(template)
        except OSError:  # another test process was quicker
            shutil.rmtree(partial)
    shutil.copytree(template / "data", studio.data)
    shutil.copy2(template / "server.json", studio.folder / "server.json")
    return studio


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do not stop it."""
    studio = with_empty_database(tmp_path_factory.mktemp("home") / "label-studio")
    yield studio.up(free_port(), quiet)
    studio.down(quiet)


@pytest.fixture(scope="session")
def connection(server: Server) -> Connection:
    return connect(server.url, server.token)
