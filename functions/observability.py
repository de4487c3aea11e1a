"""Logs and metrics of the functions, by Powertools: JSON lines with ids, never keys, bodies or secrets."""

from collections.abc import Mapping

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

from boxdrop.metrics import Metric, namespace


def logger_of(function: str) -> Logger:
    """A function's logger. `BoxdropError` texts may go into it: they are written for people."""
    return Logger(service=function)


def emit(function: str, values: Mapping[Metric, float], **dimensions: str) -> None:
    """Emit metrics with their dimensions; zeros are left out.

    Raises:
        ValueError: a metric has other dimensions.
    """
    metrics = EphemeralMetrics(namespace=namespace(), service=function)
    for name, value in dimensions.items():
        metrics.add_dimension(name, value)
    for metric, number in values.items():
        if set(metric.dimensions) != set(dimensions):
            raise ValueError(f"{metric.name} has the dimensions {metric.dimensions}, not {tuple(dimensions)}")
        if number:
            metrics.add_metric(metric.name, metric.unit, number)
    if metrics.metric_set:
        metrics.flush_metrics()
