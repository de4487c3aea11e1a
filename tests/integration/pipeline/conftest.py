"""The pipeline's tests: a real Label Studio server; DynamoDB, S3 and Secrets Manager of moto over HTTP."""

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from boxdrop.aws.s3 import Bucket
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import Project, ensure_project
from boxdrop.labelstudio.webhook import SECRET_HEADER
from boxdrop.ledger import Ledger, create_table
from tests.integration.labelstudio.conftest import FRUIT
from tests.label_studio_server import connection, server
from tests.moto_server import MakeClient, aws, endpoint
from tests.webhook_receiver import Receiver

from .world import World

__all__ = ["aws", "connection", "endpoint", "server"]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def client(aws: MakeClient) -> Any:
    """DynamoDB."""
    return aws("dynamodb")


@pytest.fixture(scope="module")
def s3(aws: MakeClient) -> Any:
    """S3."""
    return aws("s3")


def unique(request: pytest.FixtureRequest) -> str:
    """A short name that no other test has."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:10]


@pytest.fixture
def ledger(client: Any, request: pytest.FixtureRequest) -> Ledger:
    """An empty ledger."""
    name = f"ledger-{unique(request)}"
    create_table(client, name)
    return Ledger(name, client=client, workers=4)


@pytest.fixture
def data_bucket(s3: Any, request: pytest.FixtureRequest) -> Bucket:
    """An empty data bucket."""
    name = f"data-{unique(request)}"
    s3.create_bucket(Bucket=name)
    return Bucket(name, client=s3)


@pytest.fixture
def project(connection: Connection) -> Project:
    """A project in Label Studio that no other test has."""
    return ensure_project(connection, FRUIT, "fruit baskets", key=f"pipeline test {next(_numbers)}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes what Label Studio sends."""
    with Receiver(SECRET_HEADER) as running:
        yield running


@pytest.fixture
def world(aws: MakeClient, ledger: Ledger, request: pytest.FixtureRequest) -> World:
    """A system without a detector's work; a test may ask for options by ``@pytest.mark.parametrize``."""
    return World(unique(request), aws, ledger, **getattr(request, "param", {}))
