"""The job as SageMaker's container: ``/ping``, and ``/invocations`` with ``{"run_id": …, "shard": n}``.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html: a ping must be answered
within 2 seconds, with 200 once the container is ready, even while it works. The response to an invocation is
the shard's report. Shards are processed one at a time, because there is one GPU; other invocations wait.

    200  the shard's report                        400  the request is invalid
    500  the operator has to fix something    503  the job was stopped, timed out, or S3 did not respond
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector
from boxdrop.documents import to_json
from boxdrop.domain.errors import BoxdropError, BundleError, UnavailableError
from boxdrop.domain.identity import check_run_id
from boxdrop.job.job import Job
from boxdrop.job.stop import Stop, StoppedError
from boxdrop.store.bundles import resolve
from boxdrop.store.manifests import PinnedBundle
from boxdrop.store.reports import SHARD_FORMAT

MAX_BODY: Final = 1 << 16
_MARGIN: Final = 0.9  # of an invocation's time: then the parts in flight are finished


class RequestError(Exception):
    """An invalid request."""


class Server:
    """Serves HTTP until it is asked to stop.

    Args:
        job: does the work.
        address: host and port.
        stop: ends the server, after the parts in flight.
        timeout_s: how long one invocation may take before its caller gives up; None for ever.
    """

    def __init__(self, job: Job, address: tuple[str, int], stop: Stop, timeout_s: float | None) -> None:
        self.job = job
        self.stop = stop
        self._timeout = None if timeout_s is None else timeout_s * _MARGIN
        self._working = threading.Lock()
        self.healthy = False
        self._address = address
        self._http = ThreadingHTTPServer(address, _handler(self))
        self._http.daemon_threads = True

    def run(self) -> None:
        """Load the detector, and serve.

        Raises:
            BoxdropError: the detector cannot be loaded, or CUDA was requested and is not available.
        """
        thread = threading.Thread(target=self._http.serve_forever, name="boxdrop-http", daemon=True)
        thread.start()
        self.job.log.event("server listens", host=self._address[0], port=self._http.server_port)
        try:
            with self._working:
                self._warm_up()
            self.healthy = True
            self.job.log.event("server is ready")
            self.stop.wait()
            with self._working:  # a request in progress finishes the parts in flight
                pass
        finally:
            self.healthy = False
            self._http.shutdown()
            self._http.server_close()

    def _warm_up(self) -> None:
        """Load the default detector, so the first run does not wait for it.

        A new system has no detector yet, and must become healthy anyway: then the demo detector verifies that
        the device works.
        """
        try:
            ref = resolve(self.job.data, None)
        except BundleError:
            Detector.load(BUNDLE, self.job.detectors.provider)
            return
        self.job.detectors.load(PinnedBundle(ref.name, ref.digest))

    def invoke(self, body: bytes, name: str | None) -> tuple[int, str]:
        """Handle a request; returns status and JSON.

        Args:
            body: the request.
            name: the sender's name for it, for the report.
        """
        try:
            run_id, shard = _read(body)
        except (RequestError, BoxdropError) as error:
            return 400, _problem(error)
        with self._working:
            try:
                stop = self.stop.within(self._timeout)
                reports = self.job.work(run_id, shard, stop, job_id=name)
            except (StoppedError, UnavailableError) as error:
                self.job.log.event("invocation stops", run_id=run_id, shard=shard, reason=str(error))
                return 503, _problem(error)
            except BoxdropError as error:
                self.job.log.event("invocation fails", run_id=run_id, shard=shard, reason=str(error))
                return 500, _problem(error)
            except Exception as error:  # the device may be broken: let SageMaker replace this container
                self.healthy = False
                reason = f"{type(error).__name__}: {error}"
                self.job.log.event("invocation fails", run_id=run_id, shard=shard, reason=reason)
                return 500, _problem(reason)
        return 200, to_json(reports[0], format=SHARD_FORMAT)


def _read(body: bytes) -> tuple[str, int]:
    try:
        fields: Any = json.loads(body)
    except ValueError as error:
        raise RequestError(f"the body is not JSON ({error})") from None
    run_id, shard = (fields.get("run_id"), fields.get("shard")) if isinstance(fields, dict) else (None, None)
    if not isinstance(run_id, str) or not isinstance(shard, int) or isinstance(shard, bool) or shard < 0:
        raise RequestError('the body must be {"run_id": "…", "shard": 0}')
    return check_run_id(run_id), shard


def _problem(error: object) -> str:
    return json.dumps({"error": str(error)})


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60  # an idle connection is closed

        def do_GET(self) -> None:
            if self.path != "/ping":
                self._answer(404, _problem("GET /ping or POST /invocations"))
            elif server.healthy:
                self._answer(200, "{}")
            else:
                self._answer(503, _problem("not ready"))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if self.path != "/invocations":
                self._refuse(404, "GET /ping or POST /invocations")
            elif not length.isdecimal() or int(length) > MAX_BODY:
                self._refuse(
                    413 if length.isdecimal() else 411, f"at most {MAX_BODY} bytes, with their length"
                )
            else:
                name = self.headers.get("X-Amzn-SageMaker-Inference-Id")
                self._answer(*server.invoke(self.rfile.read(int(length)), name))

        def _refuse(self, status: int, why: str) -> None:
            self.close_connection = True  # the body was not read
            self._answer(status, _problem(why))

        def _answer(self, status: int, body: str) -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: SageMaker pings every few seconds."""

    return Handler
