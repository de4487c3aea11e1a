"""The canary: a detector that runs on a share of new images before it becomes the default.

One object of the data bucket names it; see `boxdrop.pipeline.canary` for where it runs.
"""

from dataclasses import dataclass
from datetime import datetime

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import from_json, to_json
from boxdrop.domain.detector_names import pinned_name
from boxdrop.domain.errors import BundleError
from boxdrop.store.bundles import BundleRef, resolve
from boxdrop.store.layout import CANARY_KEY


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


def has_canary(bucket: Bucket) -> bool:
    """Whether a system has a canary, whatever its object says.

    Raises:
        BoxdropError: the bucket cannot be read.
    """
    return bucket.exists(CANARY_KEY)


def read_canary(bucket: Bucket) -> Canary | None:
    """The canary of a system; None if there is none.

    Raises:
        BundleError: its object is not valid.
        BoxdropError: the bucket cannot be read.
    """
    stored = bucket.get(CANARY_KEY)
    if stored is None:
        return None
    where = f"s3://{bucket.name}/{CANARY_KEY}"
    try:
        return from_json(Canary, stored.body, where=where, error=BundleError)
    except BundleError as error:
        raise BundleError(f"{error}; end it with: boxdrop bundle use --back") from None


def start_canary(bucket: Bucket, detector: str, share: float, now: datetime) -> BundleRef:
    """Let a detector run on a share of new images; it replaces the canary before it.

    Raises:
        BundleError: the detector is not in the bucket, or is the default already.
        ValueError: the share is not above 0 and below 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; it must be above 0 and below 1")
    ref = resolve(bucket, detector)
    if ref.digest == resolve(bucket, None).digest:
        raise BundleError(f"{pinned_name(ref.name, ref.digest)} is the default already")
    bucket.put(CANARY_KEY, to_json(Canary(ref.name, ref.digest, share, now)).encode())
    return ref


def end_canary(bucket: Bucket) -> None:
    """End the canary, if there is one; new images run with the default again.

    Raises:
        BoxdropError: it may not be deleted.
    """
    bucket.delete_all([CANARY_KEY])
