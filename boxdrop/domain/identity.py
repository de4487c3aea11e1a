"""Identities: of images, their contents, predictions, runs and lessons. Each is made by one rule, here."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from boxdrop.domain.errors import RunError

RUN_ID: Final = r"\d{8}T\d{6}Z-[0-9a-f]{8}"
"""The pattern of a run's id, as a regular expression."""

LESSON_DIGITS: Final = 16
"""Hexadecimal digits of a lesson's id: the first ones of the sha256 of its document."""

_RUN_ID = re.compile(RUN_ID)
_LESSON_ID = re.compile(rf"[0-9a-f]{{{LESSON_DIGITS}}}")
_RUN_TIME: Final = "%Y%m%dT%H%M%SZ"


def image_id(bucket: str, key: str) -> str:
    """Permanent identity of an image: a hash of its bucket and key ('' is the bucket of local files)."""
    return _hash(bucket, key)


def prediction_id(image_id: str, version: str, model_version: str) -> str:
    """Identity of a prediction: the same image content and model_version give the same one."""
    return _hash(image_id, version, model_version)


def fraction_of(text: str) -> float:
    """A number from 0 to 1 that a hash draws: the same text gives the same number, on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def object_version(version_id: str | None, etag: str | None, size: int | None) -> str | None:
    """Identify the content of an object: by version-id, or by etag and size if versioning is off.

    Listings, responses and events of one object give the same text. S3 reports ``null`` for objects written
    before versioning was turned on.
    """
    if version_id and version_id != "null":
        return version_id
    if etag and size is not None:
        return f"{etag.strip(chr(34))}-{size}"
    return None


@dataclass(frozen=True, slots=True)
class ObjectContent:
    """The parts of an `object_version`: either `version_id`, or `etag` and `size` in bytes."""

    version_id: str | None = None
    etag: str | None = None
    size: int | None = None


# An MD5 or something that looks like one, the number of parts where it was uploaded in several, and the size.
# S3's version-ids are not hexadecimal; those of emulators are UUIDs, whose first dash comes earlier.
_ETAG_AND_SIZE = re.compile(r"([0-9a-f]{32}(?:-\d+)?)-(\d+)")


def content_of(version: str) -> ObjectContent:
    """The inverse of `object_version`: how to request exactly this content from S3."""
    found = _ETAG_AND_SIZE.fullmatch(version)
    return ObjectContent(etag=found[1], size=int(found[2])) if found else ObjectContent(version_id=version)


def new_run_id(now: datetime | None = None) -> str:
    """``YYYYMMDDTHHMMSSZ-<8 hexadecimal digits>``: text order is time order."""
    return f"{earliest_run_id(now or datetime.now(UTC))}-{secrets.token_hex(4)}"


def earliest_run_id(moment: datetime) -> str:
    """A lower bound for the ids of all runs made at this moment or later."""
    return moment.astimezone(UTC).strftime(_RUN_TIME)


def time_of_run(run_id: str) -> datetime:
    """When a run was made, to the second.

    Raises:
        RunError: this is not a run's id.
    """
    return datetime.strptime(check_run_id(run_id).partition("-")[0], _RUN_TIME).replace(tzinfo=UTC)


def is_run_id(text: str) -> bool:
    """Whether a text is a run's id."""
    return _RUN_ID.fullmatch(text) is not None


def check_run_id(run_id: str) -> str:
    """Validate a run's id: it comes from outside, and becomes part of keys.

    Raises:
        RunError: it is not a run's id.
    """
    if not is_run_id(run_id):
        raise RunError(f"{run_id!r} is not a run id; one looks like 20261124T215700Z-0123abcd")
    return run_id


def region_id(prediction: str, index: int) -> str:
    """Identity of a predicted box in Label Studio.

    The same prediction gives the same ids whenever it is published, so annotations can be matched with it.

    Args:
        prediction: of `prediction_id`.
        index: the box's place in the prediction.
    """
    return hashlib.sha256(f"{prediction}/{index}".encode()).hexdigest()[:12]


def lesson_id(document: bytes) -> str:
    """Identity of a lesson: a hash of its document."""
    return hashlib.sha256(document).hexdigest()[:LESSON_DIGITS]


def is_lesson_id(text: str) -> bool:
    """Whether a text is a lesson's id."""
    return _LESSON_ID.fullmatch(text) is not None


def _hash(*parts: str) -> str:
    joined = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(joined).hexdigest()[:32]
