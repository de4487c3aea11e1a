"""The deployment as one table: queues, functions, what each reads, defaults and limits.

Both deployments read it: the CDK app (`infra/`) and the system on one machine (`boxdrop/local/`). Where they
differ on purpose, `DIFFERENCES` names the field and the reason. A test walks both and finds no other
difference (tests/infra/test_topology.py). Imports nothing heavy, because every function loads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from boxdrop.store.layout import (
    ANNOTATIONS,
    BUNDLES,
    DATASETS,
    LABEL_SETS,
    LESSONS,
    ORDERS,
    PREDICTIONS,
    REVIEWS,
    SUMMARY_WILDCARD,
    TRAININGS,
)

Package = Literal["small", "label-studio", "tracking"]
"""The zip package of a function, see `infra.bundling`."""

# -- limits and defaults ---------------------------------------------------------------------------------

WINDOW_S: Final = 120
"""How long launch lets uploads gather, seconds: a longer window means fewer cold starts of a GPU."""

RUN_IMAGES: Final = 20_000
"""Maximum images per run."""

CLAIM_S: Final = 180.0
"""How long launch claims images, of its 300 seconds: it claims 100 to 685 a second, and has to write the
manifest and submit the job afterwards. The next launch claims the rest."""

SHARD_IMAGES: Final = 2_560
"""Images per instance: 20 parts, under two minutes at 25 images per second."""

MAX_SHARDS: Final = 10_000
"""Maximum jobs of an AWS Batch array."""

APPLY_LIMIT: Final = 5_000
"""Images that changed labels may run again without approval: a few minutes of one GPU."""

JOB_TIMEOUT_S: Final = 3_600
"""Seconds that a shard's job may take. SageMaker's asynchronous invocations allow no more."""

LEASE_S: Final = 330.0
"""How long others wait for a publisher that died, seconds: longer than Label Studio's longest call, an import
(`boxdrop.labelstudio.connection.IMPORT_TIMEOUT_S`)."""

MAX_RECEIVES: Final = 5
"""Failed deliveries after which a message moves to the dead-letter queue."""

VISIBILITY_FACTOR: Final = 6
"""Visibility timeout of a queue over its function's timeout: AWS's advice for SQS event sources, because a
throttled batch would otherwise be delivered twice."""

RECONCILE_MINUTES: Final = 15
"""How often the schedule checks for lost runs and images."""

SYNC_HOURS: Final = 6
"""How often every task is compared with the ledger: the longest wait of a review whose webhook was lost."""

TRACK_HOURS: Final = 1
"""How often runs that finished while ZenML was down are registered."""

# -- functions and queues --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a queue's messages reach its function.

    Attributes:
        function: folder below `functions/`.
        batch: maximum messages per call.
        window_s: how long to wait for a batch to fill, seconds.
        timeout_s: of one call, seconds.
        visibility_s: how long a message stays hidden after a failed call, seconds.
        receives: deliveries before a message moves to the dead-letter queue.
        concurrency: concurrent calls; AWS's minimum is 2.
    """

    function: str
    batch: int
    window_s: float
    timeout_s: float
    visibility_s: int
    receives: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Function:
    """A deployed function.

    Attributes:
        name: folder below `functions/`.
        package: its zip package.
        timeout_s: of one call, seconds.
        memory_mb: also determines its share of a vCPU; 1,769 MB give a whole one.
        reads: the environment variables that it needs, in addition to those of AWS and Powertools.
        queue: that it reads; None if API Gateway or a schedule calls it.
        batch, window_s, concurrency: see `Delivery`.
    """

    name: str
    package: Package
    timeout_s: int
    memory_mb: int
    reads: tuple[str, ...]
    queue: str | None = None
    batch: int = 1
    window_s: float = 0
    concurrency: int = 2


_LAUNCHER: Final = (
    "BOXDROP_LAUNCHER",
    "BOXDROP_JOB_QUEUE",
    "BOXDROP_JOB_DEFINITION",
    "BOXDROP_ENDPOINT",
    "BOXDROP_JOB_TIMEOUT_S",
)
_LABEL_STUDIO: Final = ("LABEL_STUDIO_URL", "BOXDROP_LABEL_STUDIO_SECRET")

FUNCTIONS: Final[Mapping[str, Function]] = {
    each.name: each
    for each in (
        Function(
            "dispatch",
            "small",
            timeout_s=120,
            memory_mb=512,
            queue="uploads",
            batch=100,  # 1,000 uploads at once are 200 writes a second: a few seconds per batch
            window_s=1,
            concurrency=10,
            reads=(
                "BOXDROP_TABLE",
                "BOXDROP_IMAGE_BUCKET",
                "BOXDROP_DATA_BUCKET",
                "BOXDROP_LAUNCHES_QUEUE",
                "BOXDROP_REVIEWS_QUEUE",
                "BOXDROP_WINDOW_S",
            ),
        ),
        Function(
            "launch",
            "small",
            timeout_s=300,
            memory_mb=1024,
            queue="launches",
            batch=1,  # a launch of 20,000 images takes most of its time: ten in one call would not end
            concurrency=5,
            reads=(
                "BOXDROP_TABLE",
                "BOXDROP_DATA_BUCKET",
                "BOXDROP_LAUNCHES_QUEUE",
                "BOXDROP_PARTS_QUEUE",
                "BOXDROP_WINDOW_S",
                "BOXDROP_RUN_IMAGES",
                "BOXDROP_SHARD_IMAGES",
                "BOXDROP_APPLY_LIMIT",
                *_LAUNCHER,
            ),
        ),
        Function(
            "publish",
            "label-studio",
            timeout_s=300,
            memory_mb=1024,
            queue="parts",
            batch=10,
            window_s=1,
            concurrency=5,  # one publisher per project holds the lease; more would wait for it
            reads=(
                "BOXDROP_TABLE",
                "BOXDROP_DATA_BUCKET",
                "BOXDROP_PARTS_QUEUE",
                *_LABEL_STUDIO,
                "BOXDROP_WEBHOOK_SECRET_ID",
                "BOXDROP_WEBHOOK_URL",
            ),
        ),
        Function(
            "webhook",
            "small",
            timeout_s=10,
            memory_mb=256,
            reads=("BOXDROP_REVIEWS_QUEUE", "BOXDROP_WEBHOOK_SECRET_ID"),
        ),
        Function(
            "collect",
            "label-studio",
            timeout_s=120,
            memory_mb=512,
            queue="reviews",
            batch=20,
            window_s=1,
            concurrency=5,
            reads=("BOXDROP_TABLE", "BOXDROP_DATA_BUCKET", "BOXDROP_REVIEWS_QUEUE", *_LABEL_STUDIO),
        ),
        Function(
            "reconcile",
            "small",
            timeout_s=900,
            memory_mb=1024,
            reads=(
                "BOXDROP_TABLE",
                "BOXDROP_IMAGE_BUCKET",
                "BOXDROP_DATA_BUCKET",
                "BOXDROP_LAUNCHES_QUEUE",
                "BOXDROP_PARTS_QUEUE",
                "BOXDROP_REVIEWS_QUEUE",
                "BOXDROP_WINDOW_S",
                "BOXDROP_APPLY_LIMIT",
                "BOXDROP_TEACHING",
                *_LAUNCHER,
            ),
        ),
        Function(
            "track",
            "tracking",
            timeout_s=300,
            memory_mb=1024,
            queue="track",
            reads=("BOXDROP_TABLE", "BOXDROP_DATA_BUCKET", "ZENML_STORE_URL", "BOXDROP_ZENML_SECRET"),
        ),
    )
}
"""Their permissions are in `infra/stacks/pipeline.py`, compared with the calls that they make."""

READERS: Final[Mapping[str, Function]] = {each.queue: each for each in FUNCTIONS.values() if each.queue}
"""The function that reads each queue."""

OPTIONAL: Final = frozenset({"track"})
"""Only where runs are tracked: with `zenml_url` in AWS, with ZenML installed on one machine."""

LIMITS: Final[Mapping[str, str]] = {
    "BOXDROP_WINDOW_S": str(WINDOW_S),
    "BOXDROP_RUN_IMAGES": str(RUN_IMAGES),
    "BOXDROP_SHARD_IMAGES": str(SHARD_IMAGES),
    "BOXDROP_APPLY_LIMIT": str(APPLY_LIMIT),
    "BOXDROP_JOB_TIMEOUT_S": str(JOB_TIMEOUT_S),
    "BOXDROP_LEASE_S": f"{LEASE_S:g}",
}
"""Variables whose values are defaults of this table; an AWS deployment's configuration may override them."""

JOBS: Final = "jobs"
"""The queue that replaces AWS Batch in the local system: one message per shard, one delivery per attempt."""

_JOB_ATTEMPTS: Final = 12


def delivery(queue: str) -> Delivery:
    """How AWS delivers a queue's messages."""
    reader = READERS[queue]
    return Delivery(
        function=reader.name,
        batch=reader.batch,
        window_s=reader.window_s,
        timeout_s=reader.timeout_s,
        visibility_s=VISIBILITY_FACTOR * reader.timeout_s,
        receives=MAX_RECEIVES,
        concurrency=reader.concurrency,
    )


WEBHOOK_RESERVE: Final = 2
"""Calls at once that event sources leave to the webhook and to the schedule."""

FEWEST_CALLS: Final = 2
"""Least calls at once of an event source, by AWS's rule."""


def concurrencies(queues: Sequence[str], limit: int) -> dict[str, int]:
    """Calls at once for each queue, in an account whose functions may run `limit` calls at once altogether.

    Raises:
        ValueError: not even the fewest fit; says how many are needed.
    """
    calls = dict.fromkeys(queues, FEWEST_CALLS)
    left = limit - WEBHOOK_RESERVE - sum(calls.values())
    if left < 0:
        raise ValueError(f"{limit} calls at once are too few: {limit - left} are needed")
    while left and (short := [name for name in queues if calls[name] < READERS[name].concurrency]):
        calls[max(short, key=lambda name: READERS[name].concurrency / calls[name])] += 1
        left -= 1
    return calls


def event_patterns(images: str, data: str, uploads: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Which of S3's events go into which queue.

    Args:
        images, data: the buckets' names, or what stands for them in a template.
        uploads: keys of the image bucket that count, with ``*`` for any characters; by default all.
            ``labels.yaml`` always counts.
    """
    wanted = [{"wildcard": each} for each in (*uploads, "*/labels.yaml")] if uploads else []
    summary: dict[str, Any] = {"wildcard": SUMMARY_WILDCARD}
    created = {"source": ["aws.s3"], "detail-type": ["Object Created"]}
    return {
        "uploads": {
            "source": ["aws.s3"],
            "detail-type": ["Object Created", "Object Deleted"],
            "detail": {"bucket": {"name": [images]}} | ({"object": {"key": wanted}} if wanted else {}),
        },
        "parts": created
        | {"detail": {"bucket": {"name": [data]}, "object": {"key": [{"prefix": PREDICTIONS}, summary]}}},
        "track": created | {"detail": {"bucket": {"name": [data]}, "object": {"key": [summary]}}},
    }


# -- long work in the account ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Access:
    """What a kind of long work may read and write.

    Attributes:
        reads, writes: prefixes of the data bucket.
        images: whether it reads images, in any version.
        labels: whether it replaces a project's ``labels.yaml``.
        ledger: whether it reads the ledger.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    images: bool = False
    labels: bool = False
    ledger: bool = False


ORDER_ACCESS: Final[Mapping[str, Access]] = {
    "train": Access(
        reads=(BUNDLES, DATASETS, ORDERS, TRAININGS), writes=(BUNDLES, ORDERS, TRAININGS), images=True
    ),
    "export": Access(reads=(BUNDLES, ORDERS), writes=(BUNDLES, ORDERS)),
    "teach": Access(
        reads=(ANNOTATIONS, BUNDLES, LABEL_SETS, LESSONS, ORDERS, REVIEWS),
        writes=(LESSONS, ORDERS, REVIEWS),
        images=True,
        labels=True,
        ledger=True,
    ),
}
"""By kind, see `boxdrop.store.orders.Order`. Tests compare it with the calls that the commands make."""

# -- the same on one machine -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between the local system and AWS.

    Attributes:
        name: a field of `Delivery`, a variable of `LIMITS`, or the name of a setting here.
        reason: why.
    """

    name: str
    reason: str


DIFFERENCES: Final = (
    Difference("window_s", "nothing is paid per call, and a person waits: batches fill for 0.1 s"),
    Difference("timeout_s", "functions share their cores with Label Studio, the job and the user's programs"),
    Difference("visibility_s", "the pump keeps a message hidden as long as its function works"),
    Difference("receives", "retries come after 5 s: 60 of them outlast five minutes without Label Studio"),
    Difference("concurrency", "the pump runs one process per function"),
    Difference("BOXDROP_WINDOW_S", "no GPU has to start, so waiting for more images saves nothing"),
    Difference("BOXDROP_LEASE_S", "only one process publishes, so a killed one holds up only itself"),
    Difference("reconcile", "a minute instead of 15: a call costs nothing here"),
    Difference("summaries", "MiniStack does not support wildcards, so the rule matches the end of the key"),
    Difference("jobs", "a queue of the pump replaces AWS Batch, which no emulator runs"),
)

LOCAL_LIMITS: Final[Mapping[str, str]] = dict(LIMITS) | {"BOXDROP_WINDOW_S": "0.2", "BOXDROP_LEASE_S": "20"}
LOCAL_RECONCILE_S: Final = 60.0
LOCAL_SYNC_EVERY: Final = 10
"""Every this many calls, reconcile also compares Label Studio."""

_LOCAL_WINDOW_S: Final = 0.1
_LOCAL_SLOWER: Final = 2
_LOCAL_LONGEST_S: Final = 900.0  # Lambda's own limit
_LOCAL_VISIBILITY_S: Final = 5
_LOCAL_RECEIVES: Final = 60


def local_timeout_s(function: str) -> float:
    """A function's timeout in the local system, in seconds."""
    return min(float(_LOCAL_SLOWER * FUNCTIONS[function].timeout_s), _LOCAL_LONGEST_S)


def local_delivery(queue: str) -> Delivery:
    """How the pump delivers a queue's messages in the local system, see `DIFFERENCES`."""
    if queue == JOBS:
        return Delivery("job", 1, 0, JOB_TIMEOUT_S, _LOCAL_VISIBILITY_S, _JOB_ATTEMPTS, 1)
    aws = delivery(queue)
    return replace(
        aws,
        window_s=min(aws.window_s, _LOCAL_WINDOW_S),
        timeout_s=local_timeout_s(aws.function),
        visibility_s=_LOCAL_VISIBILITY_S,
        receives=_LOCAL_RECEIVES,
        concurrency=1,
    )


def local_event_patterns(images: str, data: str) -> dict[str, dict[str, Any]]:
    """Like `event_patterns`, in MiniStack's syntax."""
    patterns = event_patterns(images, data)
    for pattern in patterns.values():
        keys = pattern["detail"].get("object", {}).get("key", [])
        keys[:] = [{"suffix": "/summary.json"} if "wildcard" in each else each for each in keys]
    return patterns
