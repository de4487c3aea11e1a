"""The deployed functions: what calls them, how long they may take, what they read and may do.

One table for the pipeline stack, the packages and the tests. Permissions are written by hand and compared
with what the handlers really call (tests/infra/test_permissions.py).
"""

from dataclasses import dataclass
from typing import Final, Literal

Package = Literal["small", "label-studio", "tracking"]


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One function.

    Attributes:
        name: folder below `functions/`.
        package: see `infra.bundling`.
        queue: that it reads; None if it is called otherwise.
        timeout_s: seconds; the queue's visibility is six times that.
        memory_mb: also its share of a processor; 1,769 MB are a whole one.
        batch: messages a call at most.
        window_s: how long Lambda gathers messages for a call.
        concurrency: calls at once from the queue, at least 2; None leaves it to Lambda.
    """

    name: str
    package: Package
    queue: str | None
    timeout_s: int
    memory_mb: int
    batch: int = 10
    window_s: int = 0
    concurrency: int | None = None


FUNCTIONS: Final = {
    spec.name: spec
    for spec in (
        # A thousand uploads at once are two hundred writes a second: a few seconds a batch.
        FunctionSpec("dispatch", "small", "uploads", 120, 512, batch=100, window_s=1, concurrency=10),
        FunctionSpec("launch", "small", "launches", 300, 1024, batch=1, concurrency=5),
        # One publisher a project has the lease; more would wait for it.
        FunctionSpec("publish", "label-studio", "parts", 300, 1024, batch=10, window_s=1, concurrency=5),
        FunctionSpec("webhook", "small", None, 10, 256),
        FunctionSpec("collect", "label-studio", "reviews", 120, 512, batch=20, window_s=1, concurrency=5),
        FunctionSpec("reconcile", "small", None, 900, 1024),
        FunctionSpec("track", "tracking", "track", 300, 1024, batch=1, concurrency=2),
    )
}

QUEUES: Final = {spec.queue: spec for spec in FUNCTIONS.values() if spec.queue}
