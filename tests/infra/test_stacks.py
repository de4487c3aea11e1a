"""What is deployed: safe, cheap while nothing happens, and losing nothing."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boxdrop.ledger import TABLE
from infra.config import COST_TAG
from tests.infra.conftest import REPOSITORY, VARIANTS, Synthesize, Synthesized, lint, read_template


def texts(value: Any) -> Iterator[str]:
    """All strings in a template."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def queue_of(arn: Any) -> str:
    """The queue that a reference to an ARN means: its logical id, or the end of an ARN."""
    if isinstance(arn, Mapping) and "Fn::GetAtt" in arn:
        return str(arn["Fn::GetAtt"][0])
    return str(arn)


def test_cdk_nag_finds_nothing_that_was_not_reviewed(variant: Synthesized) -> None:
    assert [str(each) for each in variant.open_findings] == []


def test_each_acknowledgment_is_still_about_something(synthesize: Synthesize) -> None:
    from infra.findings import ACKNOWLEDGED

    found = [
        each for name in ("default", "sagemaker", "own", "frankfurt") for each in synthesize(name).findings
    ]
    stale = [known for known in ACKNOWLEDGED if not any(known.covers(each) for each in found)]
    assert [(known.rule, known.path, known.detail) for known in stale] == []


def test_cfn_lint_finds_nothing(variant: Synthesized) -> None:
    assert lint(variant) == ""


def test_every_queue_has_dead_letters_kept_for_two_weeks(variant: Synthesized) -> None:
    queues = variant.resources("AWS::SQS::Queue")
    dead = {
        f"pipeline/{queue_of(queue['Properties']['RedrivePolicy']['deadLetterTargetArn'])}"
        for queue in queues.values()
        if "RedrivePolicy" in queue["Properties"]
    }
    without = set(queues) - dead - {id_ for id_, q in queues.items() if "RedrivePolicy" in q["Properties"]}
    assert {queues[id_]["Properties"]["QueueName"].rpartition("-")[2] for id_ in without} == {"dlq"}
    assert all(q["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 3600 for q in queues.values())


def test_every_target_of_a_rule_has_dead_letters_that_let_the_rule_in(variant: Synthesized) -> None:
    policies = [
        (queue_of(queue), statement)
        for policy in variant.resources("AWS::SQS::QueuePolicy").values()
        for queue in [{"Fn::GetAtt": [each["Ref"], "Arn"]} for each in policy["Properties"]["Queues"]]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    ]
    rules = variant.resources("AWS::Events::Rule")
    assert rules
    for id_, rule in rules.items():
        for target in rule["Properties"]["Targets"]:
            dead_letters = queue_of(target["DeadLetterConfig"]["Arn"])
            admitted = [
                statement["Condition"]["ArnEquals"]["aws:SourceArn"]
                for queue, statement in policies
                if queue == dead_letters and statement["Principal"] == {"Service": "events.amazonaws.com"}
            ]
            own = {"Fn::GetAtt": [id_.partition("/")[2], "Arn"]}
            assert any(own == each or own in each for each in admitted), id_


def test_every_function_that_is_called_without_a_queue_has_dead_letters(variant: Synthesized) -> None:
    called = {
        queue_of(target["Arn"])
        for rule in variant.resources("AWS::Events::Rule").values()
        for target in rule["Properties"]["Targets"]
    }
    functions = variant.resources("AWS::Lambda::Function", "pipeline")
    direct = [f for id_, f in functions.items() if id_.partition("/")[2] in called]
    assert direct
    assert all("TargetArn" in function["Properties"]["DeadLetterConfig"] for function in direct)


def test_queues_are_read_with_partial_failures_and_six_timeouts_of_patience(variant: Synthesized) -> None:
    functions = {
        f["Properties"]["FunctionName"]: f["Properties"]
        for f in variant.resources("AWS::Lambda::Function", "pipeline").values()
    }
    queues = variant.resources("AWS::SQS::Queue")
    mappings = variant.resources("AWS::Lambda::EventSourceMapping")
    assert len(mappings) == sum("RedrivePolicy" in queue["Properties"] for queue in queues.values())
    for mapping in mappings.values():
        options = mapping["Properties"]
        assert options["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        function = next(
            f
            for name, f in functions.items()
            if options["FunctionName"]["Ref"].lower().startswith(name.rpartition("-")[2])
        )
        queue = queues[f"pipeline/{queue_of(options['EventSourceArn'])}"]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]


def test_buckets_are_private_encrypted_and_reached_by_tls_alone(variant: Synthesized) -> None:
    buckets = variant.resources("AWS::S3::Bucket")
    policies = [policy["Properties"] for policy in variant.resources("AWS::S3::BucketPolicy").values()]
    for id_, bucket in buckets.items():
        options = bucket["Properties"]
        assert set(options["PublicAccessBlockConfiguration"].values()) == {True}
        (rule,) = options["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        kind = "aws:kms" if variant.environment.kms_key_arn else "AES256"
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == kind
        refused = [
            statement["Condition"]
            for policy in policies
            if policy["Bucket"] == {"Ref": id_.partition("/")[2]}
            for statement in policy["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Deny"
        ]
        assert {"Bool": {"aws:SecureTransport": "false"}} in refused


def test_the_ledger_is_the_one_that_boxdrop_defines(variant: Synthesized) -> None:
    (table,) = variant.resources("AWS::DynamoDB::Table").values()
    options = table["Properties"]
    assert options["KeySchema"] == [
        {"AttributeName": TABLE.partition_key, "KeyType": "HASH"},
        {"AttributeName": TABLE.sort_key, "KeyType": "RANGE"},
    ]
    (index,) = options["GlobalSecondaryIndexes"]
    assert index["IndexName"] == TABLE.index
    assert [key["AttributeName"] for key in index["KeySchema"]] == [
        TABLE.index_partition_key, TABLE.index_sort_key,
    ]  # fmt: skip
    assert index["Projection"] == {"ProjectionType": TABLE.projection}
    assert options["BillingMode"] == TABLE.billing_mode
    assert options["TimeToLiveSpecification"] == {"AttributeName": TABLE.ttl_attribute, "Enabled": True}
    assert options["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]


def test_persistent_resources_stay_unless_the_user_chooses_otherwise(
    default: Synthesized, synthesize: Synthesize
) -> None:
    kinds = ("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SecretsManager::Secret")
    kept = [each for kind in kinds for each in default.resources(kind).values()]
    # A first deployment that fails leaves no bucket and no secret behind; the ledger is protected.
    assert {(each["Type"], each["DeletionPolicy"]) for each in kept} == {
        ("AWS::S3::Bucket", "RetainExceptOnCreate"),
        ("AWS::DynamoDB::Table", "Retain"),
        ("AWS::SecretsManager::Secret", "RetainExceptOnCreate"),
    }
    assert {each["UpdateReplacePolicy"] for each in kept} == {"Retain"}
    gone = [each for kind in kinds for each in synthesize("frankfurt").resources(kind).values()]
    assert {each["DeletionPolicy"] for each in gone} == {"Delete"}


def test_only_the_data_stack_keeps_anything(variant: Synthesized) -> None:
    keeping = {"AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::SecretsManager::Secret"}
    for name in ("compute", "pipeline", "monitoring"):
        assert not keeping & {each["Type"] for each in variant.stacks[name]["Resources"].values()}


def test_nothing_of_the_pipeline_waits_for_the_compute_stack_with_batch(default: Synthesized) -> None:
    assert not any("boxdrop-default-compute" in text for text in texts(default.stacks["pipeline"]))


def test_token_secrets_are_made_empty_and_the_webhooks_with_a_random_value(variant: Synthesized) -> None:
    secrets = {
        each["Properties"]["Name"].partition("/")[2]: each["Properties"]
        for each in variant.resources("AWS::SecretsManager::Secret").values()
    }
    for name, options in secrets.items():
        assert "SecretString" not in options
        assert ("GenerateSecretString" in options) == (name == "webhook")
    outputs = json.dumps(variant.stacks["data"]["Outputs"])
    assert f"put-secret-value --secret-id {variant.environment.prefix}/label-studio" in outputs


def test_no_template_has_a_secret_in_a_variable(variant: Synthesized) -> None:
    for function in variant.resources("AWS::Lambda::Function", "pipeline").values():
        variables = function["Properties"].get("Environment", {}).get("Variables", {})
        assert not {"LABEL_STUDIO_API_KEY", "BOXDROP_WEBHOOK_SECRET"} & set(variables)


def test_label_studio_may_read_images_and_nothing_else(variant: Synthesized) -> None:
    (policy,) = (
        each["Properties"]
        for id_, each in variant.resources("AWS::IAM::Policy", "data").items()
        if "LabelStudioReads" in id_
    )
    statements = policy["PolicyDocument"]["Statement"]
    assert {each["Action"] for each in statements} <= {"s3:GetObject", "s3:ListBucket", "kms:Decrypt"}
    said = json.dumps([each["Resource"] for each in statements])
    about_data = {each["Sid"]: each for each in statements if "DataBucket" in json.dumps(each["Resource"])}
    assert set(about_data) == {"Copies", "ListCopies"}
    assert "/display/*" in json.dumps(about_data["Copies"]["Resource"])
    assert about_data["ListCopies"]["Condition"] == {"StringLike": {"s3:prefix": "display/*"}}
    if variant.environment.image_bucket:
        assert "acme-images" in said
    if variant.environment.label_studio_role_arn:
        assert policy["Roles"] == ["label-studio"]
        assert not variant.resources("AWS::IAM::User")


def test_browsers_of_annotators_may_load_images(default: Synthesized) -> None:
    buckets = {
        id_: each["Properties"].get("CorsConfiguration", {}).get("CorsRules", [])
        for id_, each in default.resources("AWS::S3::Bucket").items()
    }
    for name in ("ImageBucket", "DataBucket"):  # the images, and their display copies
        ((rule,),) = (rules for id_, rules in buckets.items() if name in id_)
        assert rule["AllowedOrigins"] == ["https://label-studio.example.com"]
        assert set(rule["AllowedMethods"]) == {"GET", "HEAD"}


def test_there_is_no_nat_gateway_and_s3_goes_through_a_gateway_endpoint(variant: Synthesized) -> None:
    assert not variant.resources("AWS::EC2::NatGateway")
    if variant.resources("AWS::EC2::VPC"):
        endpoints = [each["Properties"] for each in variant.resources("AWS::EC2::VPCEndpoint").values()]
        (gateway,) = (each for each in endpoints if each["VpcEndpointType"] == "Gateway")
        assert "s3" in json.dumps(gateway["ServiceName"])
        private = any(each["VpcEndpointType"] == "Interface" for each in endpoints)
        assert private == variant.environment.private_network


def test_nothing_may_connect_to_the_instances(variant: Synthesized) -> None:
    for group in variant.resources("AWS::EC2::SecurityGroup").values():
        if "GPU instances" in group["Properties"]["GroupDescription"]:
            assert "SecurityGroupIngress" not in group["Properties"]
    for rule in variant.resources("AWS::EC2::SecurityGroupIngress").values():
        assert "SourceSecurityGroupId" in rule["Properties"]


def test_batch_starts_from_nothing_with_spot_first(default: Synthesized) -> None:
    environments = default.resources("AWS::Batch::ComputeEnvironment")
    kinds = {}
    for id_, each in environments.items():
        resources = each["Properties"]["ComputeResources"]
        assert resources["MinvCpus"] == 0
        # Batch changes it while it works, and refuses an update that would lower it.
        assert "DesiredvCpus" not in resources
        assert len(resources["InstanceTypes"]) > 1
        assert resources["Ec2Configuration"][0]["ImageType"] == "ECS_AL2023_NVIDIA"
        assert "ComputeEnvironmentName" not in each["Properties"]
        kinds[id_.partition("/")[2]] = resources["Type"]
    (queue,) = default.resources("AWS::Batch::JobQueue").values()
    order = sorted(queue["Properties"]["ComputeEnvironmentOrder"], key=lambda each: each["Order"])
    assert [kinds[each["ComputeEnvironment"]["Fn::GetAtt"][0]] for each in order] == ["SPOT", "EC2"]
    assert queue["Properties"]["JobStateTimeLimitActions"]


def test_spot_and_on_demand_together_have_the_vcpus_that_the_settings_allow(variant: Synthesized) -> None:
    environments = variant.resources("AWS::Batch::ComputeEnvironment").values()
    if variant.environment.compute == "batch":
        ceilings = [each["Properties"]["ComputeResources"]["MaxvCpus"] for each in environments]
        assert sum(ceilings) == variant.environment.max_vcpus
        assert min(ceilings) >= 4


def test_instances_carry_the_cost_tag(variant: Synthesized) -> None:
    """A compute environment's own tags do not reach them."""
    for each in variant.resources("AWS::Batch::ComputeEnvironment").values():
        assert each["Properties"]["ComputeResources"]["Tags"][COST_TAG] == variant.environment.name
    for kind in ("AWS::SageMaker::Endpoint", "AWS::SageMaker::EndpointConfig"):
        for each in variant.resources(kind).values():
            assert {"Key": COST_TAG, "Value": variant.environment.name} in each["Properties"]["Tags"]


def test_the_job_may_ask_which_instance_it_runs_on(variant: Synthesized) -> None:
    """Through Docker's bridge, which is a second hop."""
    for template in variant.resources("AWS::EC2::LaunchTemplate").values():
        options = template["Properties"]["LaunchTemplateData"]["MetadataOptions"]
        assert options == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}


def test_instances_may_start_in_every_zone_of_the_region(default: Synthesized) -> None:
    assert len(default.resources("AWS::EC2::Subnet")) == 6
    for each in default.resources("AWS::Batch::ComputeEnvironment").values():
        assert len(each["Properties"]["ComputeResources"]["Subnets"]) == 6


def test_a_private_network_pays_for_endpoints_in_two_zones(synthesize: Synthesize) -> None:
    assert len(synthesize("frankfurt").resources("AWS::EC2::Subnet")) == 2


def test_functions_that_call_a_private_label_studio_run_in_its_network(variant: Synthesized) -> None:
    network = variant.environment.functions_network
    for id_, each in variant.resources("AWS::Lambda::Function", "pipeline").items():
        name = each["Properties"].get("FunctionName", "").rpartition("-")[2]
        inside = network is not None and name in ("publish", "collect", "track")
        config = each["Properties"].get("VpcConfig", {})
        assert config.get("SubnetIds", []) == (list(network.subnet_ids) if network and inside else []), id_
        assert len(config.get("SecurityGroupIds", [])) == inside
        statements = [
            statement
            for policy in variant.resources("AWS::IAM::Policy", "pipeline").values()
            if policy["Properties"]["Roles"] == [{"Ref": each["Properties"]["Role"]["Fn::GetAtt"][0]}]
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        ]
        assert any(statement["Sid"] == "Network" for statement in statements) == inside
        if inside:  # Lambda checks the permission when it makes the function
            assert any("DefaultPolicy" in other for other in each["DependsOn"])


def test_the_functions_network_gets_the_endpoints_that_its_functions_call(synthesize: Synthesize) -> None:
    made = {
        each["Properties"]["ServiceName"].rpartition(".")[2]: each["Properties"]["VpcEndpointType"]
        for each in synthesize("own").resources("AWS::EC2::VPCEndpoint", "pipeline").values()
    }
    assert made == {
        "s3": "Gateway",
        "dynamodb": "Gateway",
        "sqs": "Interface",
        "secretsmanager": "Interface",
    }
    network = dict(VARIANTS["own"]["functions_network"], route_table_ids=[])
    without = synthesize("own", json.dumps({"functions_network": network}))
    assert without.resources("AWS::EC2::VPCEndpoint", "pipeline") == {}


def test_an_endpoint_gets_the_driver_that_the_image_needs(synthesize: Synthesize) -> None:
    (config,) = synthesize("sagemaker").resources("AWS::SageMaker::EndpointConfig").values()
    (variant,) = config["Properties"]["ProductionVariants"]
    assert variant["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"


def test_a_job_is_tried_again_for_its_host_and_if_it_asks_for_it(default: Synthesized) -> None:
    options = default.detector
    assert options["RetryStrategy"]["EvaluateOnExit"] == [
        {"Action": "RETRY", "OnStatusReason": "Host EC2*"},
        {"Action": "RETRY", "OnExitCode": "75"},
        {"Action": "EXIT", "OnReason": "*"},
    ]
    assert options["Timeout"]["AttemptDurationSeconds"] == default.environment.job_timeout_s
    needs = {each["Type"]: each["Value"] for each in options["ContainerProperties"]["ResourceRequirements"]}
    assert needs == {"GPU": "1", "VCPU": "4", "MEMORY": "14000"}


def test_the_endpoint_scales_from_nothing_and_back(synthesize: Synthesize) -> None:
    sagemaker = synthesize("sagemaker")
    (target,) = sagemaker.resources("AWS::ApplicationAutoScaling::ScalableTarget").values()
    assert target["Properties"]["MinCapacity"] == 0
    policies = [
        each["Properties"]
        for each in sagemaker.resources("AWS::ApplicationAutoScaling::ScalingPolicy").values()
    ]
    assert {each["PolicyType"] for each in policies} == {"StepScaling", "TargetTrackingScaling"}
    (alarm,) = (
        each["Properties"] for each in sagemaker.resources("AWS::CloudWatch::Alarm", "compute").values()
    )
    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"


def test_an_endpoints_output_is_never_mistaken_for_a_part(synthesize: Synthesize) -> None:
    (config,) = synthesize("sagemaker").resources("AWS::SageMaker::EndpointConfig").values()
    output = json.dumps(config["Properties"]["AsyncInferenceConfig"]["OutputConfig"])
    assert "/sagemaker/answers/" in output
    assert "/sagemaker/failures/" in output
    assert "predictions" not in output


def test_jobs_that_fail_and_a_queue_that_is_blocked_reach_reconcile(default: Synthesized) -> None:
    patterns = [
        rule["Properties"]["EventPattern"]
        for rule in default.resources("AWS::Events::Rule").values()
        if "aws.batch" in rule["Properties"].get("EventPattern", {}).get("source", ())
    ]
    assert {kind for pattern in patterns for kind in pattern["detail-type"]} == {
        "Batch Job State Change",
        "Batch Job Queue Blocked",
    }


def test_a_bucket_of_the_users_is_not_made_again(synthesize: Synthesize) -> None:
    own = synthesize("own")
    (bucket,) = own.resources("AWS::S3::Bucket")
    assert "DataBucket" in bucket
    (events,) = own.resources("Custom::BucketEvents").values()
    assert events["Properties"]["Bucket"] == "acme-images"


def test_the_users_key_boundary_tags_and_topic_are_everywhere(synthesize: Synthesize) -> None:
    own = synthesize("own")
    environment = own.environment
    for role in own.resources("AWS::IAM::Role").values():
        assert role["Properties"]["PermissionsBoundary"] == environment.permissions_boundary_arn
    for kind in ("AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::Lambda::Function", "AWS::DynamoDB::Table"):
        for each in own.resources(kind).values():
            assert {"Key": "cost-centre", "Value": "4711"} in each["Properties"]["Tags"]
    for group in own.resources("AWS::Logs::LogGroup").values():
        assert group["Properties"]["KmsKeyId"] == environment.kms_key_arn
    for secret in own.resources("AWS::SecretsManager::Secret").values():
        assert secret["Properties"]["KmsKeyId"] == environment.kms_key_arn
    for alarm in own.resources("AWS::CloudWatch::Alarm").values():
        assert alarm["Properties"]["AlarmActions"] == [environment.alarms.topic_arn]
    assert not own.resources("AWS::SNS::Topic")
    assert not own.resources("AWS::EC2::VPC")


def test_functions_that_touch_encrypted_objects_may_use_their_keys(synthesize: Synthesize) -> None:
    own = synthesize("own")
    for id_, policy in own.resources("AWS::IAM::Policy", "pipeline").items():
        actions = [
            (statement["Action"], statement["Resource"])
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            if statement["Sid"] == "Keys"
        ]
        assert bool(actions) == ("Webhook" not in id_)
        for allowed, keys in actions:
            assert allowed == ["kms:Decrypt", "kms:GenerateDataKey"]
            assert set(keys) == {own.environment.kms_key_arn, own.environment.image_bucket_key_arn}


def test_a_deployment_describes_itself_for_the_command_line(variant: Synthesized) -> None:
    (parameter,) = variant.resources("AWS::SSM::Parameter").values()
    assert parameter["Properties"]["Name"] == f"/boxdrop/{variant.environment.name}/system"
    written = json.dumps(parameter["Properties"]["Value"])
    for field in ("table", "image_bucket", "data_bucket", "label_studio_url", "uploads-dlq", "launcher"):
        assert field in written


def test_templates_name_no_region_but_the_chosen_one(variant: Synthesized) -> None:
    allowed = {variant.environment.region}
    found = {
        region
        for template in variant.stacks.values()
        for text in texts(template)
        if "def handler" not in text  # the inline function knows how S3 calls its oldest regions
        for region in re.findall(r"\b(?:us|eu|ap)-(?:[a-z]+)-\d\b", text)
    }
    assert found <= allowed


def test_another_process_synthesizes_the_same_templates(default: Synthesized, tmp_path: Path) -> None:
    """By the CDK command line, which needs neither credentials nor Docker for it."""
    settings = json.dumps(
        {"environments": {"default": {"label_studio_url": "https://label-studio.example.com"}}}
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environ |= {
        "CDK_OUTDIR": str(tmp_path),
        "CDK_CONTEXT_JSON": json.dumps({**json.loads(settings), "aws:cdk:bundling-stacks": []}),
        "CDK_DEFAULT_REGION": "us-east-1",
        "DOCKER_HOST": "tcp://127.0.0.1:1",
    }
    subprocess.run(
        [sys.executable, "-m", "infra.app"],
        cwd=REPOSITORY,
        env=environ,
        check=True,
        capture_output=True,
    )
    for name, template in default.stacks.items():
        assert read_template(tmp_path, f"boxdrop-default-{name}") == template


def test_a_persons_work_can_be_brought_back_for_a_year(variant: Synthesized) -> None:
    (bucket,) = (
        each["Properties"]
        for id_, each in variant.resources("AWS::S3::Bucket").items()
        if "DataBucket" in id_
    )
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    rules = bucket["LifecycleConfiguration"]["Rules"]
    kept = {
        rule["Prefix"]: rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for rule in rules
        if "NoncurrentVersionExpiration" in rule
    }
    assert kept["annotations/"] == 365
    # Overlapping rules would let the shortest one win.
    assert not any(a != b and a.startswith(b) for a in kept for b in kept)
    assert not any("ExpirationInDays" in rule and rule["Prefix"] != "sagemaker/" for rule in rules)


def test_every_prefix_of_the_data_bucket_has_a_time_for_old_versions() -> None:
    from boxdrop.store import layout
    from infra.stacks.data import OLD_VERSIONS

    prefixes = {each for name, each in vars(layout).items() if name.isupper() and str(each).endswith("/")}
    assert prefixes == {*OLD_VERSIONS, layout.SAGEMAKER}


def test_a_flood_of_the_address_that_strangers_find_starves_no_call_of_label_studio(
    variant: Synthesized,
) -> None:
    (stage,) = variant.resources("AWS::ApiGatewayV2::Stage").values()
    options = stage["Properties"]
    assert options["RouteSettings"] == {
        "POST /webhook": {"ThrottlingRateLimit": 2, "ThrottlingBurstLimit": 10}
    }
    assert options["DefaultRouteSettings"]["ThrottlingRateLimit"] == 50
    keys = [each["Properties"]["RouteKey"] for each in variant.resources("AWS::ApiGatewayV2::Route").values()]
    (own,) = [key for key in keys if key != "POST /webhook"]
    assert "AWS::StackId" in json.dumps(own)
    routes = {id_.partition("/")[2] for id_ in variant.resources("AWS::ApiGatewayV2::Route")}
    assert routes <= set(stage["DependsOn"])


def test_only_keys_that_the_settings_name_count(synthesize: Synthesize) -> None:
    found = synthesize("default", json.dumps({"upload_patterns": ["photos/*", "*.jpg"]}))
    (rule,) = (
        each["Properties"]
        for each in found.resources("AWS::Events::Rule").values()
        if each["Properties"].get("Name") == "boxdrop-default-uploads"
    )
    assert rule["EventPattern"]["detail"]["object"]["key"] == [
        {"wildcard": "photos/*"},
        {"wildcard": "*.jpg"},
        {"wildcard": "*/labels.yaml"},
    ]


def test_event_sources_leave_calls_to_the_webhook_in_a_new_account(synthesize: Synthesize) -> None:
    found = synthesize("default", json.dumps({"lambda_concurrency": 10}))
    calls = [
        each["Properties"]["ScalingConfig"]["MaximumConcurrency"]
        for each in found.resources("AWS::Lambda::EventSourceMapping").values()
    ]
    assert calls == [2, 2, 2, 2]


def job_variables(found: Synthesized) -> set[str]:
    """Names of the environment variables that the job's container is given."""
    for definition in found.resources("AWS::Batch::JobDefinition").values():
        return {each["Name"] for each in definition["Properties"]["ContainerProperties"]["Environment"]}
    (model,) = found.resources("AWS::SageMaker::Model").values()
    return set(model["Properties"]["PrimaryContainer"]["Environment"])


def test_the_job_gets_the_same_variables_on_batch_and_on_sagemaker(
    default: Synthesized, synthesize: Synthesize
) -> None:
    assert job_variables(default) == job_variables(synthesize("sagemaker"))
    read = set(re.findall(r'"(BOXDROP_\w+)"', (REPOSITORY / "functions/job/environment.py").read_text()))
    # Its image sets the address and the cache; the others are for one machine and for measurements.
    by_hand = {"THREADS", "BATCH_SIZE", "FETCHERS", "JOB_ID", "GRACE_S", "SERVE_ADDRESS", "BUNDLE_CACHE"}
    wanted = read - {f"BOXDROP_{each}" for each in by_hand}
    assert wanted <= job_variables(default)
