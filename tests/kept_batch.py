"""AWS Batch that keeps what it is asked and whose stages the test decides: no emulator runs jobs for hours.

Requests and answers are checked against the real service's model: a field that AWS does not know is an error.
"""

from collections.abc import Mapping
from typing import Any

import botocore.session
from botocore.exceptions import ClientError
from botocore.model import ServiceModel
from botocore.validate import validate_parameters

MODEL = ServiceModel(
    botocore.session.get_session().get_component("data_loader").load_service_model("batch", "service-2")
)


class KeptBatch:
    """boto3's Batch client, as far as `boxdrop.aws.batch` uses it.

    Attributes:
        jobs: as DescribeJobs gives them, by id; a test changes their stages.
        lose_answers: how many submissions are done but not answered.
        refuse: the message of a refusal, once.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.requests: list[Mapping[str, Any]] = []
        self.lose_answers = 0
        self.refuse: str | None = None

    def submit_job(self, **request: Any) -> dict[str, Any]:
        _check("SubmitJob", request)
        if self.refuse is not None:
            message, self.refuse = self.refuse, None
            raise _error("ClientException", message, 400)
        self.requests.append(request)
        number = f"00000000-0000-0000-0000-{len(self.jobs):012}"
        self.jobs[number] = {
            "jobId": number,
            "jobName": request["jobName"],
            "jobQueue": request["jobQueue"],
            "jobDefinition": request["jobDefinition"],
            "status": "RUNNABLE",
            "startedAt": 0,
        }
        if self.lose_answers:
            self.lose_answers -= 1
            raise _error("ServerException", "lost", 500)
        return _answer("SubmitJob", {"jobId": number, "jobName": request["jobName"]})

    def list_jobs(self, **request: Any) -> dict[str, Any]:
        _check("ListJobs", request)
        (name,) = request["filters"][0]["values"]
        found = [{"jobId": each["jobId"], "jobName": each["jobName"]} for each in self._named(name)]
        return _answer("ListJobs", {"jobSummaryList": found})

    def describe_jobs(self, **request: Any) -> dict[str, Any]:
        _check("DescribeJobs", request)
        return _answer(
            "DescribeJobs", {"jobs": [self.jobs[each] for each in request["jobs"] if each in self.jobs]}
        )

    def terminate_job(self, **request: Any) -> dict[str, Any]:
        _check("TerminateJob", request)
        self.end(request["jobId"], "FAILED", request["reason"])
        return {}

    def end(self, job_id: str, status: str, reason: str = "", exit_code: int | None = None) -> None:
        """Move a job to its end."""
        container: dict[str, Any] = {} if exit_code is None else {"exitCode": exit_code}
        self.jobs[job_id] |= {
            "status": status,
            "statusReason": reason,
            "attempts": [{"container": container}],
        }

    def _named(self, name: str) -> list[dict[str, Any]]:
        return [each for each in self.jobs.values() if each["jobName"] == name]


def _check(operation: str, request: Mapping[str, Any]) -> None:
    validate_parameters(request, MODEL.operation_model(operation).input_shape)


def _answer(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
    validate_parameters(answer, MODEL.operation_model(operation).output_shape)
    return answer


def _error(code: str, message: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "SubmitJob",
    )
