"""Metrics in the log: CloudWatch's embedded metric format."""

import json

import pytest
from aws_lambda_powertools.metrics import MetricUnit

from boxdrop.metrics import IMAGES_IN, IMAGES_PER_SECOND, METRICS, RUN_IMAGES, emf


def test_a_line_is_both_a_log_and_metrics() -> None:
    line = json.loads(emf("job", {IMAGES_IN: 3, RUN_IMAGES: 2.5}, now=1.5, project="fruit"))
    assert (line["service"], line["project"], line["ImagesIn"], line["RunImages"]) == ("job", "fruit", 3, 2.5)
    (definition,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"]["Timestamp"] == 1500
    assert definition["Namespace"] == "boxdrop"
    assert definition["Dimensions"] == [["service", "project"]]
    assert definition["Metrics"][0] == {"Name": "ImagesIn", "Unit": "Count"}


def test_a_metric_keeps_its_dimensions() -> None:
    with pytest.raises(ValueError, match="ImagesPerSecond has the dimensions"):
        emf("job", {IMAGES_PER_SECOND: 1}, project="fruit")


def test_names_are_unique_and_units_are_cloudwatchs() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert {metric.unit for metric in METRICS} <= {unit.value for unit in MetricUnit} | {"None"}
