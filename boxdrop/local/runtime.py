"""A function's process: imports a handler once, then runs one event after the other, as Lambda does.

    python -m boxdrop.local.runtime MODULE FD

Events are read as lines of JSON from standard input; ``{"ready": true}`` and then one response per event are
written to the file descriptor. The handler's output is its log. The process ends with its input, so it never
outlives the pump that started it.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback
import uuid
from typing import Any, Final

MEMORY_MB: Final = 512


class Context:
    """Lambda's context object (the part that Powertools and handlers use)."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self.function_name = name
        self.function_version = "$LATEST"
        self.memory_limit_in_mb = MEMORY_MB
        self.invoked_function_arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
        self.aws_request_id = str(uuid.uuid4())
        self.log_group_name = f"/aws/lambda/{name}"
        self.log_stream_name = f"local/{os.getpid()}"
        self._deadline = time.monotonic() + timeout_s

    def get_remaining_time_in_millis(self) -> int:
        """The time until the pump ends this process."""
        return max(0, int(1000 * (self._deadline - time.monotonic())))


def serve(module: str, fd: int) -> None:
    """Handle events until there are no more.

    Args:
        module: has ``handler(event, context)``.
        fd: for the responses: ``{"result": …}``, or ``{"error": …}`` with the last line of the traceback.
    """
    answers = os.fdopen(fd, "w", encoding="utf-8", closefd=True)

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    handler = importlib.import_module(module).handler
    answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        context = Context(request["name"], request["timeout_s"])
        try:
            result = handler(request["event"], context)
            answer({"result": result})
        except Exception as error:
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {error}"})
        sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is handled by the pump
    serve(sys.argv[1], int(sys.argv[2]))
