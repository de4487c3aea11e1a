"""Lambda's Runtime API on loopback, for functions that run from their package under AWS's own client.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 120


class FunctionError(Exception):
    """A function could not be loaded, or its handler raised."""


class RunningFunction:
    """A handler in a process of its own that sees its package, `awslambdaric` and nothing else.

    Args:
        package: the folder that would be zipped.
        handler: as in Lambda's configuration.
        variables: environment of the function.
        folder: for what it prints, and for the links to `awslambdaric`.
    """

    def __init__(self, package: Path, handler: str, variables: Mapping[str, str], folder: Path) -> None:
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._answers: queue.Queue[tuple[bool, Any]] = queue.Queue()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._api())
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.log = folder / f"{handler}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                # -S: without the packages of this environment; -I would hide PYTHONPATH, too.
                [sys.executable, "-S", "-m", "awslambdaric", handler],
                cwd=package,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": os.pathsep.join((str(package), str(_runtime_client(folder)))),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
                    "AWS_LAMBDA_FUNCTION_NAME": handler.split(".")[1],
                    "LAMBDA_TASK_ROOT": str(package),
                    **variables,
                },
                stdout=log,
                stderr=log,
            )

    def call(self, event: Mapping[str, Any]) -> Any:
        """Give the function an event, and return what its handler did.

        Raises:
            FunctionError: with what it printed.
        """
        self._events.put((str(uuid.uuid4()), event))
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                done, said = self._answers.get(timeout=0.5)
            except queue.Empty:
                if self._process.poll() is not None:
                    raise FunctionError(f"it ended: {self.log.read_text()[-2000:]}") from None
                continue
            if not done:
                raise FunctionError(f"{said}: {self.log.read_text()[-2000:]}")
            return said
        raise FunctionError(f"it did not answer: {self.log.read_text()[-2000:]}")

    def close(self) -> None:
        """End the process and the API."""
        self._closing.set()
        self._process.kill()
        self._process.wait()
        self._server.shutdown()
        self._server.server_close()

    def _api(self) -> type[BaseHTTPRequestHandler]:
        events, answers, closing = self._events, self._answers, self._closing

        class Api(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                while not closing.is_set():
                    try:
                        request_id, event = events.get(timeout=0.2)
                    except queue.Empty:
                        continue
                    body = json.dumps(event).encode()
                    self.send_response(200)
                    self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
                    self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 300) * 1000)))
                    self.send_header(
                        "Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:0:function:f"
                    )
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return

            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
                answers.put((self.path.endswith("/response"), said))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Api


def _runtime_client(folder: Path) -> Path:
    """A folder with AWS's runtime client alone, as Lambda's image has it beside the function."""
    client = folder / "runtime-client"
    client.mkdir(exist_ok=True)
    for name in ("awslambdaric", "runtime_client", "snapshot_restore_py", "simplejson"):
        spec = find_spec(name)
        assert spec is not None
        origin = Path(str(spec.origin))
        source = origin.parent if origin.name == "__init__.py" else origin
        link = client / source.name
        if not link.exists():
            link.symlink_to(source)
    return client
