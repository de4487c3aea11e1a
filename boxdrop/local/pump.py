"""The pump: one process that replaces EventBridge, Lambda and Batch in the local system.

    python -m boxdrop.local.pump --home DIR --boxdrop-pump --port N

It delivers the messages of each queue to the same handlers that are deployed, as Lambda's event source
mapping does (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html): it collects a batch for a window,
and deletes the messages when the handler returns, except those in its ``batchItemFailures``. If the handler
raises, times out or dies, messages are delivered again after the visibility timeout; after too many receives
they become dead letters. Label Studio's webhook calls become API Gateway events, a timer calls reconcile, and
a process that keeps the detector loaded works on the shards in the queue ``jobs``, as Batch would in a
container.

Unlike in Lambda, each function has one process, so a concurrency of one; and messages stay hidden while the
function works on them, whatever their visibility timeout.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from boxdrop.home import home
from boxdrop.job.stop import Stop
from boxdrop.local.events import gateway_event, job_event, queue_event, timer_event
from boxdrop.local.functions import RUNTIME, Function, FunctionError
from boxdrop.local.resources import PRESIGN, client, queues
from boxdrop.servers.server import HOST
from boxdrop.system import System, read_description
from boxdrop.topology import (
    FUNCTIONS,
    JOBS,
    LOCAL_LIMITS,
    LOCAL_RECONCILE_S,
    LOCAL_SYNC_EVERY,
    OPTIONAL,
    READERS,
    Delivery,
    local_delivery,
    local_timeout_s,
)

_POLL_S: Final = 1  # SQS's long poll; a stop may wait this long
_CALL: Final = 10  # messages per SQS call
_PAYLOAD: Final = 6_000_000  # bytes per event, Lambda's limit
_GRACE_S: Final = 2.0  # after an error of SQS itself
_STOP_S: Final = 15.0  # for all threads to end: a long poll, or the last output of a stopped function
_TEACH_S: Final = 900.0  # for the features of some thousand images
_BODY: Final = 10 * 1024 * 1024  # API Gateway's limit


def log(service: str, text: str, **fields: object) -> None:
    """Log one line of JSON, like the functions."""
    line = {"timestamp": datetime.now(UTC).isoformat(), "service": service, "message": text, **fields}
    print(json.dumps(line, default=str), flush=True)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a pump; tests change them.

    Attributes:
        runtime: the command that serves a function.
        reconcile_s: seconds between two calls of reconcile.
        port: of webhooks; 0 is any.
        environment: variables for the functions in addition to `function_environment`.
        package: has a folder per function, with its ``handler``.
        job: the module whose ``handler`` runs a shard.
        teach: the module whose ``handler`` teaches the projects that are due.
    """

    runtime: Sequence[str] = RUNTIME
    reconcile_s: float = LOCAL_RECONCILE_S
    port: int = 0
    environment: Mapping[str, str] | None = None
    package: str = "functions"
    job: str = "functions.job.worker"
    teach: str = "boxdrop.local.teaching"


class Pump:
    """Delivers between `start` and `stop`."""

    def __init__(self, system: System, settings: Settings | None = None) -> None:
        self.system = system
        self.settings = settings or Settings()
        self._stopping = Event()
        self._web = ThreadingHTTPServer((HOST, self.settings.port), _handler(self))
        variables = function_environment(system, self.webhook_url) | dict(self.settings.environment or {})

        self._job = local_delivery(JOBS)
        there = [name for name in queues() if name in system.queues]  # an older system has no `track`
        read = [READERS[name].name for name in there if name != JOBS]
        called = [name for name, each in FUNCTIONS.items() if name in read or each.queue is None]

        def function(name: str, module: str, timeout_s: float) -> Function:
            return Function(name, module, variables, timeout_s, self.settings.runtime)

        self.functions = {
            name: function(name, f"{self.settings.package}.{name}.handler", local_timeout_s(name))
            for name in called
        }
        job = self._job.function
        self.functions[job] = function(job, self.settings.job, self._job.timeout_s)

        def teacher() -> Function:
            return function("teach", self.settings.teach, _TEACH_S)

        self._make_teacher, self._teacher = teacher, teacher()  # has no process until it is called
        self._reviewed = Event()
        self._threads = [
            *(self._thread(self._deliver, name, local_delivery(name)) for name in there if name != JOBS),
            self._thread(self._work),
            self._thread(self._reconcile_now_and_then),
            self._thread(self._teach_after_reviews),
            self._thread(self._web.serve_forever),
        ]

    @property
    def webhook_url(self) -> str:
        """The URL of Label Studio's webhook."""
        return f"http://{HOST}:{self._web.server_port}/reviews"

    def _thread(self, work: Callable[..., None], *arguments: object) -> Thread:
        return Thread(target=work, args=arguments, daemon=True)

    def start(self) -> None:
        """Start delivering; functions start in parallel, as in Lambda's first calls."""
        for name, function in self.functions.items():
            # ZenML takes seconds and 300 MB: started only for the first run to register
            if name not in OPTIONAL:
                self._thread(self._warm, function).start()
        for thread in self._threads:
            thread.start()
        log("pump", "started", webhook_url=self.webhook_url, endpoint=self.system.endpoint_url)

    def stop(self) -> None:
        """Stop delivering; functions get some seconds to finish.

        Once it returns, no thread of this pump reads a queue: later messages are left to others.
        """
        self._stopping.set()
        self._web.shutdown()
        functions = [*self.functions.values(), self._teacher]
        for function in functions:
            function.ask_to_stop()
        for function in functions:
            function.stop()
        until = time.monotonic() + _STOP_S
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join(max(0.0, until - time.monotonic()))
        self._web.server_close()
        log("pump", "stopped")

    def _warm(self, function: Function) -> None:
        try:
            function.warm()
        except FunctionError as error:
            log("pump", "a function does not start", function=function.name, error=str(error))

    # Queues

    def _deliver(self, name: str, delivery: Delivery) -> None:
        source = _Source(self.system, name, delivery)
        function = self.functions[delivery.function]
        while not self._stopping.is_set():
            try:
                messages = source.gather(self._stopping)
                if not messages:
                    continue
                if self._stopping.is_set():
                    source.give_back(messages)
                    return
                with source.hidden(messages):
                    try:
                        failed = failed_messages(function.invoke(source.event(messages)), messages)
                    except FunctionError as error:
                        log("pump", "an event failed", function=function.name, error=str(error))
                        continue
                source.delete([each for each in messages if each["MessageId"] not in failed])
                if name == "reviews":
                    self._reviewed.set()
            except Exception as error:  # SQS's fault or ours: the pump continues
                self._complain(name, error)

    def _complain(self, what: str, error: Exception) -> None:
        if not self._stopping.is_set():
            log("pump", "a delivery failed", queue=what, error=f"{type(error).__name__}: {error}")
            self._stopping.wait(_GRACE_S)

    # Jobs

    def _work(self) -> None:
        source = _Source(self.system, JOBS, self._job)
        function = self.functions[self._job.function]
        while not self._stopping.is_set():
            try:
                for message in source.gather(self._stopping):
                    if self._stopping.is_set():
                        source.give_back([message])
                        return
                    job = json.loads(message["Body"])
                    attempt = int(message["Attributes"]["ApproximateReceiveCount"])
                    with source.hidden([message]):
                        try:
                            function.invoke(job | {"try": attempt})
                            status, reason = "SUCCEEDED", "Essential container in task exited"
                        except FunctionError as error:
                            log("pump", "a job failed", error=str(error), job=job, attempt=attempt)
                            status, reason = "FAILED", str(error)
                    if status == "FAILED" and attempt < self._job.receives:
                        continue  # the next attempt follows after the visibility timeout
                    self._tell(job_event(job, status, reason, attempt))
                    source.delete([message])
            except Exception as error:
                self._complain(JOBS, error)

    def _tell(self, event: Mapping[str, Any]) -> None:
        try:
            self.functions["reconcile"].invoke(event)
        except FunctionError as error:
            log("pump", "an event failed", function="reconcile", error=str(error))

    # Timer and webhook

    def _reconcile_now_and_then(self) -> None:
        calls = 0
        while not self._stopping.wait(self.settings.reconcile_s):
            calls += 1
            self._tell(timer_event() | ({"sync": True} if calls % LOCAL_SYNC_EVERY == 0 else {}))

    def _teach_after_reviews(self) -> None:
        """Let projects with ``teach: auto`` teach themselves, now and then, while people verify.

        The process ends each time: it is seldom needed, and holds a detector.
        """
        while not self._stopping.wait(self.settings.reconcile_s):
            if not self._reviewed.is_set():
                continue
            self._reviewed.clear()
            self._teacher = self._make_teacher()
            if self._stopping.is_set():
                return
            try:
                self._teacher.invoke(timer_event())
            except FunctionError as error:
                log("pump", "an event failed", function=self._teacher.name, error=str(error))
            self._teacher.stop()

    def webhook(self, request: Mapping[str, Any]) -> tuple[int, str]:
        """Call the webhook's function with an API Gateway event; returns status and body of the response."""
        try:
            answer = self.functions["webhook"].invoke(request)
        except FunctionError as error:
            log("pump", "an event failed", function="webhook", error=str(error))
            return 500, '{"message": "Internal Server Error"}'
        return int(answer.get("statusCode", 200)), str(answer.get("body", ""))


class _Source:
    """One queue, read like an event source mapping."""

    def __init__(self, system: System, name: str, delivery: Delivery) -> None:
        assert system.endpoint_url is not None
        self._sqs = client("sqs", system.endpoint_url, system.region)
        self._url = system.queue(name)
        self._arn = f"arn:aws:sqs:{system.region}:000000000000:{name}"
        self._region = system.region
        self._delivery = delivery

    def gather(self, stopping: Event) -> list[dict[str, Any]]:
        """Messages for one event; empty if none arrived within a second."""
        found = self._receive(_POLL_S, self._delivery.batch)
        until = time.monotonic() + self._delivery.window_s
        size = sum(len(each["Body"]) for each in found)
        while found and len(found) < self._delivery.batch and size < _PAYLOAD // 2:
            more = self._receive(0, self._delivery.batch - len(found))
            found += more
            size += sum(len(each["Body"]) for each in more)
            if not more and (time.monotonic() >= until or stopping.wait(0.02)):
                break
        return found

    def _receive(self, wait_s: int, wanted: int) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=min(_CALL, wanted),
            WaitTimeSeconds=wait_s,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def event(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The event for the function."""
        return queue_event(messages, self._arn, self._region)

    def hidden(self, messages: Sequence[Mapping[str, Any]]) -> "_Hidden":
        """Hide messages from other deliveries for the duration of a block."""
        seconds = self._delivery.visibility_s
        return _Hidden(lambda: self._hide(messages, seconds), seconds / 3)

    def give_back(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Make messages available again at once."""
        self._hide(messages, 0)

    def _hide(self, messages: Sequence[Mapping[str, Any]], seconds: int) -> None:
        for some in _tens(messages):
            self._sqs.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {
                        "Id": str(number),
                        "ReceiptHandle": each["ReceiptHandle"],
                        "VisibilityTimeout": seconds,
                    }
                    for number, each in enumerate(some)
                ],
            )

    def delete(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Delete handled messages."""
        for some in _tens(messages):
            entries = [
                {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]}
                for number, each in enumerate(some)
            ]
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)


class _Hidden:
    """Calls `hide` at once and then regularly, in a thread, for the duration of a block."""

    def __init__(self, hide: Callable[[], None], every_s: float) -> None:
        self._hide, self._every, self._done = hide, every_s, Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.is_set():  # at once: gathering has already used some of their time
            try:
                self._hide()
            except Exception as error:  # then they arrive twice, which functions must tolerate anyway
                log("pump", "messages could not be kept hidden", error=str(error))
            self._done.wait(self._every)


def _tens(messages: Sequence[Mapping[str, Any]]) -> list[Sequence[Mapping[str, Any]]]:
    return [messages[i : i + _CALL] for i in range(0, len(messages), _CALL)]


def failed_messages(answer: Any, messages: Sequence[Mapping[str, Any]]) -> set[str]:
    """Ids of the failed messages in a handler's response.

    As Lambda reads it (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html):
    nothing, or an empty list, is success; an invalid response, or one with an unknown id, fails all of them.
    """
    everything = {str(each["MessageId"]) for each in messages}
    if answer is None or not isinstance(answer, Mapping) or answer.get("batchItemFailures") in (None, []):
        return set()
    failures = answer["batchItemFailures"]
    if not isinstance(failures, list):
        return everything
    named = {each.get("itemIdentifier") if isinstance(each, Mapping) else None for each in failures}
    return {str(each) for each in named} if named <= everything else everything


def function_environment(system: System, webhook_url: str) -> dict[str, str]:
    """The environment variables that a deployment would set for its functions and its job."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "BOXDROP_HOME", "SSL_CERT_FILE")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        **system.environment(),
        "PYTHONUNBUFFERED": "1",
        "BOXDROP_TABLE": system.table,
        "BOXDROP_IMAGE_BUCKET": system.image_bucket,
        "BOXDROP_DATA_BUCKET": system.data_bucket,
        "BOXDROP_LAUNCHES_QUEUE": system.queue("launches"),
        "BOXDROP_PARTS_QUEUE": system.queue("parts"),
        "BOXDROP_REVIEWS_QUEUE": system.queue("reviews"),
        "BOXDROP_JOB_QUEUE": system.queue(JOBS),
        **LOCAL_LIMITS,
        "BOXDROP_WINDOW_S": str(system.window_s),
        "BOXDROP_LAUNCHER": system.launcher,
        "BOXDROP_WEBHOOK_URL": webhook_url,
        "BOXDROP_WEBHOOK_SECRET_ID": "boxdrop/webhook",
        "BOXDROP_LABEL_STUDIO_SECRET": system.label_studio_secret or "",
        "LABEL_STUDIO_URL": system.label_studio_url or "",
        **PRESIGN,
        "BOXDROP_PROVIDER": os.environ.get("BOXDROP_PROVIDER") or "cpu",
        "BOXDROP_BUNDLE_CACHE": str(home() / "bundles"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "POWERTOOLS_METRICS_NAMESPACE": "boxdrop",
        "POWERTOOLS_LOG_LEVEL": os.environ.get("POWERTOOLS_LOG_LEVEL", "INFO"),
    }


def _handler(pump: Pump) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > _BODY:
                self.close_connection = True
                return self._answer(413, '{"message": "Request Too Long"}')
            path, _, query = self.path.partition("?")
            if path != "/reviews":
                self.rfile.read(length)
                return self._answer(404, '{"message": "Not Found"}')
            body = self.rfile.read(length)
            headers = dict(self.headers.items())
            event = gateway_event("POST", path, query, headers, body, self.client_address[0])
            return self._answer(*pump.webhook(event))

        def do_GET(self) -> None:
            self._answer(200 if self.path == "/health" else 404, "{}")

        def _answer(self, status: int, body: str) -> None:
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Log nothing: a call's headers and body are secret."""

    return Handler


def main(arguments: Sequence[str], runtime: Sequence[str] = RUNTIME) -> None:
    """Run a pump until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m boxdrop.local.pump")
    parser.add_argument("--home", type=Path, required=True, help="boxdrop's; has system.json")
    parser.add_argument("--port", type=int, default=0, help="of webhooks")
    parser.add_argument("--reconcile-s", type=float, default=LOCAL_RECONCILE_S)
    parser.add_argument("--boxdrop-pump", action="store_true", help="marks the command line")
    options = parser.parse_args(arguments)
    system = read_description(options.home / "system.json")
    stop = Stop()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.ask())
    pump = Pump(system, Settings(runtime, options.reconcile_s, options.port))
    pump.start()
    stop.wait()
    pump.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
