"""A real MiniStack for tests, started through boxdrop's own `local`; its venv is that of the checkout."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from boxdrop.local.aws import Aws, Server
from tests.label_studio_server import SHARED_HOME, quiet
from tests.ports import free_port


def aws_with_shared_venv(folder: Path) -> Aws:
    """An AWS of its own in `folder`, without data, which needs no installation."""
    shared = Aws(SHARED_HOME / "aws")
    with shared._only_one(quiet):
        shared.install(quiet)
    folder.mkdir(parents=True)
    (folder / "venv").symlink_to(shared.environment.path.resolve())
    return Aws(folder)


@pytest.fixture(scope="module")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """AWS for the tests of one module."""
    aws = aws_with_shared_venv(tmp_path_factory.mktemp("home") / "aws")
    yield aws.up(free_port(), quiet)
    aws.down(quiet)


def client_of(aws_server: Server, service: str) -> Any:
    """boto3's client of a service of MiniStack."""
    return boto3.client(
        service,
        endpoint_url=aws_server.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
