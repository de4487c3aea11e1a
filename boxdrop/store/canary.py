"""The canary: a detector that runs on a share of new images before all of them get it.

An object of the data bucket names it: one for all projects that use the default detector, and one for each
project that tries a detector of its own. See `boxdrop.pipeline.canary` for where they run.
"""

from dataclasses import dataclass
from datetime import datetime
from shlex import quote

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import from_json, to_json
from boxdrop.domain.errors import BundleError
from boxdrop.store.bundles import BundleRef
from boxdrop.store.layout import canary_key


@dataclass(frozen=True, slots=True)
class Canary:
    """A detector on trial.

    Attributes:
        name, digest: the bundle's, 64 hexadecimal digits.
        share: of the new images, above 0 and below 1.
        since: when it began.
    """

    name: str
    digest: str
    share: float
    since: datetime


def has_canary(bucket: Bucket, project: str) -> bool:
    """Whether a canary may run in a project, whatever its object says.

    Raises:
        BoxdropError: the bucket cannot be read.
    """
    return bucket.exists(canary_key(None)) or bucket.exists(canary_key(project))


def read_canary(bucket: Bucket, project: str | None = None) -> Canary | None:
    """The canary of a project, or (None) that of all projects with the default; None if there is none.

    Raises:
        BundleError: its object is not valid.
        BoxdropError: the bucket cannot be read.
    """
    key = canary_key(project)
    stored = bucket.get(key)
    if stored is None:
        return None
    try:
        return from_json(Canary, stored.body, where=f"s3://{bucket.name}/{key}", error=BundleError)
    except BundleError as error:
        among = "" if project is None else f" --in {quote(project)}"
        raise BundleError(f"{error}; end it with: boxdrop bundle use --back{among}") from None


def start_canary(
    bucket: Bucket, ref: BundleRef, share: float, now: datetime, project: str | None = None
) -> None:
    """Let a detector run on a share of new images; it replaces the canary before it.

    Args:
        bucket: the data bucket.
        ref: the detector.
        share: of the new images.
        now: when it begins.
        project: the only one that tries it; None: all projects that use the default detector.

    Raises:
        ValueError: the share is not above 0 and below 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; it must be above 0 and below 1")
    bucket.put(canary_key(project), to_json(Canary(ref.name, ref.digest, share, now)).encode())


def end_canary(bucket: Bucket, project: str | None = None) -> None:
    """End a canary, if there is one; new images run with the detector in force again.

    Raises:
        BoxdropError: it may not be deleted.
    """
    bucket.delete_all([canary_key(project)])
