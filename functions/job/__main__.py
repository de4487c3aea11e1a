"""The job's entry point, the same on AWS Batch, on SageMaker and on one machine.

    python -m functions.job --run RUN              all shards; in an array job of Batch, the one of its index
    python -m functions.job --run RUN --shard 3    one shard
    python -m functions.job serve                  SageMaker's container: GET /ping, POST /invocations
    python -m functions.job --order O --project P  long work, see `functions.job.order`

Exit codes, for Batch's retry strategy:

     0  all parts are there
     1  the operator has to fix something: bundle, labels, permissions, disk, or CUDA is not available
     2  wrong arguments
    75  run it again: it was asked to stop (SIGTERM), or S3 did not respond (EX_TEMPFAIL of sysexits.h)
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError, UnavailableError
from boxdrop.job.detectors import Detectors
from boxdrop.job.job import Job
from boxdrop.job.stop import Stop, StoppedError
from functions.job.environment import Environment
from functions.job.host import describe_host, find_gpu
from functions.job.log import LineLog
from functions.job.server import Server

DONE: Final = 0
BROKEN: Final = 1
AGAIN: Final = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    started = datetime.now(UTC)
    options = _parse(arguments)
    if options.order:
        from functions.job.order import main as work_on_order

        return work_on_order(options.project, options.order)
    log = LineLog()
    stop = Stop()
    try:
        environment = Environment.read()
        job = make_job(environment, log, serves=options.serve)
    except BoxdropError as error:
        return fail(log, error)
    shard = options.shard if options.shard is not None else environment.array_index

    def work() -> int:
        try:
            if options.serve:
                Server(job, environment.address, stop, environment.timeout_s).run()
            else:
                job.work(options.run, shard, stop, started=started)
        except Exception as error:
            return fail(log, error)
        return DONE

    return _until_stopped(work, stop, environment.grace_s, log)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m functions.job", description="Find the boxes in a run's images."
    )
    parser.add_argument("command", nargs="?", choices=["serve"], help="serve: answer SageMaker on HTTP")
    parser.add_argument("--run", help="the run whose manifest is in the data bucket")
    parser.add_argument("--shard", type=int, help="only this shard; default: the array index, or all of them")
    parser.add_argument("--order", help="long work that was ordered with `boxdrop ... --in-account`")
    parser.add_argument("--project", default="", help="with --order: whose it is; default: no project")
    options = parser.parse_args(arguments)
    options.serve = options.command == "serve"
    if options.serve + bool(options.run) + bool(options.order) != 1:
        parser.error("give --run RUN, --order ORDER, or serve")
    return options


def make_job(environment: Environment, log: LineLog, *, serves: bool) -> Job:
    """The job of this machine; it keeps its detector for the next shard."""
    gpu = find_gpu()
    data = Bucket(environment.data_bucket)
    return Job(
        data,
        Bucket,
        Detectors(data, environment.bundle_cache, environment.provider, environment.threads),
        describe_host(environment, gpu, serves=serves),
        log=log,
        utilisation=gpu.utilisation if gpu and environment.provider == "cuda" else lambda: None,
        batch_size=environment.batch_size,
        fetchers=environment.fetchers,
    )


def fail(log: LineLog, error: Exception) -> int:
    """Log why the job ends, and choose its exit code."""
    again = isinstance(error, StoppedError | UnavailableError)
    known = isinstance(error, BoxdropError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    log.event("job stops" if again else "job fails", reason=reason, exit_code=AGAIN if again else BROKEN)
    return AGAIN if again else BROKEN


def _until_stopped(work: Callable[[], int], stop: Stop, grace_s: float, log: LineLog) -> int:
    """Do the work in a thread, so SIGTERM is handled at any time.

    When asked to stop, it has `grace_s` to finish the parts in flight; then the process ends. This is safe:
    every object is written whole or not at all.
    """
    codes: list[int] = []
    over = threading.Event()
    asked: list[float] = []

    def hear(number: int, _: object) -> None:
        stop.ask()
        if not asked:
            asked.append(time.monotonic())
            log.event("asked to stop", signal=signal.Signals(number).name, grace_s=grace_s)

    def run() -> None:
        try:
            codes.append(work())
        finally:
            over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hear)
    threading.Thread(target=run, name="boxdrop-job", daemon=True).start()
    while not over.wait(0.1):
        if asked and time.monotonic() - asked[0] > grace_s:
            log.event(
                "job stops", reason="the parts in flight took too long and were abandoned", exit_code=AGAIN
            )
            return AGAIN
    return codes[0] if codes else BROKEN


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads that still wait for a file or the model must not delay the exit
