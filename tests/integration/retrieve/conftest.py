"""Collections on loopback, and a clock on which waits cost nothing."""

from collections.abc import Iterator

import pytest

from boxdrop.retrieve.addresses import AddressGuard
from boxdrop.retrieve.web import Pauses, Web
from tests.collection_servers import LOOPBACK, Server


class Clock(Pauses):
    """A clock that moves when somebody waits; servers and clients of a test read the same one."""

    def __init__(self) -> None:
        super().__init__(on_wait=lambda why: self.reasons.append(why))
        self.now = 1000.0
        self.waits: list[float] = []
        self.reasons: list[str] = []

    def __call__(self) -> float:
        return self.now

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def web(clock: Clock) -> Iterator[Web]:
    """The real client, allowed to ask loopback."""
    client = Web(AddressGuard([LOOPBACK]), contact="tests@example.org", pauses=clock)
    yield client
    client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that misbehaves as the test tells it to."""
    with Server() as running:
        yield running
