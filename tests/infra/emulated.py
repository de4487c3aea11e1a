"""The synthesized stacks, deployed by CloudFormation on an emulator that runs the functions' packages.

What MiniStack 1.5.33 lacks, and what stands in for it here:

- CloudFormation of AWS Batch: queue and definition are made by Batch's API, under the names that the pipeline
  knows. Its jobs succeed at once and run nothing: `Deployment.work` runs what was submitted.
- Batch's state changes: a test sends the event to EventBridge.
- Names: functions' URLs (``ID.execute-api.localhost``) are not in the DNS: `Deployment.forward` takes the
  call and passes it on.
- CloudFormation of budgets, saved queries and autoscaling: the monitoring stack is not deployed.
- ``Fn::GetStackOutput``: `Deployment.deploy` fills in the outputs of the stacks that are deployed.
- Versions: events of a bucket with versions name none, so rows have etags.
- IAM: roles are kept, and not enforced; what they would have to allow is compared in `test_permissions`.
- Python 3.13: the functions run on the Python that runs the tests, with packages made for it.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import boto3
import requests
from botocore.config import Config

from boxdrop.aws.s3 import Bucket
from boxdrop.local.aws import Aws
from boxdrop.system import System, from_json, parameter_name
from infra import bundling
from infra.config import Environment
from tests.label_studio_server import SHARED_HOME, quiet
from tests.ports import free_port

REPOSITORY: Final = Path(__file__).parents[2]
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
REGION: Final = "us-east-1"
PATIENCE_S: Final = 900


def wait_for(what: str, condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Until a condition gives something true."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"within {patience_s} s there was no {what}")


class Emulator:
    """MiniStack on loopback, a process of this test, with what records the functions' calls on its path."""

    def __init__(self, folder: Path) -> None:
        shared = Aws(SHARED_HOME / "aws")
        with shared._only_one(quiet):
            shared.install(quiet)
        self.folder = folder
        self.calls_file = folder / "calls.jsonl"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._log = (folder / "emulator.log").open("wb")
        self._process = subprocess.Popen(
            [str(shared.environment.python), "-c", "from ministack.app import main; main()"],
            cwd=folder,
            env=environ
            | {
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(self.port),
                "MINISTACK_REGION": REGION,
                "LAMBDA_EXECUTOR": "local",
                "PERSIST_STATE": "0",
                "TMPDIR": str(folder),
                "PYTHONPATH": str(Path(__file__).with_name("recorder")),
                "BOXDROP_TEST_CALLS": str(self.calls_file),
            },
            stdout=self._log,
            stderr=self._log,
        )
        wait_for("answer of the emulator", self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "emulator.log").read_text()[-2000:]
        try:
            return requests.get(f"{self.url}/_ministack/health", timeout=5).status_code < 500
        except requests.ConnectionError:
            return False

    def client(self, service: str) -> Any:
        """boto3's client of a service."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"mode": "standard", "max_attempts": 3}, read_timeout=120),
        )

    def calls(self) -> list[dict[str, Any]]:
        """What the functions asked of AWS so far."""
        if not self.calls_file.exists():
            return []
        return [json.loads(line) for line in self.calls_file.read_text().splitlines() if line.endswith("}")]

    def close(self) -> None:
        """End it, and the functions with it."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


@dataclass
class Deployment:
    """One environment on the emulator.

    Attributes:
        templates: by stack.
        outputs: of the stacks, by name.
        imported: existing resources that each stack has taken over, by type.
    """

    emulator: Emulator
    environment: Environment
    templates: Mapping[str, Mapping[str, Any]]
    outputs: dict[str, str] = field(default_factory=dict)
    imported: dict[str, dict[str, str]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _servers: list[ThreadingHTTPServer] = field(default_factory=list)

    @property
    def system(self) -> System:
        """What the deployment says of itself."""
        name = parameter_name(self.environment.name)
        answer = self.emulator.client("ssm").get_parameter(Name=name)
        return from_json(answer["Parameter"]["Value"], name)

    def bucket(self, name: str) -> Bucket:
        """A bucket of the deployment."""
        return Bucket(name, client=self.emulator.client("s3"))

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """Call a function, and expect that it does not fail."""
        answer = self.emulator.client("lambda").invoke(
            FunctionName=f"{self.environment.prefix}-{function}", Payload=json.dumps(event).encode()
        )
        said = answer["Payload"].read().decode()
        assert "FunctionError" not in answer, said
        return json.loads(said or "null")

    def deploy(self, stack: str) -> None:
        """Create a stack as `cdk deploy` does, and wait until it is there; data imports what exists."""
        cloudformation, s3 = self.emulator.client("cloudformation"), self.emulator.client("s3")
        name = f"{self.environment.prefix}-{stack}"
        template = self._fill(self.templates[stack])
        s3.put_object(Bucket="templates", Key=f"{name}.json", Body=json.dumps(template).encode())
        made = cloudformation.create_change_set(
            StackName=name,
            ChangeSetName="deploy",
            ChangeSetType="CREATE",
            TemplateURL=f"{self.emulator.url}/templates/{name}.json",
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
            ImportExistingResources=stack == "data",
            DisableValidation=True,  # the emulator's takes an imported bucket for a conflict of names
        )

        def planned() -> Any:
            described = cloudformation.describe_change_set(ChangeSetName=made["Id"])
            assert described["Status"] != "FAILED", described.get("StatusReason")
            return described if described["Status"] == "CREATE_COMPLETE" else None

        self.imported[stack] = {
            change["ResourceChange"]["ResourceType"]: change["ResourceChange"]["PhysicalResourceId"]
            for change in wait_for(f"plan of {name}", planned)["Changes"]
            if change["ResourceChange"]["Action"] == "Import"
        }
        cloudformation.execute_change_set(ChangeSetName=made["Id"])

        def ended() -> Any:
            (described,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
            return described if not described["StackStatus"].endswith("IN_PROGRESS") else None

        described = wait_for(f"stack {name}", ended)
        if described["StackStatus"] not in ("CREATE_COMPLETE", "IMPORT_COMPLETE"):
            events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            failed = [
                (each["LogicalResourceId"], each.get("ResourceStatusReason"))
                for each in events
                if "FAILED" in each["ResourceStatus"]
            ]
            raise AssertionError(f"{name}: {described['StackStatus']}: {failed}")
        self.outputs |= {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}

    def destroy(self, stack: str) -> None:
        """Delete a stack, as ``cdk destroy`` does, and wait until it is gone."""
        cloudformation = self.emulator.client("cloudformation")
        (described,) = cloudformation.describe_stacks(StackName=f"{self.environment.prefix}-{stack}")[
            "Stacks"
        ]
        cloudformation.delete_stack(StackName=described["StackName"])

        def status() -> str:
            (now,) = cloudformation.describe_stacks(StackName=described["StackId"])["Stacks"]
            return str(now["StackStatus"])

        wait_for(f"end of {stack}", lambda: status() != "DELETE_IN_PROGRESS")
        assert status() == "DELETE_COMPLETE"

    def forget_logs(self) -> None:
        """Delete log groups that the emulator makes again when a function ends after its stack.

        In AWS a function cannot: its role may not create a log group.
        """
        logs = self.emulator.client("logs")
        prefix = f"/boxdrop/{self.environment.name}/"
        for group in logs.describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]:
            logs.delete_log_group(logGroupName=group["logGroupName"])

    def _fill(self, template: Any) -> Any:
        """A template with the outputs that it reads from other stacks."""
        if isinstance(template, Mapping):
            if "Fn::GetStackOutput" in template:
                return self.outputs[template["Fn::GetStackOutput"]["OutputName"]]
            return {key: self._fill(value) for key, value in template.items()}
        return [self._fill(each) for each in template] if isinstance(template, list) else template

    @property
    def _detector(self) -> dict[str, Any]:
        """Properties of the detector's job definition."""
        return next(
            dict(each["Properties"])
            for each in self.templates["compute"]["Resources"].values()
            if each["Type"] == "AWS::Batch::JobDefinition"
            and each["Properties"]["JobDefinitionName"] == self.environment.prefix
        )

    def make_batch(self) -> None:
        """Queue and definition, which the emulator's CloudFormation does not know."""
        batch, prefix = self.emulator.client("batch"), self.environment.prefix
        batch.create_compute_environment(computeEnvironmentName=prefix, type="UNMANAGED", state="ENABLED")
        batch.create_job_queue(
            jobQueueName=prefix, state="ENABLED", priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": prefix}],
        )  # fmt: skip
        batch.register_job_definition(
            jobDefinitionName=self._detector["JobDefinitionName"],
            type="container",
            containerProperties={"image": "boxdrop-job", "vcpus": 1, "memory": 1024},
        )

    def work(self) -> None:
        """Run each job that is submitted, once, as Batch's container would."""
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        batch, done = self.emulator.client("batch"), set()
        while not self._stop.wait(0.2):
            for status in ("SUBMITTED", "RUNNABLE", "RUNNING", "SUCCEEDED"):
                listed = batch.list_jobs(jobQueue=self.environment.prefix, jobStatus=status)["jobSummaryList"]
                for job in listed:
                    if job["jobId"] not in done:
                        done.add(job["jobId"])
                        self._run(job)

    def _run(self, job: Mapping[str, Any]) -> None:
        run_id = job["jobName"].removeprefix("boxdrop-").rpartition("-")[0]
        variables = {
            each["Name"]: each["Value"] for each in self._detector["ContainerProperties"]["Environment"]
        }
        system = self.system
        given = {
            **{name: value for name, value in variables.items() if isinstance(value, str)},
            "BOXDROP_DATA_BUCKET": system.data_bucket,
            "BOXDROP_PROVIDER": "cpu",  # there is no GPU here
            "BOXDROP_BUNDLE_CACHE": str(self.emulator.folder / "bundles"),
            "AWS_BATCH_JOB_ID": job["jobId"],
            "AWS_ENDPOINT_URL": self.emulator.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "PYTHONPATH": str(Path(__file__).with_name("recorder")),
            "BOXDROP_TEST_CALLS": str(self.emulator.calls_file),
            "BOXDROP_TEST_FUNCTION": "job",
        }
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with (self.emulator.folder / "job.log").open("ab") as log:
            subprocess.run(
                [sys.executable, "-m", "functions.job", "--run", run_id],
                cwd=REPOSITORY, env=environ | given, stdout=log, stderr=log,
            )  # fmt: skip

    def forward(self) -> str:
        """An address that leads to the deployed webhook."""
        emulator = self.emulator
        api = self.outputs["WebhookUrl"].partition("://")[2].partition("/")[0]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                answer = requests.post(
                    f"{emulator.url}/webhook", data=body, headers={**headers, "Host": api}, timeout=60
                )
                self.send_response(answer.status_code)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/webhook"

    def close(self) -> None:
        """End the worker and the forwarder."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        for server in self._servers:
            server.shutdown()
            server.server_close()


def synthesize(environment: Environment, folder: Path) -> dict[str, Mapping[str, Any]]:
    """Templates with packages for the Python that runs here."""
    from aws_cdk import App
    from aws_cdk import aws_lambda as lambda_

    from infra.app import make_app
    from tests.infra.conftest import CONTEXT, read_template

    def make_code(package: Any) -> lambda_.Code:
        made = bundling.build(package, python=PYTHON, say=quiet)
        return lambda_.Code.from_asset(str(made))

    app = App(outdir=str(folder), context=CONTEXT)
    stacks = make_app(app, environment, make_code=make_code)
    app.synth()
    return {name: read_template(folder, stack.stack_name) for name, stack in stacks.items()}


def publish_assets(emulator: Emulator, folder: Path, prefix: str) -> None:
    """What `cdk deploy` does with packages: zip them, and put them where the templates expect them."""
    s3 = emulator.client("s3")
    for manifest in sorted(folder.glob(f"{prefix}-*.assets.json")):
        for asset in json.loads(manifest.read_text())["files"].values():
            source = folder / asset["source"]["path"]
            if asset["source"]["packaging"] != "zip":
                continue
            for target in asset["destinations"].values():
                bucket = target["bucketName"].replace("${AWS::AccountId}", "000000000000")
                bucket = bucket.replace("${AWS::Region}", REGION)
                s3.create_bucket(Bucket=bucket)
                archive = folder / f"{source.name}.zip"
                if not archive.exists():
                    _zip(source, archive)
                s3.upload_file(str(archive), bucket, target["objectKey"])


def _zip(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder))


def free_space(folder: Path) -> None:
    """Give back what packages and archives took."""
    shutil.rmtree(folder, ignore_errors=True)
