"""AWS on loopback over HTTP: moto's server, for tests."""

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.moto_api._internal import moto_api_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

MakeClient = Callable[[str], Any]


def empty_moto() -> DomainDispatcherApplication:
    """An empty moto as a WSGI application.

    moto keeps its state in the process, so what earlier modules stored there, in any server, is removed.
    """
    moto_api_backend.reset()
    return DomainDispatcherApplication(create_backend_app)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Address of an empty moto. One call at a time: its conditional writes are not atomic between threads."""
    server = make_server("127.0.0.1", 0, empty_moto(), threaded=False)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield url
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def aws(endpoint: str) -> MakeClient:
    """Makes boto3's client of a service."""

    def make(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"mode": "standard", "max_attempts": 2}, read_timeout=60),
        )

    return make
