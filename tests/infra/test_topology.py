"""The deployment in AWS and the system on one machine follow one table, but for the differences it names."""

from dataclasses import fields
from typing import Any

from boxdrop import topology
from boxdrop.labelstudio.connection import IMPORT_TIMEOUT_S
from boxdrop.local.aws import REGION, Server
from boxdrop.local.pump import Pump, Settings
from boxdrop.local.resources import client, create
from boxdrop.topology import DIFFERENCES, FUNCTIONS, JOBS, LIMITS, LOCAL_LIMITS, READERS, Delivery
from functions.environment import Environment as FunctionEnvironment
from infra.config import Environment
from tests.aws_server import aws_server
from tests.infra.conftest import Synthesize, Synthesized

__all__ = ["aws_server"]

REASONS = {each.name: each.reason for each in DIFFERENCES}


def deployed_deliveries(variant: Synthesized) -> dict[str, Delivery]:
    """How AWS delivers each queue's messages, read from the template."""
    queues = variant.resources("AWS::SQS::Queue", "pipeline")
    functions = variant.resources("AWS::Lambda::Function", "pipeline")
    found = {}
    for mapping in variant.resources("AWS::Lambda::EventSourceMapping", "pipeline").values():
        settings = mapping["Properties"]
        queue = named(queues, settings["EventSourceArn"])
        function = named(functions, settings["FunctionName"])
        name = queue["QueueName"].removeprefix(f"{variant.environment.prefix}-")
        found[name] = Delivery(
            function=function["FunctionName"].removeprefix(f"{variant.environment.prefix}-"),
            batch=settings["BatchSize"],
            window_s=settings.get("MaximumBatchingWindowInSeconds", 0),
            timeout_s=function["Timeout"],
            visibility_s=queue["VisibilityTimeout"],
            receives=queue["RedrivePolicy"]["maxReceiveCount"],
            concurrency=settings["ScalingConfig"]["MaximumConcurrency"],
        )
    return found


def named(resources: dict[str, dict[str, Any]], reference: dict[str, Any]) -> dict[str, Any]:
    """Properties of what a template refers to."""
    logical = reference["Ref"] if "Ref" in reference else reference["Fn::GetAtt"][0]
    (found,) = [each for id_, each in resources.items() if id_.rpartition("/")[2] == logical]
    properties: dict[str, Any] = found["Properties"]
    return properties


def test_the_template_delivers_as_in_the_table(synthesize: Synthesize) -> None:
    assert deployed_deliveries(synthesize("sagemaker")) == {name: topology.delivery(name) for name in READERS}


def test_functions_have_the_tables_memory_and_time(synthesize: Synthesize) -> None:
    variant = synthesize("sagemaker")
    deployed = {
        each["Properties"]["FunctionName"].removeprefix(f"{variant.environment.prefix}-"): (
            each["Properties"]["Timeout"],
            each["Properties"]["MemorySize"],
        )
        for each in variant.resources("AWS::Lambda::Function", "pipeline").values()
    }
    assert deployed == {name: (each.timeout_s, each.memory_mb) for name, each in FUNCTIONS.items()}


def test_the_local_system_differs_from_aws_only_as_in_the_table(aws_server: Server) -> None:
    system = create(
        aws_server.url,
        REGION,
        label_studio_url="http://127.0.0.1:1",
        label_studio_token="token",
        webhook_secret="secret",
        browser_origins=(),
    )
    sqs = client("sqs", aws_server.url, REGION)
    pump = Pump(system, Settings(port=0))
    try:
        differing = set()
        assert set(system.queues) == {f"{name}{end}" for name in (*READERS, JOBS) for end in ("", "-dlq")}
        for name, reader in READERS.items():
            here = topology.local_delivery(name)
            attributes = sqs.get_queue_attributes(QueueUrl=system.queues[name], AttributeNames=["All"])[
                "Attributes"
            ]
            assert int(attributes["VisibilityTimeout"]) == here.visibility_s
            assert f'"maxReceiveCount": {here.receives}' in attributes["RedrivePolicy"]
            assert pump.functions[reader.name].timeout_s == here.timeout_s
            there = topology.delivery(name)
            differing |= {
                each.name
                for each in fields(Delivery)
                if getattr(here, each.name) != getattr(there, each.name)
            }
        differing |= {name for name in LIMITS if LIMITS[name] != LOCAL_LIMITS[name]}
        assert differing == set(REASONS) - {"reconcile", "summaries", "jobs"}
        assert set(pump.functions) == {*FUNCTIONS, "job"}
    finally:
        pump._web.server_close()


def test_the_rules_of_one_machine_differ_only_in_how_they_name_summaries() -> None:
    deployed = topology.event_patterns("images", "data")
    here = topology.local_event_patterns("images", "data")
    assert deployed.keys() == here.keys()
    as_here = str(deployed).replace("{'wildcard': 'runs/*/summary.json'}", "{'suffix': '/summary.json'}")
    assert str(here) == as_here != str(deployed)


def test_defaults_of_the_configuration_and_of_the_functions_are_the_tables() -> None:
    chosen = Environment(name="x", label_studio_url="https://label-studio.example.com")
    known = FunctionEnvironment()
    assert known.window_s == chosen.batching_window_s == float(LIMITS["BOXDROP_WINDOW_S"])
    assert known.run_images == chosen.run_images == int(LIMITS["BOXDROP_RUN_IMAGES"])
    assert known.shard_images == chosen.shard_images == int(LIMITS["BOXDROP_SHARD_IMAGES"])
    assert known.apply_limit == chosen.apply_limit == int(LIMITS["BOXDROP_APPLY_LIMIT"])
    assert known.job_timeout_s == chosen.job_timeout_s == int(LIMITS["BOXDROP_JOB_TIMEOUT_S"])
    assert known.lease_s == float(LIMITS["BOXDROP_LEASE_S"])


def test_a_publishers_lease_outlasts_its_longest_call() -> None:
    assert topology.LEASE_S > IMPORT_TIMEOUT_S


def test_every_difference_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in REASONS.values())
    assert len(REASONS) == len(DIFFERENCES)
