"""The functions' environment, parsed once into one typed model.

`boxdrop.topology.FUNCTIONS` lists the variables that each function reads; the deployment sets exactly these.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from boxdrop.aws.secrets import (
    LABEL_STUDIO_SECRET_ID,
    LABEL_STUDIO_TOKEN,
    LABEL_STUDIO_URL,
    WEBHOOK_SECRET,
    WEBHOOK_SECRET_ID,
    ZENML_KEY,
    ZENML_SECRET_ID,
    ZENML_STORE_URL,
)
from boxdrop.domain.errors import BoxdropError
from boxdrop.services import Settings
from boxdrop.topology import (
    APPLY_LIMIT,
    FUNCTIONS,
    JOB_TIMEOUT_S,
    LEASE_S,
    RUN_IMAGES,
    SHARD_IMAGES,
    WINDOW_S,
)


class FunctionEnvironmentError(BoxdropError):
    """An environment variable is missing or invalid; the message names it."""


def _variable(name: str, **options: Any) -> Any:
    return field(metadata={"variable": name}, **options)


@dataclass(frozen=True, slots=True)
class Environment:
    """Names, addresses and limits of the system that a function is part of.

    Attributes:
        table: the ledger's.
        image_bucket, data_bucket: names.
        launches_queue, parts_queue, reviews_queue: URLs.
        window_s: how long images gather before a launch, seconds.
        run_images: most images of a run.
        shard_images: images of one job of an array.
        apply_limit: images that a changed labels.yaml may run again without approval.
        launcher: ``batch``, ``sagemaker`` or ``local``.
        job_queue: Batch's, or the URL of the local worker's.
        job_definition: Batch's.
        endpoint: SageMaker's.
        job_timeout_s: for an attempt of a job; reconcile checks an unfinished run after it.
        lease_s: how long others wait for a publisher that died; see `boxdrop.topology.LEASE_S`.
        teaching: where the account teaches, `boxdrop.account.placement.Offer` as JSON; without it, reconcile
            orders no teaching.
        webhook_url: receiver of Label Studio's webhook; without it, only reconcile finds new reviews.
    """

    table: str = _variable("BOXDROP_TABLE", default="")
    image_bucket: str = _variable("BOXDROP_IMAGE_BUCKET", default="")
    data_bucket: str = _variable("BOXDROP_DATA_BUCKET", default="")
    launches_queue: str = _variable("BOXDROP_LAUNCHES_QUEUE", default="")
    parts_queue: str = _variable("BOXDROP_PARTS_QUEUE", default="")
    reviews_queue: str = _variable("BOXDROP_REVIEWS_QUEUE", default="")
    window_s: float = _variable("BOXDROP_WINDOW_S", default=float(WINDOW_S))
    run_images: int = _variable("BOXDROP_RUN_IMAGES", default=RUN_IMAGES)
    shard_images: int = _variable("BOXDROP_SHARD_IMAGES", default=SHARD_IMAGES)
    apply_limit: int = _variable("BOXDROP_APPLY_LIMIT", default=APPLY_LIMIT)
    launcher: str = _variable("BOXDROP_LAUNCHER", default="")
    job_queue: str = _variable("BOXDROP_JOB_QUEUE", default="")
    job_definition: str = _variable("BOXDROP_JOB_DEFINITION", default="")
    endpoint: str = _variable("BOXDROP_ENDPOINT", default="")
    job_timeout_s: int = _variable("BOXDROP_JOB_TIMEOUT_S", default=JOB_TIMEOUT_S)
    lease_s: float = _variable("BOXDROP_LEASE_S", default=LEASE_S)
    teaching: str = _variable("BOXDROP_TEACHING", default="")
    webhook_url: str = _variable("BOXDROP_WEBHOOK_URL", default="")

    @property
    def settings(self) -> Settings:
        """The limits of the system."""
        names = {each.name for each in fields(Settings)} & {each.name for each in fields(self)}
        return Settings(**{name: getattr(self, name) for name in names})


_ONE_OF: Final = {
    LABEL_STUDIO_SECRET_ID: LABEL_STUDIO_TOKEN,
    WEBHOOK_SECRET_ID: WEBHOOK_SECRET,
    ZENML_SECRET_ID: ZENML_KEY,
}
"""In place of a secret's id, the secret itself: for the local system and for tests."""

_MAY_BE_EMPTY: Final = {
    "BOXDROP_JOB_QUEUE",
    "BOXDROP_JOB_DEFINITION",
    "BOXDROP_ENDPOINT",
    "BOXDROP_TEACHING",
    "BOXDROP_WEBHOOK_URL",
    LABEL_STUDIO_URL,  # the secret may contain it
    ZENML_STORE_URL,  # without it, the store on this machine, which has no log-in
    ZENML_SECRET_ID,
}
"""Each launcher checks which of them it needs."""


def read_environment(function: str, environ: Mapping[str, str] = os.environ) -> Environment:
    """Read and check what a function needs.

    Raises:
        FunctionEnvironmentError: names every variable that is missing or invalid.
    """
    problems = []
    for name in FUNCTIONS[function].reads:
        given = environ.get(name) or environ.get(_ONE_OF.get(name, ""), "")
        if not given and name not in _MAY_BE_EMPTY:
            problems.append(f"{name} is missing")
    values: dict[str, Any] = {}
    for each in fields(Environment):
        name, default = each.metadata["variable"], each.default
        text = environ.get(name, "")
        if text:
            try:
                values[each.name] = text if isinstance(default, str) else type(default)(text)  # type: ignore[misc]
            except ValueError:
                problems.append(f"{name} is {text!r}, not a number")
    if problems:
        raise FunctionEnvironmentError(f"the function {function} cannot work: {'; '.join(problems)}")
    return Environment(**values)
