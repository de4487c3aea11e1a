"""The services of a system: the ledger, the buckets, the queues, the launcher, Label Studio and the clock.

Made once per process: by the functions from their environment, by the command line from a `System`, and by
tests as they need. Each step of the pipeline is a function of it. Services are made on first use: a function
that does not need Label Studio neither imports its client nor logs in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from boxdrop.store.layout import PART_IMAGES
from boxdrop.topology import (
    APPLY_LIMIT,
    CLAIM_S,
    JOB_TIMEOUT_S,
    LEASE_S,
    MAX_SHARDS,
    RUN_IMAGES,
    SHARD_IMAGES,
    WINDOW_S,
)

if TYPE_CHECKING:
    from boxdrop.aws.launchers import Launcher
    from boxdrop.aws.s3 import Bucket
    from boxdrop.aws.sqs import Queue
    from boxdrop.labelstudio.connection import Connection
    from boxdrop.ledger import Image, Ledger
    from boxdrop.system import System

ImageCredits = Callable[[str, Sequence["Image"]], Mapping[str, Mapping[str, Any]]]
"""Returns credits: for a project and some of its images, fields for their tasks by image_id; see
`boxdrop.pipeline.credits`."""

_PARTS = ("ledger", "images", "data", "launches", "parts", "reviews", "launcher", "label_studio", "credits")


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The receiver of Label Studio's webhook.

    Attributes:
        url: of the receiver.
        secret: sent with each call.
    """

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The limits of a system; the defaults are those of `boxdrop.topology`.

    Attributes:
        window_s: how long images gather, and ``labels.yaml`` is left alone, before a launch, seconds.
        run_images: images in one run at most.
        shard_images: images that one job of an array gets; rounded up to whole parts.
        apply_limit: images that changed labels may run again without approval.
        job_timeout_s: seconds after which reconcile checks an unfinished run.
        lease_s: how long others wait for a publisher that died, seconds.
        part_images: images of a part.
        claim_s: how long a launch claims images, seconds; the next launch claims the rest.
    """

    window_s: float = WINDOW_S
    run_images: int = RUN_IMAGES
    shard_images: int = SHARD_IMAGES
    apply_limit: int = APPLY_LIMIT
    job_timeout_s: int = JOB_TIMEOUT_S
    lease_s: float = LEASE_S
    part_images: int = PART_IMAGES
    claim_s: float = CLAIM_S

    @property
    def shard(self) -> int:
        """Images of a shard: whole parts, and few enough shards for one array."""
        fewest = -(-self.run_images // MAX_SHARDS)
        return -(-max(self.shard_images, fewest) // self.part_images) * self.part_images


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def _no_webhook() -> WebhookTarget | None:
    return None


@dataclass(frozen=True, eq=False)
class Services:
    """The services of one system. Safe to use from several threads.

    Attributes:
        makers: makes each part by its name, one of `ledger`, `images`, `data`, `launches`, `parts`,
            `reviews`, `launcher`, `label_studio` and `credits`.
        settings: the system's limits.
        clock: the time.
        webhook: where Label Studio notifies; None if nothing listens. Asked when a project is prepared.
    """

    makers: Mapping[str, Callable[[], Any]]
    settings: Settings = field(default_factory=Settings)
    clock: Callable[[], datetime] = now
    webhook: Callable[[], WebhookTarget | None] = _no_webhook

    @classmethod
    def of(
        cls,
        settings: Settings | None = None,
        clock: Callable[[], datetime] = now,
        webhook: WebhookTarget | None = None,
        **parts: Any,
    ) -> "Services":
        """Services from existing objects; see `makers` for their names."""
        unknown = parts.keys() - set(_PARTS)
        if unknown:
            raise TypeError(f"services have no {', '.join(sorted(unknown))}")
        makers = {name: lambda part=part: part for name, part in parts.items()}
        return cls(makers, settings or Settings(), clock, lambda: webhook)

    @classmethod
    def of_system(cls, system: "System", **parts: Any) -> "Services":
        """Services of a system that commands talk to; boto3 must find it (`System.enter`)."""

        def bucket(name: str) -> Callable[[], "Bucket"]:
            def make() -> "Bucket":
                from boxdrop.aws.s3 import Bucket

                return Bucket(name)

            return make

        def queue(name: str) -> Callable[[], "Queue"]:
            def make() -> "Queue":
                from boxdrop.aws.sqs import Queue

                return Queue(system.queue(name))

            return make

        def ledger() -> "Ledger":
            from boxdrop.ledger import Ledger

            return Ledger(system.table)

        makers: dict[str, Callable[[], Any]] = {
            "ledger": ledger,
            "images": bucket(system.image_bucket),
            "data": bucket(system.data_bucket),
            **{name: queue(name) for name in ("launches", "parts", "reviews")},
        }
        makers |= {name: lambda part=part: part for name, part in parts.items()}  # type: ignore[misc]
        return cls(makers, Settings(window_s=system.window_s))

    def _made(self, name: str) -> Any:
        try:
            make = self.makers[name]
        except KeyError:
            raise TypeError(f"these services were made without {name}") from None
        return make()

    @cached_property
    def ledger(self) -> "Ledger":
        """The ledger."""
        ledger: Ledger = self._made("ledger")
        return ledger

    @cached_property
    def images(self) -> "Bucket":
        """The image bucket."""
        bucket: Bucket = self._made("images")
        return bucket

    @cached_property
    def data(self) -> "Bucket":
        """The data bucket."""
        bucket: Bucket = self._made("data")
        return bucket

    @cached_property
    def launches(self) -> "Queue":
        """The queue of launch."""
        queue: Queue = self._made("launches")
        return queue

    @cached_property
    def parts(self) -> "Queue":
        """The queue of publish."""
        queue: Queue = self._made("parts")
        return queue

    @cached_property
    def reviews(self) -> "Queue":
        """The queue of collect."""
        queue: Queue = self._made("reviews")
        return queue

    @cached_property
    def launcher(self) -> "Launcher":
        """Submits manifests to jobs."""
        launcher: Launcher = self._made("launcher")
        return launcher

    @cached_property
    def label_studio(self) -> "Connection":
        """Label Studio, logged in.

        Raises:
            LabelStudioError, SecretError: it cannot be reached, or does not accept the token.
        """
        connection: Connection = self._made("label_studio")
        return connection

    @cached_property
    def credits(self) -> "ImageCredits | None":
        """Reads images' credits; None: no credits."""
        credits: ImageCredits | None = self._made("credits") if "credits" in self.makers else None
        return credits

    def forget_label_studio(self) -> None:
        """Log in again next time: the token may have changed, or the server moved."""
        self.__dict__.pop("label_studio", None)
