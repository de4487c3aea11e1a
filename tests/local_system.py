"""The whole local system for tests: real MiniStack, real Label Studio, the functions, the job."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from boxdrop.local.stack import Running, Stack
from tests.aws_server import aws_with_shared_venv
from tests.label_studio_server import quiet, with_empty_database
from tests.ports import free_port


def fresh_stack(home: Path) -> Stack:
    """A system of its own in `home`, without data, which needs no installation."""
    with_empty_database(home / "label-studio")
    aws_with_shared_venv(home / "aws")
    return Stack(home)


@pytest.fixture(scope="module")
def local_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The system, up, for the tests of one module; commands find it."""
    home = tmp_path_factory.mktemp("system") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOXDROP_HOME", str(home))
        for name in ("BOXDROP_SYSTEM", "BOXDROP_TABLE", "BOXDROP_DATA_BUCKET", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        stack = fresh_stack(home)
        running = stack.up(free_port(), free_port(), quiet)
        for name, value in running.system.environment().items():
            patch.setenv(name, value)
        yield running
        stack.down(quiet)
