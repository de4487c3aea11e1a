"""All metrics that boxdrop emits, defined once for functions, job, dashboard and alarms.

They reach CloudWatch through the log, in the embedded metric format (EMF): a JSON line that is both.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

NAMESPACE: Final = "boxdrop"
NAMESPACE_VARIABLE: Final = "POWERTOOLS_METRICS_NAMESPACE"
"""The variable with a deployment's namespace, which separates two deployments in one account; Powertools
reads it as well."""


def namespace(environ: Mapping[str, str] = os.environ) -> str:
    """The namespace of this process's metrics."""
    return environ.get(NAMESPACE_VARIABLE) or NAMESPACE


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: in CloudWatch.
        unit: CloudWatch's.
        dimensions: in addition to ``service``, which names the function or the job.
        meaning: a short description.
    """

    name: str
    unit: str
    dimensions: tuple[str, ...]
    meaning: str


_BY_PROJECT: Final = ("project",)

IMAGES_IN: Final = Metric(
    "ImagesIn", "Count", _BY_PROJECT, "images that became wanted, by uploads or overwrites"
)
IMAGES_IGNORED: Final = Metric(
    "ImagesIgnored", "Count", (), "uploaded objects that are not images, or not in a project's folder"
)
IMAGES_PREDICTED: Final = Metric(
    "ImagesPredicted", "Count", _BY_PROJECT, "images for which a job has a prediction"
)
IMAGES_FAILED: Final = Metric(
    "ImagesFailed", "Count", _BY_PROJECT, "images that got a reason instead of boxes"
)
TASKS_PUBLISHED: Final = Metric(
    "TasksPublished", "Count", _BY_PROJECT, "tasks made in Label Studio, or given a newer prediction"
)
IMAGES_VERIFIED: Final = Metric("ImagesVerified", "Count", _BY_PROJECT, "images that annotators verified")
END_TO_END: Final = Metric(
    "EndToEndSeconds", "Seconds", _BY_PROJECT, "from an image's upload to its task, per image"
)
RUN_IMAGES: Final = Metric("RunImages", "Count", _BY_PROJECT, "images of a submitted run")
IMAGES_PER_SECOND: Final = Metric(
    "ImagesPerSecond", "Count/Second", (), "per shard, from first to last image"
)
GPU_UTILISATION: Final = Metric("GpuUtilisation", "Percent", (), "mean of each minute of a job's work")
CPU_PROVIDER_USED: Final = Metric("CpuProviderUsed", "Count", (), "jobs that ran on the CPU")
WEBHOOK_REFUSED: Final = Metric(
    "WebhookRefused", "Count", (), "calls of the webhook with a wrong secret or body"
)
ANNOTATION_LAG: Final = Metric(
    "AnnotationLagSeconds", "Seconds", _BY_PROJECT, "from an annotator's click to the document in the bucket"
)
BOXES_KEPT: Final = Metric("BoxesKept", "Count", _BY_PROJECT, "offered boxes that annotators kept")
BOXES_ADJUSTED: Final = Metric("BoxesAdjusted", "Count", _BY_PROJECT, "offered boxes that annotators moved")
BOXES_RELABELLED: Final = Metric(
    "BoxesRelabelled", "Count", _BY_PROJECT, "offered boxes that got another label"
)
BOXES_DELETED: Final = Metric("BoxesDeleted", "Count", _BY_PROJECT, "offered boxes that annotators deleted")
BOXES_ADDED: Final = Metric("BoxesAdded", "Count", _BY_PROJECT, "boxes that annotators drew")
REVIEW_SECONDS: Final = Metric(
    "ReviewSeconds", "Seconds", _BY_PROJECT, "an annotator's work on an image, each image"
)
LABEL_STUDIO_ERRORS: Final = Metric(
    "LabelStudioErrors", "Count", (), "messages that wait because a call to Label Studio failed"
)
REVIEWS_MISSED: Final = Metric(
    "ReviewsMissed", "Count", _BY_PROJECT, "reviews without a webhook call, found by comparing"
)
RUNS_FAILED: Final = Metric("RunsFailed", "Count", _BY_PROJECT, "runs that died or could not be submitted")
IMAGES_RELEASED: Final = Metric("ImagesReleased", "Count", _BY_PROJECT, "images that dead runs returned")
LABELS_REFUSED: Final = Metric(
    "LabelsRefused", "Count", _BY_PROJECT, "labels.yaml files that could not come into force"
)
OLDEST_IMAGE: Final = Metric(
    "OldestImageSeconds", "Seconds", (), "how long the image that waits longest has been without its boxes"
)
COST_PER_THOUSAND: Final = Metric("CostPerThousand", "None", _BY_PROJECT, "a run's dollars per 1,000 images")

METRICS: Final = (
    IMAGES_IN,
    IMAGES_IGNORED,
    IMAGES_PREDICTED,
    IMAGES_FAILED,
    TASKS_PUBLISHED,
    IMAGES_VERIFIED,
    END_TO_END,
    RUN_IMAGES,
    IMAGES_PER_SECOND,
    GPU_UTILISATION,
    CPU_PROVIDER_USED,
    WEBHOOK_REFUSED,
    ANNOTATION_LAG,
    BOXES_KEPT,
    BOXES_ADJUSTED,
    BOXES_RELABELLED,
    BOXES_DELETED,
    BOXES_ADDED,
    REVIEW_SECONDS,
    LABEL_STUDIO_ERRORS,
    REVIEWS_MISSED,
    RUNS_FAILED,
    IMAGES_RELEASED,
    LABELS_REFUSED,
    OLDEST_IMAGE,
    COST_PER_THOUSAND,
)


def emf(
    service: str,
    values: Mapping[Metric, float],
    *,
    now: float | None = None,
    **dimensions: str,
) -> str:
    """One line of the embedded metric format; print it, and CloudWatch Logs makes metrics of it.

    Args:
        service: the emitter: ``job`` or a function's name.
        values: of metrics that all have these dimensions, at most 100.
        now: Unix time in seconds. Default: the current time.
        dimensions: a value for each of the metrics' dimensions.

    Raises:
        ValueError: a metric has other dimensions.
    """
    for metric in values:
        if set(metric.dimensions) != set(dimensions):
            raise ValueError(f"{metric.name} has the dimensions {metric.dimensions}, not {tuple(dimensions)}")
    definition = {
        "Namespace": namespace(),
        "Dimensions": [["service", *dimensions]],
        "Metrics": [{"Name": metric.name, "Unit": metric.unit} for metric in values],
    }
    moment = time.time() if now is None else now
    fields: dict[str, Any] = {
        "_aws": {"Timestamp": round(moment * 1000), "CloudWatchMetrics": [definition]},
        "service": service,
        **dimensions,
        **{metric.name: value for metric, value in values.items()},
    }
    return json.dumps(fields)
