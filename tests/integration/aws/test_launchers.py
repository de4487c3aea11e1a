"""Launchers against moto: AWS Batch, SageMaker's asynchronous endpoints, and the queue of a local worker."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from boxdrop.aws.launchers import (
    BatchLauncher,
    LaunchError,
    LocalLauncher,
    SageMakerLauncher,
    job_name,
    make_launcher,
    run_of_job_name,
)
from boxdrop.aws.s3 import Bucket
from boxdrop.aws.sqs import Queue, QueueError, redrive
from boxdrop.store.layout import request_key
from tests.fault_proxy import Fault, FaultProxy
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint"]

RUN = "20261124T215700Z-0123abcd"


@pytest.fixture(scope="module")
def batch(aws: MakeClient, endpoint: str) -> Any:
    """Batch with a queue and a job definition; moto starts no container."""
    import requests

    requests.post(f"{endpoint}/moto-api/config", json={"batch": {"use_docker": False}}, timeout=10)
    client, iam, ec2 = aws("batch"), aws("iam"), aws("ec2")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = iam.create_role(RoleName="batch", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    profile = iam.create_instance_profile(InstanceProfileName="batch")["InstanceProfile"]["Arn"]
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(GroupName="batch", Description="batch", VpcId=subnet["VpcId"])
    environment = client.create_compute_environment(
        computeEnvironmentName="spot",
        type="MANAGED",
        state="ENABLED",
        computeResources={
            "type": "SPOT",
            "minvCpus": 0,
            "maxvCpus": 8,
            "instanceTypes": ["optimal"],
            "subnets": [subnet["SubnetId"]],
            "securityGroupIds": [group["GroupId"]],
            "instanceRole": profile,
        },
        serviceRole=role,
    )["computeEnvironmentArn"]
    order = [{"order": 1, "computeEnvironment": environment}]
    client.create_job_queue(jobQueueName="jobs", state="ENABLED", priority=1, computeEnvironmentOrder=order)
    container = {"image": "boxdrop", "vcpus": 1, "memory": 128, "command": ["--help"]}
    client.register_job_definition(jobDefinitionName="job", type="container", containerProperties=container)
    return client


def jobs(batch: Any, run_id: str) -> list[dict[str, Any]]:
    listed = batch.list_jobs(jobQueue="jobs", filters=[{"name": "JOB_NAME", "values": [job_name(run_id, 1)]}])
    ids = [job["jobId"] for job in listed["jobSummaryList"] if job["jobName"] == job_name(run_id, 1)]
    found: list[dict[str, Any]] = batch.describe_jobs(jobs=ids)["jobs"]
    return found


def test_batch_gets_one_job_a_run_and_an_array_for_several_shards(batch: Any) -> None:
    launcher = BatchLauncher("jobs", "job", 600, client=batch)
    (single,) = launcher.submit(RUN, 1, 1)
    (job,) = jobs(batch, RUN)
    assert (job["jobId"], job["jobName"]) == (single, f"boxdrop-{RUN}-1")
    assert job["container"]["command"] == ["--run", RUN]
    assert job["timeout"] == {"attemptDurationSeconds": 600}
    other = RUN.replace("0123", "4567")
    (array,) = launcher.submit(other, 3, 1)
    (parent,) = batch.describe_jobs(jobs=[array])["jobs"]
    assert parent["arrayProperties"]["size"] == 3
    assert launcher.is_alive((single, array)) in (True, False)
    assert launcher.is_alive(()) is None


def test_what_batch_refuses_is_one_sentence(batch: Any) -> None:
    with pytest.raises(LaunchError, match=r"refused the job boxdrop-.*nowhere"):
        BatchLauncher("nowhere", "job", 600, client=batch).submit(RUN, 1, 1)


@pytest.fixture
def proxy(endpoint: str) -> Iterator[FaultProxy]:
    """Breaks connections to moto."""
    with FaultProxy(endpoint) as running:
        yield running


@pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.ERROR_AFTER, Fault.REFUSE])
def test_a_lost_answer_of_batch_does_not_make_a_second_job(
    batch: Any, proxy: FaultProxy, fault: Fault
) -> None:
    client = boto3.client(
        "batch",
        endpoint_url=proxy.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=20),
    )
    run_id = RUN.replace("0123", f"{list(Fault).index(fault):04}")
    proxy.arm(0, fault)
    (job_id,) = BatchLauncher("jobs", "job", 600, client=client).submit(run_id, 1, 1)
    assert proxy.has_struck
    assert [job["jobId"] for job in jobs(batch, run_id)] == [job_id]


class NotedRuntime:
    """SageMaker's runtime, noting what it is asked for: moto has no asynchronous invocations with ids."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def invoke_endpoint_async(self, **request: Any) -> dict[str, str]:
        self.asked.append(request)
        return {"InferenceId": request["InferenceId"]}


def test_sagemaker_gets_an_invocation_a_shard_whose_request_is_in_the_bucket(aws: MakeClient) -> None:
    aws("s3").create_bucket(Bucket="requests")
    bucket, runtime = Bucket("requests", client=aws("s3")), NotedRuntime()
    launcher = SageMakerLauncher("endpoint", bucket, 4 * 3600, request_key, client=runtime)
    ids = launcher.submit(RUN, 2, 1)
    assert ids == (f"boxdrop-{RUN}-1-00000", f"boxdrop-{RUN}-1-00001")
    assert [run_of_job_name(each) for each in ids] == [RUN, RUN]
    assert [request["InvocationTimeoutSeconds"] for request in runtime.asked] == [3600, 3600]
    for shard, request in enumerate(runtime.asked):
        stored = bucket.get(request["InputLocation"].removeprefix("s3://requests/"))
        assert stored is not None
        sent = json.loads(stored.body)
        assert (sent["run_id"], sent["shard"]) == (RUN, shard)
    boto3.client("sagemaker-runtime", region_name="us-east-1")  # the parameters are those of the real one
    model = boto3.client("sagemaker-runtime", region_name="us-east-1").meta.service_model
    shape = model.operation_model("InvokeEndpointAsync").input_shape
    assert set(runtime.asked[0]) <= set(shape.members)
    assert launcher.is_alive(ids) is True


def test_a_local_worker_gets_a_message_a_shard(aws: MakeClient) -> None:
    sqs = aws("sqs")
    queue = Queue(sqs.create_queue(QueueName="worker")["QueueUrl"], client=sqs)
    ids = LocalLauncher(queue).submit(RUN, 12, 1)
    assert len(set(ids)) == 12
    shards = sorted(json.loads(message.body)["shard"] for message in queue.receive_all())
    assert shards == list(range(12))


def test_a_launcher_names_its_missing_settings(aws: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = Bucket("requests", client=aws("s3"))
    options: dict[str, Any] = {"job_definition": "", "endpoint": "", "bucket": bucket}
    options |= {"request_key": request_key, "timeout_s": 60}
    with pytest.raises(LaunchError, match="the launcher batch needs a job queue and a job definition"):
        make_launcher("batch", job_queue="jobs", **options)
    with pytest.raises(LaunchError, match="there is no launcher 'slurm'; use one of batch, sagemaker, local"):
        make_launcher("slurm", job_queue="jobs", **options)
    assert isinstance(make_launcher("local", job_queue="http://127.0.0.1:9/queue", **options), LocalLauncher)


@pytest.mark.parametrize("name", ["boxdrop-x-1", f"other-{RUN}-1", f"boxdrop-{RUN}", f"boxdrop-{RUN}-1-x"])
def test_foreign_job_names_are_not_parsed_as_runs(name: str) -> None:
    assert run_of_job_name(name) is None


def test_dead_letters_go_back_to_their_queue_and_none_is_lost(
    aws: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs = aws("sqs")
    dead, queue = (Queue(sqs.create_queue(QueueName=name)["QueueUrl"], client=sqs) for name in ("x-dlq", "x"))
    dead.send_all({"number": number} for number in range(12))
    assert (dead.count(), queue.count()) == (12, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "delete", _dies)
        with pytest.raises(KeyboardInterrupt):
            redrive(dead, queue)
    assert (dead.count(), queue.count()) == (12, 1)  # twice is harmless, lost would not be
    sqs.purge_queue(QueueUrl=dead.url)
    dead.send_all({"number": number} for number in range(3))
    assert redrive(dead, queue) == 3
    assert (dead.count(), queue.count()) == (0, 4)


def _dies(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_queue_that_is_not_there_is_one_sentence(aws: MakeClient) -> None:
    queue = Queue("http://127.0.0.1:9/nowhere", client=aws("sqs"))
    with pytest.raises(QueueError, match="refused a message"):
        queue.send({})
    with pytest.raises(QueueError, match="cannot be read"):
        list(queue.receive_all())
