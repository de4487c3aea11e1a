"""Placing orders: exactly one job at a time for each, and never more machine time than was said."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal

from boxdrop.account.budget import LEAST_S, span
from boxdrop.aws.batch import BatchError, BatchJobs, SeenJob
from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError
from boxdrop.store.orders import (
    Kind,
    Meter,
    Order,
    OrderError,
    job_name,
    read_meter,
    read_order,
    write_order,
)
from boxdrop.system import LOCAL, System

_SUBMITTING: Final = timedelta(seconds=90)
"""After this, a caller that was about to submit a job counts as dead."""

_TRIES: Final = 5

State = Literal["submitting", "queued", "starting", "running", "succeeded", "failed", "cancelled"]
_ALIVE: Final = ("submitting", "queued", "starting", "running")


@dataclass(frozen=True, slots=True)
class Offer:
    """Where a system does one kind of long work.

    Attributes:
        queue, definition: of Batch.
        machines: their types, for people.
        usd_per_hour: highest price of one.
        most_hours: that one order may take.
    """

    queue: str
    definition: str
    machines: str
    usd_per_hour: float
    most_hours: float


@dataclass(frozen=True, slots=True)
class WorkStanding:
    """How an order stands.

    Attributes:
        state: the first four are those of an order that is worked on, or will be.
        reason: why it waits or failed; empty if nobody says.
        used_s: machine time so far, seconds.
    """

    order: Order
    state: State
    reason: str = ""
    used_s: float = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether it is worked on, or will be."""
        return self.state in _ALIVE


def offer_of(system: System, kind: Kind) -> Offer:
    """Where a system does a kind of long work.

    Raises:
        BoxdropError: it does not, with the way out.
    """
    if system.name == LOCAL:
        raise BoxdropError(
            "the local system is this machine: leave out --in-account, or name a system in AWS with --system"
        )
    found: Mapping[str, Any] | None = system.jobs.get(kind)
    if found is None and kind == "teach" and system.launcher == "batch":
        raise BoxdropError(
            f"the system {system.name} was deployed by an earlier boxdrop, which cannot teach in the "
            f"account; deploy again: npx cdk deploy --all -c env={system.name}, or leave out --in-account"
        )
    if found is None and kind == "teach":
        raise BoxdropError(
            f"the system {system.name} runs its detector on SageMaker, which does not teach: leave out "
            '--in-account to teach on this machine, or add "long_jobs": {} to its settings in cdk.json and '
            f"deploy again: npx cdk deploy --all -c env={system.name} (docs/deploy.md#long-work)"
        )
    if found is None:
        raise BoxdropError(
            f'the system {system.name} has no machines for this; add "long_jobs": {{}} to its settings in '
            f"cdk.json and deploy again: npx cdk deploy --all -c env={system.name} (docs/deploy.md#long-work)"
        )
    return Offer(**{name: found[name] for name in Offer.__slots__})


class Orders:
    """Places and cancels orders of one kind, and says how they stand.

    Args:
        data: the data bucket.
        offer: where they are worked on.
        clock: the time.
        jobs: AWS Batch.
    """

    def __init__(
        self, data: Bucket, offer: Offer, clock: Callable[[], datetime], jobs: BatchJobs | None = None
    ) -> None:
        self._data, self._offer, self._clock = data, offer, clock
        self._jobs = jobs or BatchJobs()

    def place(self, wanted: Order) -> tuple[WorkStanding, bool]:
        """Submit a job for an order, unless one works on it already.

        An order that ended without success is placed again, with the machine time that is left of
        `limit_s`. A training that succeeded is over; other work is done again, with new machine time.

        Returns:
            How it stands, and whether this call submitted a job.

        Raises:
            OrderError: the order that is there has other arguments, or no machine time is left.
            BatchError: Batch refused the job, or cannot be reached; the same call tries again.
        """
        for _ in range(_TRIES):
            read = read_order(self._data, wanted.project, wanted.id)
            if read is None:
                order, etag = replace(wanted, placed_at=self._clock()), None
            else:
                there, etag = read
                standing = self.look(there)
                if standing.is_alive:
                    _check_same(there, wanted)
                    if not self._is_abandoned(standing):
                        return standing, False
                    order = replace(there, placed_at=self._clock())  # its caller died: the same job again
                elif standing.state == "succeeded" and wanted.kind == "train":
                    _check_same(there, wanted)
                    return standing, False
                else:
                    order = self._next(standing, wanted)
            if write_order(self._data, order, etag):
                return WorkStanding(self._submit(order), "queued", used_s=self._used(order)), True
        raise OrderError(f"{wanted.id}: other callers place the same order; try again")

    def cancel(self, project: str, number: str) -> WorkStanding:
        """End the job of an order; what it has stored stays.

        Raises:
            OrderError: there is no such order, or nothing works on it.
            BatchError: Batch refused it, or cannot be reached.
        """
        for _ in range(_TRIES):
            read = read_order(self._data, project, number)
            if read is None:
                raise OrderError("nothing like this was started in the account")
            order, etag = read
            standing = self.look(order)
            if not standing.is_alive:
                raise OrderError(f"{sentence_of(standing)}: there is nothing to cancel")
            if write_order(self._data, replace(order, cancelled=True), etag):
                if (job_id := self._job_of(order)) is not None:
                    self._jobs.end(job_id, "cancelled with boxdrop")
                return replace(standing, order=replace(order, cancelled=True), state="cancelled")
        raise OrderError(f"{number}: other callers change this order; try again")

    def look(self, order: Order) -> WorkStanding:
        """How an order stands, by Batch and by its meter.

        Raises:
            BatchError: Batch did not answer.
        """
        job_id = self._job_of(order)
        seen = None if job_id is None else self._jobs.look([job_id]).get(job_id)
        read = read_meter(self._data, order)
        return _standing(order, job_id, seen, None if read is None else read[0])

    def _next(self, standing: WorkStanding, wanted: Order) -> Order:
        """The order of the next job, where the one before has ended."""
        again = standing.state == "succeeded" or wanted.occasion != standing.order.occasion
        limit_s = wanted.limit_s + (round(standing.used_s) if again else 0)
        if standing.order.kind == "train":
            _check_same(standing.order, wanted)
        if limit_s - standing.used_s < LEAST_S:
            raise OrderError(
                f"{wanted.subject} has used {span(standing.used_s)} of machine time, so less than "
                f"{LEAST_S // 60} min of {span(limit_s)} are left; allow more in all with --at-most"
            )
        return replace(wanted, placed_at=self._clock(), limit_s=limit_s, round=standing.order.round + 1)

    def _submit(self, order: Order) -> Order:
        """Submit the job of an order that was just written, and note its id."""
        try:
            job_id = self._jobs.submit(
                job_name(order),
                self._offer.queue,
                self._offer.definition,
                ["--order", order.id, "--project", order.project],
                round(order.limit_s - self._used(order)),
                tags={"boxdrop:order": order.id},
            )
        except BatchError as error:
            self._note(replace(order, cancelled=True), order)
            if "not found" in str(error) or "does not exist" in str(error):
                raise BatchError(f"{error}; deploy the system again: npx cdk deploy --all") from None
            raise
        submitted = replace(order, job_id=job_id)
        self._note(submitted, order)
        return submitted

    def _note(self, changed: Order, order: Order) -> None:
        """Write what became of an order, unless another caller has changed it meanwhile."""
        read = read_order(self._data, order.project, order.id)
        if read is not None and read[0] == order:
            write_order(self._data, changed, read[1])

    def _job_of(self, order: Order) -> str | None:
        if order.job_id is not None:
            return order.job_id
        return next(iter(self._jobs.find(self._offer.queue, job_name(order))), None)

    def _is_abandoned(self, standing: WorkStanding) -> bool:
        submitting = standing.state == "submitting"
        return submitting and self._clock() - standing.order.placed_at > _SUBMITTING

    def _used(self, order: Order) -> float:
        read = read_meter(self._data, order)
        return 0.0 if read is None else read[0].used_s


def _check_same(there: Order, wanted: Order) -> None:
    """Refuse to take an order with other arguments for the one that was wanted; teaching has none."""
    if there.arguments == wanted.arguments or there.kind == "teach":
        return
    known = _pairs(there.arguments)
    other = [name for name, value in _pairs(wanted.arguments) if (name, value) not in known]
    raise OrderError(
        f"{there.subject} is {'trained' if there.kind == 'train' else 'exported'} in the account with other "
        f"options ({', '.join(other) or 'fewer of them'}): give the same, or "
        f"{'another --name' if there.kind == 'train' else 'wait until that is done, or use --cancel'}"
    )


def _pairs(arguments: tuple[str, ...]) -> list[tuple[str, str]]:
    """Options, each with the argument after it."""
    return [each for each in pairwise((*arguments, "")) if each[0].startswith("--")]


def _standing(order: Order, job_id: str | None, seen: SeenJob | None, meter: Meter | None) -> WorkStanding:
    used = 0.0 if meter is None else meter.used_s
    own = meter if meter is not None and meter.job_id == job_id else None
    why = own.why if own is not None else ""
    if seen is not None and seen.is_alive:
        state: State = "cancelled" if order.cancelled else seen.stage
        return WorkStanding(order, state, "" if seen.stage == "running" else seen.reason, used)
    if order.cancelled:
        return WorkStanding(order, "cancelled", "", used)
    if seen is None and job_id is None:
        return WorkStanding(order, "submitting", "", used)
    if (seen is not None and seen.stage == "succeeded") or (own is not None and own.exit_code == 0):
        return WorkStanding(order, "succeeded", "", used)
    reason = why or (seen.reason if seen is not None else "AWS Batch no longer knows the job")
    return WorkStanding(order, "failed", reason, used)


_DONE: Final[Mapping[Kind, str]] = {"train": "training", "export": "exporting", "teach": "teaching"}


def sentence_of(standing: WorkStanding) -> str:
    """``training mine in the account: running, 1.2 h of at most 4 h used``."""
    order = standing.order
    said = f"{_DONE[order.kind]} {order.subject} in the account: {standing.state}"
    if standing.state in ("running", "failed", "cancelled") and standing.used_s:
        said += f", {span(standing.used_s)} of at most {span(order.limit_s)} used"
    return f"{said}: {standing.reason}" if standing.reason else said
