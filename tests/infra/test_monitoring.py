"""What people look at is there, and means something."""

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from boxdrop import metrics
from boxdrop.metrics import METRICS, NAMESPACE_VARIABLE
from infra.stacks.monitoring import RUNBOOK
from tests.infra.conftest import REPOSITORY, Synthesize, Synthesized

OWN = {metric.name: metric for metric in METRICS}


def alarms(variant: Synthesized) -> list[dict[str, Any]]:
    """Alarms that call people."""
    return [each["Properties"] for each in variant.resources("AWS::CloudWatch::Alarm", "monitoring").values()]


def expressions(value: Any) -> Iterator[str]:
    """Metric names in an alarm or a graph, by themselves or in expressions."""
    said = json.dumps(value)
    yield from re.findall(r'MetricName\W+"?(\w+)', said)
    yield from re.findall(r"SELECT \w+\((\w+)\)", said)


def dashboard(variant: Synthesized) -> Any:
    """The dashboard's body, its tokens filled in."""
    (board,) = variant.resources("AWS::CloudWatch::Dashboard").values()
    body = board["Properties"]["DashboardBody"]
    if isinstance(body, dict):
        body = "".join(each if isinstance(each, str) else "us-east-1" for each in body["Fn::Join"][1])
    return json.loads(body)


def emitted() -> set[str]:
    """Metrics that code emits: those that it names, outside of their table."""
    names = {value: name for name, value in vars(metrics).items() if isinstance(value, metrics.Metric)}
    used = set()
    for folder in ("boxdrop", "functions"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            if path.name == "metrics.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr in names.values():
                    used.add(node.attr)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    used.add(node.id)
    return {metric.name for metric, name in names.items() if name in used}


def test_every_dead_letter_queue_has_an_alarm_on_its_first_message(variant: Synthesized) -> None:
    dead = {
        each["Properties"]["QueueName"]
        for each in variant.resources("AWS::SQS::Queue").values()
        if each["Properties"]["QueueName"].endswith("-dlq")
    }
    watched = {
        alarm["Dimensions"][0]["Value"]
        for alarm in alarms(variant)
        if alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible" and alarm["Threshold"] == 0
    }
    assert watched == dead


def test_every_queue_has_an_alarm_on_its_oldest_message(variant: Synthesized) -> None:
    queues = {
        each["Properties"]["QueueName"]
        for each in variant.resources("AWS::SQS::Queue").values()
        if not each["Properties"]["QueueName"].endswith("-dlq")
    }
    watched = {
        alarm["Dimensions"][0]["Value"]
        for alarm in alarms(variant)
        if alarm.get("MetricName") == "ApproximateAgeOfOldestMessage"
    }
    assert watched == queues


def test_every_alarm_links_a_section_of_the_runbook_and_notifies_the_topic(variant: Synthesized) -> None:
    written = (REPOSITORY / "docs" / "operations.md").read_text()
    sections = set(re.findall(r"^## ([\w-]+)$", written, re.MULTILINE))
    for alarm in alarms(variant):
        what, _, link = alarm["AlarmDescription"].partition(" What to do: ")
        assert len(what) > 20
        page, _, section = link.partition("#")
        assert page == RUNBOOK
        assert section in sections, alarm["AlarmName"]
        assert alarm["AlarmActions"]


def test_every_section_of_the_runbook_is_about_an_alarm(default: Synthesized) -> None:
    written = (REPOSITORY / "docs" / "operations.md").read_text()
    sections = set(re.findall(r"^## ([\w-]+)$", written, re.MULTILINE))
    linked = {alarm["AlarmDescription"].rpartition("#")[2] for alarm in alarms(default)}
    assert sections == linked | {"budget"}


def test_every_metric_of_ours_on_dashboard_and_alarms_is_emitted_by_code(variant: Synthesized) -> None:
    shown = set(expressions(dashboard(variant)))
    alarmed = {
        alarm["MetricName"]
        for alarm in alarms(variant)
        if alarm.get("Namespace") == variant.environment.prefix
    } | {name for alarm in alarms(variant) for name in expressions(alarm.get("Metrics"))}
    assert shown
    assert alarmed
    assert (shown | alarmed) & set(OWN) <= emitted()
    unknown = {name for name in shown if name not in OWN}
    assert not unknown


def test_the_dashboard_shows_every_metric_of_ours(default: Synthesized) -> None:
    assert set(expressions(dashboard(default))) == set(OWN)


def test_alarms_and_dashboard_use_the_emitted_metrics(variant: Synthesized) -> None:
    """Namespace and dimensions, of which each combination is a metric of its own."""
    prefix = variant.environment.prefix
    for names, name in re.findall(
        r"SEARCH\('\{([^}]*)\} MetricName=\"(\w+)\"", json.dumps(dashboard(variant)).replace('\\"', '"')
    ):
        assert names.split(",") == [f'"{prefix}"', "service", *OWN[name].dimensions]
    for alarm in alarms(variant):
        for query in alarm.get("Metrics", ()):
            for name, schema in re.findall(
                r"SELECT \w+\((\w+)\) FROM SCHEMA\(([^)]*)\)", query.get("Expression", "")
            ):
                quoted = [f'"{each}"' for each in (prefix, "service", *OWN[name].dimensions)]
                assert schema == ", ".join(quoted)
    for function in variant.resources("AWS::Lambda::Function", "pipeline").values():
        assert function["Properties"]["Environment"]["Variables"][NAMESPACE_VARIABLE] == prefix


def test_saved_queries_look_into_every_log_of_the_pipeline(default: Synthesized) -> None:
    queries = default.resources("AWS::Logs::QueryDefinition").values()
    groups = {
        each["Properties"]["LogGroupName"]
        for each in default.resources("AWS::Logs::LogGroup").values()
        if not each["Properties"]["LogGroupName"].endswith("/api")
    }
    assert any("what happened to this image" in each["Properties"]["Name"] for each in queries)
    for query in queries:
        assert set(query["Properties"]["LogGroupNames"]) == groups


def test_the_budget_notifies_the_same_people(default: Synthesized) -> None:
    (budget,) = default.resources("AWS::Budgets::Budget").values()
    notifications = budget["Properties"]["NotificationsWithSubscribers"]
    assert {each["Notification"]["Threshold"] for each in notifications} == {80, 100}
    assert budget["Properties"]["Budget"]["BudgetLimit"] == {"Amount": 50, "Unit": "USD"}


def test_until_the_cost_tag_is_active_the_budget_counts_services(
    default: Synthesized, synthesize: Synthesize
) -> None:
    """A filter by an inactive tag matches nothing, and the budget would stay at $0."""

    def filters(found: Synthesized) -> dict[str, list[str]]:
        (budget,) = found.resources("AWS::Budgets::Budget").values()
        counted: dict[str, list[str]] = budget["Properties"]["Budget"]["CostFilters"]
        return counted

    assert "Amazon Elastic Compute Cloud - Compute" in filters(default)["Service"]
    assert filters(synthesize("frankfurt")) == {"TagKeyValue": ["user:boxdrop:environment$frankfurt"]}


# -- expressions -------------------------------------------------------------------------------------------

NAME = r'(?:"[^"{},]+"|[A-Za-z0-9_]+|AWS/\w+)'
"""CloudWatch wants quotes around a name with other than letters and digits, except for its own namespaces
(docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/search-expression-syntax.html)."""

SEARCH = re.compile(
    rf"(?:SUM|AVG|MAX)\(SEARCH\('\{{{NAME}(?:,{NAME})*\}} MetricName=\"\w+\"',"
    r" '(?:Sum|Average|Maximum|SampleCount|p\d\d)', \d+\)\)"
)
INSIGHTS = re.compile(r'SELECT (?:SUM|AVG|MAX)\(\w+\) FROM SCHEMA\("[\w-]+"(?:, "\w+")*\)')
WIDGET_STATISTICS = re.compile(r"Sum|Average|Maximum|p\d\d")


def test_every_expression_of_the_dashboard_is_one_that_cloudwatch_reads(variant: Synthesized) -> None:
    seen = 0
    for widget in dashboard(variant)["widgets"]:
        for line in widget["properties"].get("metrics", ()):
            if len(line) == 1:
                assert SEARCH.fullmatch(line[0]["expression"]), line
                seen += 1
            else:
                namespace, _, dimension, value, options = line
                assert namespace.startswith("AWS/")
                assert dimension
                assert value
                assert WIDGET_STATISTICS.fullmatch(options["stat"])
    assert seen > 20


def test_every_query_of_an_alarm_is_one_that_cloudwatch_reads(variant: Synthesized) -> None:
    queries = [query["Expression"] for alarm in alarms(variant) for query in alarm.get("Metrics", ())]
    assert queries
    assert [each for each in queries if not INSIGHTS.fullmatch(each)] == []


def test_a_name_with_a_hyphen_has_to_be_quoted() -> None:
    """As the dashboard of the versions before had it, which CloudWatch does not read."""
    assert not SEARCH.fullmatch("SUM(SEARCH('{boxdrop-prod,service} MetricName=\"RunImages\"', 'Sum', 300))")
    assert SEARCH.fullmatch("SUM(SEARCH('{\"boxdrop-prod\",service} MetricName=\"RunImages\"', 'Sum', 300))")
