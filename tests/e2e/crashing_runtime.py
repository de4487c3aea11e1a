"""A function's process that dies when it is told to: between two calls, where nothing may be lost.

Stands in for `boxdrop.local.runtime` in the storm test. The folder ``crashes`` of boxdrop's home has a file
for each death to come, called after one of `POINTS`; whoever passes that point takes the file and dies.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import boto3

from boxdrop.labelstudio.tasks import ProjectTasks
from boxdrop.local.runtime import serve

POINTS = (
    "first row marked, nothing asked for",
    "images claimed, no manifest",
    "manifest written, nothing submitted",
    "submitted, not recorded",
    "tasks imported, not recorded",
    "tasks recorded, message not deleted",
)


def crash_at(point: str) -> None:
    """Die here, without a word, if a file says so."""
    file = Path(os.environ["BOXDROP_HOME"]) / "crashes" / point
    try:
        file.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _before(model: Any, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context["what"] = f"{params.get('url_path', '')} {params.get('body', '')!r}"
    if model.name == "PutObject" and "/manifest.jsonl " in context["what"]:
        crash_at("images claimed, no manifest")


def _after(model: Any, context: dict[str, Any], **_: Any) -> None:
    what = context.get("what", "")
    if model.name == "PutItem" and os.environ["AWS_LAMBDA_FUNCTION_NAME"] == "dispatch":
        crash_at("first row marked, nothing asked for")
    if model.name == "PutObject" and "/manifest.jsonl " in what:
        crash_at("manifest written, nothing submitted")
    if model.name == "SendMessageBatch" and "/jobs" in what:
        crash_at("submitted, not recorded")


def main() -> None:
    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    events = boto3.DEFAULT_SESSION.events
    events.register("before-call", _before)
    events.register("after-call", _after)
    create = ProjectTasks.create

    def create_and_die(self: ProjectTasks, tasks: Any) -> None:
        create(self, tasks)
        crash_at("tasks imported, not recorded")

    ProjectTasks.create = create_and_die  # type: ignore[method-assign]
    if sys.argv[1].startswith("functions.publish"):
        from boxdrop.ledger import Ledger

        record = Ledger.record_audit

        def record_and_die(self: Ledger, *arguments: Any) -> Any:
            result = record(self, *arguments)
            crash_at("tasks recorded, message not deleted")
            return result

        Ledger.record_audit = record_and_die  # type: ignore[method-assign, assignment]
    serve(sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    main()
