"""Launchers: submit a run to a job.

All have the same interface: start the job for each shard of a run. A submission may happen twice, since AWS
Batch has no client token and a response may be lost. That is harmless, because a job uses conditional writes;
names derived from the run make it rare.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from boxdrop.aws.batch import ONCE, TRIES, BatchError, BatchJobs, is_throttled, sentence
from boxdrop.aws.s3 import Bucket
from boxdrop.aws.sqs import Queue
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import RUN_ID
from boxdrop.domain.times import time_text

RequestKey = Callable[[str, int, int], str]
"""Makes a request's key from the run's id, the attempt and the shard."""

_JOB_NAME = re.compile(rf"boxdrop-({RUN_ID})-(?P<attempt>\d+)(?:-(?P<shard>\d{{5}}))?")
_REASON_CHARACTERS: Final = 500


class LaunchError(BoxdropError):
    """A job could not be submitted; the message says what to do."""


class Launcher(Protocol):
    """Starts jobs."""

    def submit(self, run_id: str, shards: int, attempt: int) -> tuple[str, ...]:
        """Submit a run's shards, 0 to `shards` - 1.

        Args:
            attempt: of this run, from 1.

        Returns:
            Ids of the jobs.

        Raises:
            LaunchError: it may or may not have been submitted; another run for the same images is harmless.
        """

    def is_alive(self, job_ids: Sequence[str]) -> bool | None:
        """Whether any of these jobs may still be working; None if unknown.

        Raises:
            LaunchError: the service could not be queried.
        """

    def failure(self, job_ids: Sequence[str]) -> str | None:
        """Why one of these jobs failed, in the service's words; None if it does not say.

        Raises:
            LaunchError: the service could not be queried.
        """


def job_name(run_id: str, attempt: int) -> str:
    """Name of a run's job, the same for every submission."""
    return f"boxdrop-{run_id}-{attempt}"


def run_of_job_name(name: str) -> str | None:
    """The run in a job's or an invocation's name; None if boxdrop did not make it."""
    found = _JOB_NAME.fullmatch(name)
    return found[1] if found else None


class BatchLauncher:
    """AWS Batch: one job per run, an array job for several shards.

    The job definition's container has ``python -m functions.job`` as its entry point.

    Args:
        job_queue, job_definition: names or ARNs.
        timeout_s: Batch's limit for each attempt of a job; at least 60.
        client: boto3's Batch client.
    """

    def __init__(self, job_queue: str, job_definition: str, timeout_s: int, *, client: Any = None) -> None:
        self._queue, self._definition, self._timeout = job_queue, job_definition, timeout_s
        self._jobs = BatchJobs(client)

    def submit(self, run_id: str, shards: int, attempt: int) -> tuple[str, ...]:
        """See `Launcher` and `BatchJobs.submit`."""
        options: dict[str, Any] = {"arrayProperties": {"size": shards}} if shards > 1 else {}
        try:
            job_id = self._jobs.submit(
                job_name(run_id, attempt),
                self._queue,
                self._definition,
                ["--run", run_id],
                self._timeout,
                tags={"boxdrop:run": run_id},
                **options,
            )
        except BatchError as error:
            raise LaunchError(str(error)) from None
        return (job_id,)

    def is_alive(self, job_ids: Sequence[str]) -> bool | None:
        """See `Launcher`. A job that Batch has forgotten (after a day or more) has ended."""
        if not job_ids:
            return None
        try:
            return any(job.is_alive for job in self._jobs.look(job_ids).values())
        except BatchError as error:
            raise LaunchError(str(error)) from None

    def failure(self, job_ids: Sequence[str]) -> str | None:
        """See `Launcher`. Batch reports failures as events."""
        return None


class SageMakerLauncher:
    """A SageMaker asynchronous endpoint: one invocation per shard; requests are in the data bucket.

    Args:
        endpoint: its name.
        bucket: the data bucket.
        timeout_s: for each invocation; SageMaker allows at most an hour.
        request_key: makes the keys of the requests.
        client: boto3's SageMaker runtime client.
        clock: the time.

    A request notes where SageMaker will put its response or, if it fails, the reason. So `is_alive` can tell:
    SageMaker itself has no status of requests, and its notification that one failed may be lost.
    """

    MAX_INVOCATION_S: Final = 3600
    REQUEST_TTL_S: Final = 6 * 3600
    """How long a request may wait for an instance; SageMaker's maximum."""

    def __init__(
        self,
        endpoint: str,
        bucket: Bucket,
        timeout_s: int,
        request_key: RequestKey,
        *,
        client: Any = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._endpoint, self._bucket, self._request_key = endpoint, bucket, request_key
        self._timeout = min(timeout_s, self.MAX_INVOCATION_S)
        self._runtime: Any = client or boto3.client("sagemaker-runtime", config=ONCE)

    def submit(self, run_id: str, shards: int, attempt: int) -> tuple[str, ...]:
        """See `Launcher`. An invocation's id contains run, attempt and shard, also in failure notices."""
        invocations = []
        for shard in range(shards):
            name = f"{job_name(run_id, attempt)}-{shard:05}"
            key = self._request_key(run_id, attempt, shard)
            request: dict[str, Any] = {"run_id": run_id, "shard": shard}
            self._bucket.create(key, json.dumps(request).encode())
            said = self._invoke(name, f"s3://{self._bucket.name}/{key}")
            expires = self._clock() + timedelta(seconds=self.REQUEST_TTL_S + self._timeout)
            request |= {
                "output": said.get("OutputLocation"),
                "failure": said.get("FailureLocation"),
                "expires": time_text(expires),
            }
            self._bucket.put(key, json.dumps(request).encode())
            invocations.append(name)
        return tuple(invocations)

    def _invoke(self, name: str, location: str) -> Mapping[str, str]:
        for attempted in range(TRIES):
            try:
                answer: Mapping[str, str] = self._runtime.invoke_endpoint_async(
                    EndpointName=self._endpoint,
                    InputLocation=location,
                    ContentType="application/json",
                    InferenceId=name,
                    InvocationTimeoutSeconds=self._timeout,
                    RequestTTLSeconds=self.REQUEST_TTL_S,
                )
                return answer
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
                if (status < 500 and not is_throttled(error)) or attempted == TRIES - 1:
                    raise LaunchError(f"SageMaker refused {name}: {sentence(error)}") from None
            except BotoCoreError as error:
                if attempted == TRIES - 1:
                    raise LaunchError(f"SageMaker cannot be reached: {error}") from None
        raise AssertionError("unreachable")

    def is_alive(self, job_ids: Sequence[str]) -> bool | None:
        """See `Launcher`. A request has ended once its response or failure is there, or its time is over."""
        requests = [self._request(name) for name in job_ids]
        if not any("expires" in request for request in requests):
            return None  # an earlier version sent them
        return any(self._is_pending(request) for request in requests)

    def failure(self, job_ids: Sequence[str]) -> str | None:
        """See `Launcher`. SageMaker writes the reason into the endpoint's failure path."""
        for name in job_ids:
            key = self._key(self._request(name).get("failure"))
            if key is not None and (said := self._bucket.get(key)):
                words = " ".join(said.body.decode("utf-8", "replace").split())
                return f"SageMaker: {words[:_REASON_CHARACTERS]}"
        return None

    def _is_pending(self, request: Mapping[str, Any]) -> bool:
        if time_text(self._clock()) >= request.get("expires", ""):
            return False
        ends = [self._key(request.get(end)) for end in ("output", "failure")]
        return not any(key is not None and self._bucket.exists(key) for key in ends)

    def _request(self, name: str) -> dict[str, Any]:
        found = _JOB_NAME.fullmatch(name)
        if found is None or found["shard"] is None:
            return {}
        stored = self._bucket.get(self._request_key(found[1], int(found["attempt"]), int(found["shard"])))
        return dict(json.loads(stored.body)) if stored else {}

    def _key(self, location: str | None) -> str | None:
        """The key of an object that SageMaker will write; None for another bucket than the endpoint's own."""
        bucket, _, key = (location or "").removeprefix("s3://").partition("/")
        return key if bucket == self._bucket.name and key else None


class LocalLauncher:
    """The local system: a worker process receives shards from a queue, one message each.

    Args:
        queue: of messages ``{"run_id": …, "shard": …, "attempt": …}``.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def submit(self, run_id: str, shards: int, attempt: int) -> tuple[str, ...]:
        """See `Launcher`."""
        self._queue.send_all(
            {"run_id": run_id, "shard": shard, "attempt": attempt} for shard in range(shards)
        )
        return tuple(f"{job_name(run_id, attempt)}-{shard:05}" for shard in range(shards))

    def is_alive(self, job_ids: Sequence[str]) -> bool | None:
        """See `Launcher`. It does not inspect the queue."""
        return None

    def failure(self, job_ids: Sequence[str]) -> str | None:
        """See `Launcher`. The worker writes the reason into the run itself."""
        return None


def make_launcher(
    kind: str,
    *,
    job_queue: str | None,
    job_definition: str | None,
    endpoint: str | None,
    bucket: Bucket,
    request_key: RequestKey,
    timeout_s: int,
) -> Launcher:
    """The launcher that a system uses.

    Args:
        kind: ``batch``, ``sagemaker`` or ``local``.
        job_queue: of Batch, or the URL of the local worker's.
        job_definition: of Batch.
        endpoint: of SageMaker.
        bucket: the data bucket.
        request_key: makes the keys of SageMaker's requests in it.
        timeout_s: for each attempt of a job.

    Raises:
        LaunchError: there is no such launcher, or one of its settings is missing.
    """
    if kind == "batch" and job_queue and job_definition:
        return BatchLauncher(job_queue, job_definition, timeout_s)
    if kind == "sagemaker" and endpoint:
        return SageMakerLauncher(endpoint, bucket, timeout_s, request_key)
    if kind == "local" and job_queue:
        return LocalLauncher(Queue(job_queue))
    needs = {"batch": "a job queue and a job definition", "sagemaker": "an endpoint", "local": "a job queue"}
    if kind not in needs:
        raise LaunchError(f"there is no launcher {kind!r}; use one of {', '.join(needs)}")
    raise LaunchError(f"the launcher {kind} needs {needs[kind]}")
