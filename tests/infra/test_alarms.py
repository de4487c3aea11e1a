"""Each alarm fires in a simulated incident and stays quiet in a good week.

The incidents follow the deployment's own table: how often a failed message comes back, how often the schedule
calls. The judge does what CloudWatch documents: data points by period and statistic, then "M out of N", where
missing data does not breach.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import pytest

from boxdrop.topology import RECONCILE_MINUTES, SYNC_HOURS, delivery
from tests.infra.conftest import Synthesize, Synthesized

Series = Sequence[tuple[float, float]]
"""Values of one metric, each with its minute."""

WEEK = 7 * 24 * 60


@dataclass(frozen=True)
class Alarm:
    """An alarm of a template."""

    name: str
    metric: str
    statistic: str
    period: float
    periods: int
    of: int
    threshold: float
    below: bool

    def fires(self, series: Series) -> bool:
        """Whether any window of the last `of` periods has `periods` breaching ones."""
        gathered: dict[int, list[float]] = defaultdict(list)
        for minute, value in series:
            gathered[int(minute // self.period)].append(value)
        how: Mapping[str, Callable[[list[float]], float]] = {
            "Sum": sum,
            "Maximum": max,
            "Average": lambda values: sum(values) / len(values),
        }
        breaching = set()
        for number, values in gathered.items():
            value = how[self.statistic](values)
            if value < self.threshold if self.below else value > self.threshold:
                breaching.add(number)
        return any(
            len(breaching & set(range(number - self.of + 1, number + 1))) >= self.periods
            for number in breaching
        )


def read(variant: Synthesized) -> dict[str, Alarm]:
    """The alarms of the monitoring stack by name, without the environment's prefix."""
    found = {}
    for each in variant.resources("AWS::CloudWatch::Alarm", "monitoring").values():
        options = each["Properties"]
        metric, statistic, period = options.get("MetricName"), options.get("Statistic"), options.get("Period")
        if metric is None:
            (query,) = options["Metrics"]
            how, metric = re.findall(r"SELECT (\w+)\((\w+)\)", query["Expression"])[0]
            statistic = {"SUM": "Sum", "MAX": "Maximum", "AVG": "Average"}[how]
            period = query["Period"]
            # CloudWatch evaluates a Metrics Insights query over the last three hours at most.
            assert period * options["EvaluationPeriods"] <= 3 * 3600
        assert options["TreatMissingData"] == "notBreaching"
        name = options["AlarmName"].removeprefix(f"{variant.environment.prefix}-")
        found[name] = Alarm(
            name,
            metric,
            statistic,
            period / 60,
            options["DatapointsToAlarm"],
            options["EvaluationPeriods"],
            options["Threshold"],
            options["ComparisonOperator"] == "LessThanThreshold",
        )
    return found


# -- what happens --------------------------------------------------------------------------------------------


def attempts(queue: str, sent: Iterable[float], down: Callable[[float], bool]) -> list[tuple[float, float]]:
    """A one for each failed attempt at a message, which SQS hides before the next one."""
    how = delivery(queue)
    errors: list[tuple[float, float]] = []
    for first in sent:
        minute = first
        for _ in range(how.receives):
            if not down(minute):
                break
            errors.append((minute, 1))
            minute += how.visibility_s / 60
    return errors


def ages(queue: str, sent: Iterable[float], down: Callable[[float], bool]) -> list[tuple[float, float]]:
    """The age of the oldest message, in seconds, each minute."""
    how, waits = delivery(queue), []
    for first in sent:
        minute = first
        for _ in range(how.receives):
            if not down(minute):
                break
            minute += how.visibility_s / 60
        waits.append((first, minute))
    last = max((end for _, end in waits), default=0)
    return [
        (minute, max((minute - start) * 60 for start, end in waits if start <= minute <= end))
        for minute in range(int(last) + 1)
        if any(start <= minute <= end for start, end in waits)
    ]


def down_for(minutes: float, since: float = 0.0) -> Callable[[float], bool]:
    return lambda minute: since <= minute < since + minutes


def every(minutes: float, value: float = 1, until: float = WEEK) -> list[tuple[float, float]]:
    return [(float(minute * minutes), value) for minute in range(int(until / minutes))]


def one_part_an_hour() -> list[float]:
    return [random.uniform(0, 60) + 60 * hour for hour in range(6)]


random = Random(19)
LS_DOWN = attempts("parts", [3.0], down_for(6 * 60))  # a single part, the hardest case to see
LS_BUSY = attempts("parts", (0.3 * number for number in range(900)), down_for(6 * 60))
RESTARTS = [
    error
    for day in range(7)
    for error in attempts(
        "parts",
        (day * 1440 + 599 + 0.1 * number for number in range(40)),  # across the quarter's border
        down_for(3, since=day * 1440 + 599),
    )
]
DAILY_HICCUP = [(day * 1440 + random.uniform(0, 1400), 1.0) for day in range(7)]
RECONCILE_FAILS = [
    (minute + again, 1.0)  # Lambda repeats an asynchronous call twice
    for minute in range(0, 180, RECONCILE_MINUTES)
    for again in (0, 1, 3)
]

INCIDENTS: Mapping[str, Mapping[str, Series]] = {
    "dead-letters": {"a message is given up": [(150, 1.0), (155, 1.0)]},
    "messages-wait": {"a message fails three times": ages("parts", [0.0], down_for(95))},
    "runs-fail": {"one run dies": [(7, 1.0)]},
    "no-instances-queue-blocked": {"Batch says so once": [(7, 1.0)]},
    "long-job-fails": {"one teaching fails for good": [(7, 1.0)]},
    "gpu-idle": {
        "a job hangs in S3 for 40 minutes": [(minute, 0.4) for minute in range(40)],
    },
    "cpu-in-use-cpu-provider": {"a shard ran on the CPU": [(7, 1.0)]},
    "functions-fail": {
        "one message fails for hours": attempts("parts", [3.0], down_for(6 * 60)),
        "every call of the schedule fails": RECONCILE_FAILS,
    },
    "label-studio-errors": {"it is down, one part waits": LS_DOWN, "it is down, 900 parts wait": LS_BUSY},
    "webhook-refused": {"twenty calls with an old secret": [(1 + number / 60, 1.0) for number in range(20)]},
    "webhook-silent": {"12 reviews a day are missed": every(SYNC_HOURS * 60, 3.0)},
    "images-slow": {"parts come two hours late": [(20 * number, 7200.0) for number in range(6)]},
    "oldest-image": {
        "a job is RUNNABLE under a quota of 0": [
            (minute, minute * 60.0) for minute in range(0, 360, RECONCILE_MINUTES)
        ]
    },
}
"""By the beginning of the alarm's name."""

GOOD_WEEK: Mapping[str, Series] = {
    "ApproximateNumberOfMessagesVisible": every(5, 0.0),
    "ApproximateAgeOfOldestMessage": ages("parts", one_part_an_hour(), down_for(0)) + every(5, 120.0),
    "RunsFailed": every(60, 0.0),
    "MatchedEvents": [],
    "GpuUtilisation": [
        (hour * 60 + minute, 0.0 if minute < 3 else random.uniform(40, 95))  # a cold start, then work
        for hour in range(0, 168, 5)
        for minute in range(25)
    ],
    "GPUUtilization": [
        (hour * 60 + minute, random.uniform(30, 90)) for hour in range(0, 168, 5) for minute in range(25)
    ],
    "CpuProviderUsed": every(60, 0.0),
    "Errors": RESTARTS + DAILY_HICCUP,
    "LabelStudioErrors": RESTARTS + DAILY_HICCUP,
    "WebhookRefused": [(day * 1440, 3.0) for day in range(7)],  # scanners
    "ReviewsMissed": every(SYNC_HOURS * 60, 2.0),
    "EndToEndSeconds": [
        (minute, random.uniform(300, 1200)) for minute in range(0, WEEK, 20)
    ]  # and one straggler a day
    + [(day * 1440 + 7, 9000.0) for day in range(7)],
    "OldestImageSeconds": every(RECONCILE_MINUTES, 900.0)
    + [(2000 + minute, minute * 60.0) for minute in range(0, 180, RECONCILE_MINUTES)],  # a large import
}


def incidents_of(name: str) -> Mapping[str, Series]:
    (found,) = [series for begin, series in INCIDENTS.items() if name.startswith(begin)]
    return found


@pytest.fixture(params=["default", "sagemaker"], scope="module")
def alarms(request: pytest.FixtureRequest, synthesize: Synthesize) -> dict[str, Alarm]:
    return read(synthesize(request.param))


def test_every_alarm_fires_in_its_incident(alarms: dict[str, Alarm]) -> None:
    silent = [
        f"{name}: {incident}"
        for name, alarm in alarms.items()
        for incident, series in incidents_of(name).items()
        if not alarm.fires(series)
    ]
    assert silent == []


def test_no_alarm_fires_in_a_good_week(alarms: dict[str, Alarm]) -> None:
    assert [name for name, alarm in alarms.items() if alarm.fires(GOOD_WEEK[alarm.metric])] == []


def test_label_studio_that_is_down_is_noticed_before_the_first_dead_letter(alarms: dict[str, Alarm]) -> None:
    last = max(minute for minute, _ in LS_DOWN)  # after it, the message is a dead letter
    assert alarms["label-studio-errors"].fires([each for each in LS_DOWN if each[0] < last])


def test_the_rules_before_were_silent_in_these_incidents() -> None:
    """More than five errors in three periods of five minutes in a row, and more than three in two."""
    before = Alarm("label-studio-errors", "LabelStudioErrors", "Sum", 5, 3, 3, 5, below=False)
    assert not before.fires(LS_DOWN)
    functions = Alarm("functions-fail", "Errors", "Sum", 5, 2, 2, 3, below=False)
    assert not functions.fires(RECONCILE_FAILS)
    assert not functions.fires(LS_DOWN)


def test_the_judge_counts_m_out_of_n_periods() -> None:
    alarm = Alarm("x", "x", "Sum", 15, 3, 6, 0, below=False)
    assert alarm.fires([(0, 1), (30, 1), (60, 1)])
    assert not alarm.fires([(0, 1), (30, 1), (105, 1)])
    assert not alarm.fires([(0, 1), (1, 1), (2, 1)])
    idle = Alarm("x", "x", "Maximum", 5, 6, 6, 5, below=True)
    assert idle.fires([(minute, 1.0) for minute in range(30)])
    assert not idle.fires([(minute, 1.0) for minute in range(25)])
    # Missing periods do not breach.
    assert not idle.fires([(minute, 1.0) for minute in range(30) if minute not in range(10, 15)])
