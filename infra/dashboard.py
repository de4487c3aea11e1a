"""The dashboard: one row per question. boxdrop's own metrics come from `boxdrop.metrics`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from boxdrop import metrics
from boxdrop.metrics import Metric
from functions.collect.boxes import BOXES
from infra.config import Environment

_WIDTH: Final = 24
_HEIGHT: Final = 6
_PERIOD: Final = 300


def dashboard_body(
    environment: Environment, region: str, names: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The dashboard as CloudWatch's JSON.

    Args:
        region: of the stack; may be a token.
        names: the pipeline's: ``queues``, ``dead_letters``, ``functions``.
    """
    prefix = environment.prefix
    rows: list[tuple[str, list[dict[str, Any]]]] = [
        (
            "Images: in, predicted, in Label Studio, verified",
            [
                _graph(
                    "Images",
                    [
                        _own(environment, metric, "Sum", label)
                        for metric, label in (
                            (metrics.IMAGES_IN, "in"),
                            (metrics.IMAGES_PREDICTED, "predicted"),
                            (metrics.TASKS_PUBLISHED, "tasks"),
                            (metrics.IMAGES_VERIFIED, "verified"),
                            (metrics.IMAGES_FAILED, "failed"),
                            (metrics.IMAGES_IGNORED, "ignored"),
                        )
                    ],
                ),
                _graph(
                    "From arrival to task, seconds",
                    [
                        _own(environment, metrics.END_TO_END, "p50", "p50"),
                        _own(environment, metrics.END_TO_END, "p95", "p95"),
                        _own(environment, metrics.OLDEST_IMAGE, "Maximum", "the oldest that still waits"),
                    ],
                ),
                _graph(
                    "Returned, refused",
                    [
                        _own(environment, metrics.IMAGES_RELEASED, "Sum", "returned by dead runs"),
                        _own(environment, metrics.LABELS_REFUSED, "Sum", "labels.yaml refused"),
                    ],
                ),
            ],
        ),
        (
            "Queues",
            [
                _graph(
                    "Messages",
                    [
                        [
                            "AWS/SQS",
                            "ApproximateNumberOfMessagesVisible",
                            "QueueName",
                            f"{prefix}-{queue}",
                            {"label": queue, "stat": "Maximum"},
                        ]
                        for queue in names["queues"]
                    ],
                ),
                _graph(
                    "Oldest message, seconds",
                    [
                        [
                            "AWS/SQS",
                            "ApproximateAgeOfOldestMessage",
                            "QueueName",
                            f"{prefix}-{queue}",
                            {"label": queue, "stat": "Maximum"},
                        ]
                        for queue in names["queues"]
                    ],
                ),
                _graph(
                    "Dead letters",
                    [
                        [
                            "AWS/SQS",
                            "ApproximateNumberOfMessagesVisible",
                            "QueueName",
                            f"{prefix}-{queue}-dlq",
                            {"label": queue, "stat": "Maximum"},
                        ]
                        for queue in names["dead_letters"]
                    ],
                ),
            ],
        ),
        (
            "The detector",
            [
                _graph(
                    "Runs",
                    [
                        _own(environment, metrics.RUN_IMAGES, "SampleCount", "submitted"),
                        _own(environment, metrics.RUNS_FAILED, "Sum", "failed"),
                        *_compute(environment),
                    ],
                ),
                _graph(
                    "Images per second; GPU, %",
                    [
                        _own(environment, metrics.IMAGES_PER_SECOND, "Average", "images/s per shard"),
                        _own(environment, metrics.GPU_UTILISATION, "Average", "GPU %"),
                    ],
                ),
                _graph("Jobs on the CPU", [_own(environment, metrics.CPU_PROVIDER_USED, "Sum", "jobs")]),
            ],
        ),
        (
            "Functions",
            [
                _graph(
                    "Errors",
                    [
                        [
                            "AWS/Lambda",
                            "Errors",
                            "FunctionName",
                            f"{prefix}-{name}",
                            {"label": name, "stat": "Sum"},
                        ]
                        for name in names["functions"]
                    ],
                ),
                _graph(
                    "Duration p95, ms",
                    [
                        [
                            "AWS/Lambda",
                            "Duration",
                            "FunctionName",
                            f"{prefix}-{name}",
                            {"label": name, "stat": "p95"},
                        ]
                        for name in names["functions"]
                    ],
                ),
                _graph(
                    "Throttles",
                    [
                        [
                            "AWS/Lambda",
                            "Throttles",
                            "FunctionName",
                            f"{prefix}-{name}",
                            {"label": name, "stat": "Sum"},
                        ]
                        for name in names["functions"]
                    ],
                ),
            ],
        ),
        (
            "Label Studio",
            [
                _graph("Errors", [_own(environment, metrics.LABEL_STUDIO_ERRORS, "Sum", "errors")]),
                _graph(
                    "Webhook",
                    [
                        [
                            "AWS/Lambda",
                            "Invocations",
                            "FunctionName",
                            f"{prefix}-webhook",
                            {"label": "calls", "stat": "Sum"},
                        ],
                        _own(environment, metrics.WEBHOOK_REFUSED, "Sum", "refused"),
                        _own(environment, metrics.REVIEWS_MISSED, "Sum", "reviews without a webhook call"),
                    ],
                ),
                _graph(
                    "What annotators did with the boxes",
                    [_own(environment, metric, "Sum", label) for label, metric in BOXES.items()],
                ),
                _graph(
                    "An annotator's work on an image, seconds",
                    [
                        _own(environment, metrics.REVIEW_SECONDS, "p50", "p50"),
                        _own(environment, metrics.REVIEW_SECONDS, "p90", "p90"),
                    ],
                ),
                _graph(
                    "From click to bucket, seconds",
                    [
                        _own(environment, metrics.ANNOTATION_LAG, "p50", "p50"),
                        _own(environment, metrics.ANNOTATION_LAG, "p95", "p95"),
                    ],
                ),
            ],
        ),
        (
            "Money"
            + (
                f": the budget is ${environment.monthly_budget_usd:.0f} a month"
                if environment.monthly_budget_usd
                else ""
            ),
            [
                _graph(
                    "Dollars per 1,000 images",
                    [
                        _own(environment, metrics.COST_PER_THOUSAND, "Average", "mean over runs"),
                        _own(environment, metrics.COST_PER_THOUSAND, "Maximum", "dearest run"),
                    ],
                ),
                _graph(
                    "Images per run: small runs cost more",
                    [
                        _own(environment, metrics.RUN_IMAGES, "Average", "mean"),
                        _own(environment, metrics.RUN_IMAGES, "Maximum", "largest"),
                    ],
                ),
            ],
        ),
    ]
    widgets: list[dict[str, Any]] = []
    y = 0
    for title, graphs in rows:
        widgets.append(
            {
                "type": "text",
                "x": 0,
                "y": y,
                "width": _WIDTH,
                "height": 1,
                "properties": {"markdown": f"## {title}", "background": "transparent"},
            }
        )
        width = _WIDTH // len(graphs)
        for column, graph in enumerate(graphs):
            graph["properties"]["region"] = region
            widgets.append({**graph, "x": column * width, "y": y + 1, "width": width, "height": _HEIGHT})
        y += _HEIGHT + 1
    return {"widgets": widgets}


def _graph(title: str, lines: Sequence[Any]) -> dict[str, Any]:
    return {
        "type": "metric",
        "properties": {
            "title": title,
            "view": "timeSeries",
            "stacked": False,
            "period": _PERIOD,
            "metrics": list(lines),
            "yAxis": {"left": {"min": 0, "showUnits": False}},
        },
    }


def _own(environment: Environment, metric: Metric, statistic: str, label: str) -> list[Any]:
    """A metric over all projects and services: a search, since projects come and go."""
    together = {"Sum": "SUM", "SampleCount": "SUM", "Average": "AVG", "Maximum": "MAX"}.get(statistic, "MAX")
    # A name with a hyphen, such as the namespace, has to be quoted in a search expression.
    names = ",".join((f'"{environment.prefix}"', "service", *metric.dimensions))
    search = f"SEARCH('{{{names}}} MetricName=\"{metric.name}\"', '{statistic}', {_PERIOD})"
    return [{"expression": f"{together}({search})", "label": label}]


def _compute(environment: Environment) -> list[Any]:
    if environment.compute == "batch":
        return []
    return [
        [
            "AWS/SageMaker",
            "ApproximateBacklogSize",
            "EndpointName",
            environment.prefix,
            {"label": "waiting requests", "stat": "Maximum"},
        ]
    ]
