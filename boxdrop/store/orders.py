"""Orders: long work that is to be done in the AWS account, and the meter of its machine time.

An order is written by who places it, its meter by the job that works on it. Both are replaced only by who has
read what is there (``If-Match``): so two callers start one job, and two jobs do not both work on one order.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from shlex import quote
from typing import Final, Literal, TypeVar

from boxdrop.aws.s3 import Bucket, Put
from boxdrop.documents import from_json, to_json
from boxdrop.domain.errors import BoxdropError
from boxdrop.store.layout import meter_key, order_key, orders_prefix

Kind = Literal["train", "export", "teach"]
T = TypeVar("T")

FORMAT: Final = "boxdrop-order/1"
OVER: Final = 3
"""Exit code of a job whose order has used its machine time: Batch does not try it again."""

JOB_NAME: Final = "boxdrop-"
"""What the names of orders' jobs begin with; the kind follows, then a dash."""

_SHOWN: Final = 60


class OrderError(BoxdropError):
    """An order that cannot be placed, read or worked on; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Order:
    """Long work, and the job of AWS Batch that does it.

    Attributes:
        id: see `order_id`.
        kind: which job definition does it.
        project: whose work it is; empty for an export.
        subject: the detector's name, or the project's for teaching.
        arguments: of the ``boxdrop`` command that the job runs.
        placed_at: when it was placed, or placed again.
        limit_s: machine time of all jobs and attempts together, at most, seconds.
        usd_per_hour: highest price of a machine.
        round: jobs that were submitted for it so far, the present one included.
        job_id: of the present job; None while it is being submitted.
        cancelled: whether it was cancelled since it was placed.
        occasion: of teaching: how many verified images made it due; 0 if a person asked.
    """

    id: str
    kind: Kind
    project: str
    subject: str
    arguments: tuple[str, ...]
    placed_at: datetime
    limit_s: int
    usd_per_hour: float
    round: int = 1
    job_id: str | None = None
    cancelled: bool = False
    occasion: int = 0


@dataclass(frozen=True, slots=True)
class Meter:
    """How much machine time an order has used.

    Attributes:
        job_id: Batch's job that wrote it.
        at: when it was written.
        used_s: machine time of all attempts so far, with their starts, seconds.
        attempts: that have begun.
        exit_code: of the last attempt; None while it works, or if it was killed.
        why: what the last attempt said as it failed; empty otherwise.
    """

    job_id: str
    at: datetime
    used_s: float
    attempts: int = 1
    exit_code: int | None = None
    why: str = ""


def order_id(kind: Kind, project: str, subject: str) -> str:
    """The same for the same work: at most one job does it at a time. Made of letters, digits and dashes."""
    digest = hashlib.sha256("\0".join((kind, project, subject)).encode("utf-8", "surrogateescape"))
    shown = re.sub(r"[^A-Za-z0-9]+", "-", f"{project}-{subject}" if kind == "train" else subject)
    return f"{kind}-{shown.strip('-')[:_SHOWN]}-{digest.hexdigest()[:12]}"


def job_name(order: Order) -> str:
    """Name of an order's present job, the same for every submission of it."""
    return f"{JOB_NAME}{order.id}-{order.round}"


def command_of(order: Order) -> str:
    """The command that the job runs, as a shell would be given it."""
    return " ".join(map(quote, ("boxdrop", *order.arguments)))


def read_order(data: Bucket, project: str, number: str) -> tuple[Order, str] | None:
    """An order with its etag; None if there is none.

    Raises:
        OrderError: another version of boxdrop wrote it.
        BoxdropError: the bucket cannot be read.
    """
    return _read(data, order_key(project, number), Order, FORMAT)


def read_meter(data: Bucket, order: Order) -> tuple[Meter, str] | None:
    """An order's meter with its etag; None if no job has begun yet.

    Raises:
        BoxdropError: it cannot be read.
    """
    return _read(data, meter_key(order.project, order.id), Meter)


def write_order(data: Bucket, order: Order, etag: str | None) -> bool:
    """Store an order in place of the one with this etag, or as a new one; False if another caller was
    first."""
    body = to_json(order, format=FORMAT).encode()
    return _write(data, order_key(order.project, order.id), body, etag)


def write_meter(data: Bucket, order: Order, meter: Meter, etag: str | None) -> bool:
    """Store a meter in place of the one with this etag, or as the first; False if another job was first."""
    return _write(data, meter_key(order.project, order.id), to_json(meter).encode(), etag)


def list_orders(data: Bucket, project: str) -> tuple[Order, ...]:
    """A project's orders, the last one last, without those that another version of boxdrop wrote."""
    found = []
    for number in data.list_folders(orders_prefix(project)):
        try:
            read = read_order(data, project, number)
        except OrderError:
            continue
        if read is not None:
            found.append(read[0])
    return tuple(sorted(found, key=lambda each: each.placed_at))


def _read(data: Bucket, key: str, kind: type[T], format: str | None = None) -> tuple[T, str] | None:
    stored = data.get(key)
    if stored is None:
        return None
    where = f"s3://{data.name}/{key}"
    return from_json(kind, stored.body, format=format, where=where, error=OrderError), stored.etag


def _write(data: Bucket, key: str, body: bytes, etag: str | None) -> bool:
    put = data.create(key, body) if etag is None else data.replace(key, body, etag)
    return put == Put.STORED
