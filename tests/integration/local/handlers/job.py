"""A job that fails as often as its message says."""

from typing import Any

from tests.integration.local.handlers.recorder import handler as record


def handler(event: dict[str, Any], context: Any) -> Any:
    record(event, context)
    if event["try"] <= event.get("failures", 0):
        raise RuntimeError("the GPU is on fire")
