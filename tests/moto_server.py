"""AWS on loopback over HTTP: moto's server, for tests."""

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

MakeClient = Callable[[str], Any]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Address of an empty moto. One call at a time: its conditional writes are not atomic between threads.

    moto keeps its state in the process, so what earlier modules stored is removed first.
    """
    moto = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, moto, threaded=False)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    urlopen(Request(f"{url}/moto-api/reset", method="POST"), timeout=60).close()
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
