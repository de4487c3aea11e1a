"""Jobs of AWS Batch: submit one, find it, look at it, end it.

A submission may happen twice, since Batch has no client token and a response may be lost. `BatchJobs.submit`
looks for the job by its name before it tries again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from boxdrop.domain.errors import BoxdropError

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    raise BoxdropError("launching jobs needs boto3: pip install 'boxdrop[s3]'") from None

ONCE: Final = Config(
    retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=5, read_timeout=20
)
"""No retries by botocore: we first check whether the lost call succeeded."""

TRIES: Final = 3
LEAST_TIMEOUT_S: Final = 60
"""Batch's minimum for a timeout."""

_NAME_CHARACTERS: Final = 128

Stage = Literal["queued", "starting", "running", "succeeded", "failed"]
_STAGES: Final[dict[str, Stage]] = {
    "SUBMITTED": "queued",
    "PENDING": "queued",
    "RUNNABLE": "queued",
    "STARTING": "starting",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
}


class BatchError(BoxdropError):
    """AWS Batch refused a call, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class SeenJob:
    """A job, as Batch describes it.

    Attributes:
        id: Batch's.
        stage: how far it is.
        reason: why it waits or failed, in Batch's words; empty if it does not say.
        attempts: attempts that have ended.
    """

    id: str
    stage: Stage
    reason: str = ""
    attempts: int = 0

    @property
    def is_alive(self) -> bool:
        """Whether it may still work."""
        return self.stage in ("queued", "starting", "running")


class BatchJobs:
    """See the module.

    Args:
        client: boto3's Batch client, which repeats no call.
    """

    def __init__(self, client: Any = None) -> None:
        self._batch: Any = client or boto3.client("batch", config=ONCE)

    def submit(
        self,
        name: str,
        queue: str,
        definition: str,
        command: Sequence[str],
        timeout_s: int,
        *,
        tags: dict[str, str] | None = None,
        **options: Any,
    ) -> str:
        """Submit a job, and return its id. If a response is lost, look for the job, and submit it again if
        it is missing.

        Args:
            name: the same for every submission of this job; at most 128 characters.
            queue, definition: names or ARNs.
            command: of the container.
            timeout_s: Batch's limit for each attempt.
            tags: of the job and its task.
            options: further fields of the request.

        Raises:
            BatchError: it may or may not have been submitted.
        """
        assert len(name) <= _NAME_CHARACTERS
        for attempted in range(TRIES):
            if attempted and (found := self._find_quietly(queue, name)):
                return found[0]
            try:
                answer = self._batch.submit_job(
                    jobName=name,
                    jobQueue=queue,
                    jobDefinition=definition,
                    containerOverrides={"command": list(command)},
                    timeout={"attemptDurationSeconds": max(LEAST_TIMEOUT_S, timeout_s)},
                    tags=tags or {},
                    propagateTags=True,
                    **options,
                )
                return str(answer["jobId"])
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
                if (status < 500 and not is_throttled(error)) or attempted == TRIES - 1:
                    raise BatchError(f"AWS Batch refused the job {name}: {sentence(error)}") from None
            except BotoCoreError as error:
                if attempted == TRIES - 1:
                    raise BatchError(f"AWS Batch cannot be reached: {error}") from None
        raise AssertionError("unreachable")

    def find(self, queue: str, name: str) -> tuple[str, ...]:
        """Ids of the jobs of a name; Batch forgets a job some days after its end.

        Raises:
            BatchError: Batch did not answer.
        """
        try:
            answer = self._batch.list_jobs(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}])
        except (BotoCoreError, ClientError) as error:
            raise BatchError(f"AWS Batch cannot be asked about jobs: {sentence(error)}") from None
        return tuple(str(job["jobId"]) for job in answer["jobSummaryList"] if job["jobName"] == name)

    def look(self, job_ids: Sequence[str]) -> dict[str, SeenJob]:
        """The last 100 of these jobs by id, without those that Batch has forgotten.

        Raises:
            BatchError: Batch did not answer.
        """
        if not job_ids:
            return {}
        try:
            answer = self._batch.describe_jobs(jobs=list(job_ids)[-100:])
        except (BotoCoreError, ClientError) as error:
            raise BatchError(f"AWS Batch cannot be asked about jobs: {sentence(error)}") from None
        return {str(each["jobId"]): _seen(each) for each in answer["jobs"]}

    def end(self, job_id: str, reason: str) -> None:
        """End a job in any stage; one that has ended stays as it is.

        Raises:
            BatchError: Batch refused it, or did not answer.
        """
        try:
            self._batch.terminate_job(jobId=job_id, reason=reason)
        except (BotoCoreError, ClientError) as error:
            raise BatchError(f"AWS Batch did not end the job {job_id}: {sentence(error)}") from None

    def _find_quietly(self, queue: str, name: str) -> tuple[str, ...]:
        try:
            return self.find(queue, name)
        except BatchError:
            return ()


def _seen(job: dict[str, Any]) -> SeenJob:
    """A job of DescribeJobs; the last attempt's container says more than the job does."""
    attempts = job.get("attempts") or []
    container = (attempts[-1].get("container") or {}) if attempts else {}
    said = [job.get("statusReason") or "", container.get("reason") or ""]
    code = container.get("exitCode")
    if code not in (None, 0):
        said.append(f"exit code {code}")
    reason = "; ".join(dict.fromkeys(filter(None, said)))
    return SeenJob(str(job["jobId"]), _STAGES[job["status"]], reason, len(attempts))


def is_throttled(error: ClientError) -> bool:
    """Whether AWS asks to call again later."""
    return error.response.get("Error", {}).get("Code") in ("TooManyRequestsException", "ThrottlingException")


def sentence(error: Exception) -> str:
    """What AWS says of an error."""
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        return f"{details.get('Message') or details.get('Code')} ({details.get('Code')})"
    return str(error)
