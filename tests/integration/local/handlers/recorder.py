"""A handler that writes down what it is given, and does with it what the message says."""

import json
import os
import time
from pathlib import Path
from typing import Any


def handler(event: dict[str, Any], context: Any) -> Any:
    """Called by the pump, in a process of its own."""
    folder = Path(os.environ["RECORDS"])
    records = event.get("Records", [])
    line = {
        "function": context.function_name,
        "event": event,
        "left_ms": context.get_remaining_time_in_millis(),
    }
    with (folder / f"{context.function_name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    bodies = [record["body"] for record in records]
    if "die" in bodies:
        os._exit(1)
    if "raise" in bodies:
        raise ValueError("as asked")
    if "hang" in bodies:
        time.sleep(600)
    if event.get("body") is not None:
        return {"statusCode": 202, "body": "taken"}
    failed = [{"itemIdentifier": r["messageId"]} for r in records if r["body"].startswith("fail")]
    return {"batchItemFailures": failed}
