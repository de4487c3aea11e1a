"""An image's row and its transition rules. Pure: no clock, no network, no database.

A row holds facts. Each fact only moves forward, in its own order: what the object is (by sequencer), which
labels it is wanted for (by generation), what its task shows (by fencing token), and what an annotator decided
(by review time). The state follows from the facts, so events that arrive late, twice or out of order lead to
the same row.

Each rule takes the current row, or None, and returns a `Result`: an outcome for the caller, and the new row
(the same row if there is nothing to write). `boxdrop.ledger.table` applies a rule with one write, on
condition that the row has not changed since the rule saw it.

This file is long because the rules belong together: each depends on what the others leave in the row.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Generic, TypeVar

from boxdrop.domain.identity import prediction_id
from boxdrop.domain.times import time_text

R = TypeVar("R")
Key = tuple[str, str]

SHARDS: Final = "0123456789abcdef"
"""Images of one project and state are spread over 16 index partitions by the first hex digit of their id, a
hash. A partition accepts 1,000 writes per second, so a state accepts 16,000."""

SEQUENCER_WIDTH: Final = 32
"""S3's sequencers have 16 or 18 hexadecimal digits so far; AWS promises no length."""

TOMBSTONE_LIFE: Final = timedelta(days=90)
"""A deletion is remembered longer than any event about the image can be in flight: EventBridge retries for 24
hours, then a queue and its dead-letter queue keep a message for at most 14 days each."""

MAX_ATTEMPTS: Final = 5
_MESSAGE_LENGTH: Final = 250  # a row stays below 1 KB, which is one write unit


class State(StrEnum):
    """Where an image is.

    ``wanted`` and ``running`` are the design's *wanted*: without a live run, and with one.
    """

    WAITING = "waiting"  # its project has no labels yet
    WANTED = "wanted"
    RUNNING = "running"
    TASKED = "tasked"
    VERIFIED = "verified"
    FAILED = "failed"
    STALE = "stale"  # overwritten after a person verified it
    GONE = "gone"


class Outcome(StrEnum):
    """The outcome of a change. Losing a race is an outcome, not an exception."""

    APPLIED = "applied"
    ALREADY = "already"  # the row already said so
    SUPERSEDED = "superseded"  # something newer won
    UNORDERED = "unordered"  # the order is unknown: ask S3 for the object, then `Ledger.observe`
    UNKNOWN = "unknown"  # there is no such row


@dataclass(frozen=True, slots=True)
class Result(Generic[R]):
    """An outcome and the current row."""

    outcome: Outcome
    row: R | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """What an event or a listing reports about an image.

    Attributes:
        image_id: hexadecimal, see `boxdrop.domain.identity.image_id`.
        version: identifies the content: S3's version-id, or etag and size. None: deleted.
        sequencer: the event's, unchanged; empty if there is none, as in listings.
    """

    image_id: str
    project: str
    bucket: str
    key: str
    version: str | None
    sequencer: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """What a task in Label Studio now shows.

    Attributes:
        version, generation: the image version and the label generation of the prediction.
        fence: token of the lease under which it was published.
    """

    image_id: str
    version: str
    generation: int
    prediction_id: str
    task_id: int
    fence: int


@dataclass(frozen=True, slots=True)
class FailedImage:
    """Why a run has no prediction for an image.

    Attributes:
        reason: a short stable word, see `boxdrop.domain.errors.ImageError`.
        message: a sentence for people; kept to 250 characters.
    """

    image_id: str
    version: str
    generation: int
    run_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Image:
    """A row.

    Attributes:
        since: when it entered its state.
        wanted_at: when its boxes were first wanted: on an upload, a label change or a retry.
        sequencer: order of the last observation of the object, see `padded`.
        version: content of the object; None once it is deleted.
        generation: of the labels that it is wanted for, or was tasked under; 0 if the project has none.
        run_id: the run that has claimed it, or that tasked or failed it.
        attempts: how many runs have claimed this version.
        task_id: its one task in Label Studio; never changes.
        task_version, prediction_id: what the task shows.
        task_flag: the flag that the task shows: stale, gone, or none.
        fence: token of the lease under which the task was last published.
        reason, message: why it failed.
        boxes: model_version of boxes that were dropped with the image, see `boxdrop.store.boxes`.
        boxes_version: the content that those boxes are about.
        verified_version: the content that an annotator verified.
        reviewed_at: time of the newest review, by Label Studio's clock.
        skipped: the newest review is that an annotator skipped the task. Rows of earlier versions do not say
            so until `boxdrop sync`.
        expires_at: Unix time at which DynamoDB may remove the row.
        revision: how often it was written; the condition of every write.
    """

    image_id: str
    project: str
    bucket: str
    key: str
    state: State
    since: datetime
    sequencer: str
    version: str | None = None
    generation: int = 0
    wanted_at: datetime | None = None
    run_id: str | None = None
    attempts: int = 0
    task_id: int | None = None
    task_version: str | None = None
    prediction_id: str | None = None
    task_flag: State | None = None
    fence: int = 0
    reason: str | None = None
    message: str | None = None
    boxes: str | None = None
    boxes_version: str | None = None
    verified_version: str | None = None
    reviewed_at: datetime | None = None
    skipped: bool = False
    expires_at: int | None = None
    revision: int = 0

    @property
    def row_key(self) -> Key:
        """Where the row is in the table."""
        return image_key(self.image_id)

    @property
    def index_key(self) -> Key:
        """Where it is in the index. The sort key begins with what its state is asked for."""
        partition = f"image#{self.project}#{self.state}#{self.image_id[0]}"
        entered = f"{time_text(self.since)}#{self.image_id}"
        if self.state == State.RUNNING:
            return partition, f"{self.run_id}#{entered}"
        if self.state == State.TASKED and self.skipped:
            return partition, f"{skipped_mark(self.generation)}{entered}"
        if self.state in (State.TASKED, State.FAILED):
            return partition, f"{generation_mark(self.generation)}#{entered}"
        if self.state in (State.VERIFIED, State.STALE, State.GONE):
            return partition, f"{'due' if self.flag_is_due else 'told'}#{entered}"
        return partition, entered

    @property
    def own_boxes(self) -> str | None:
        """The model_version of boxes that were dropped with the present content; no detector looks for it."""
        return self.boxes if self.boxes_version == self.version else None

    @property
    def due_flag(self) -> State | None:
        """The flag that the task should show."""
        return self.state if self.state in (State.STALE, State.GONE) else None

    @property
    def flag_is_due(self) -> bool:
        """Whether the task's flag must be updated now. Other tasks get it with their next publication."""
        told = self.state in (State.VERIFIED, State.STALE, State.GONE)
        return told and self.task_id is not None and self.task_flag != self.due_flag


def image_key(image_id: str) -> Key:
    """Where an image's row is in the table."""
    return f"image#{image_id}", "image"


def image_partitions(project: str, state: State) -> list[str]:
    """The index partitions that hold a project's images in a state."""
    return [f"image#{project}#{state}#{shard}" for shard in SHARDS]


def generation_mark(generation: int) -> str:
    """A generation as fixed-width text, which sorts like the number."""
    return f"{generation:010}"


def skipped_mark(generation: int) -> str:
    """What the sort keys of skipped images begin with: behind those of the generation's other images."""
    return f"{generation_mark(generation)}#skipped#"


def padded(sequencer: str) -> str:
    """A sequencer padded so that, for one key, text order is time order.

    AWS: "right pad the shorter value with zeros, and then do a lexicographical comparison".
    """
    return sequencer.upper().ljust(SEQUENCER_WIDTH, "0") if sequencer else ""


def following(sequencer: str) -> str:
    """The order of an observation of the object: after the event that the row knew, before any later event.

    ``S`` → ``S.00000001`` → ``S.00000002``; ``.`` sorts before every digit.
    """
    event, _, looks = sequencer.partition(".")
    return f"{event}.{int(looks or 0) + 1:08}"


def sight(row: Image | None, sighting: Sighting, generation: int, now: datetime) -> Result[Image]:
    """An event or a listing reports an object; generation 0 means that its project has no labels yet.

    An image keeps the project in which it was first seen; for an image of another project, `generation` is
    ignored. A newer event about the same content (a copy onto itself) only moves the order. A sighting
    without an order (from a listing, or an S3-compatible store) creates rows but changes none.
    """
    sequencer = padded(sighting.sequencer)
    if row is None:
        blank = Image(
            image_id=sighting.image_id,
            project=sighting.project,
            bucket=sighting.bucket,
            key=sighting.key,
            state=State.GONE,
            since=now,
            sequencer="",
        )
        return _applied(_with_content(blank, sequencer, sighting.version, generation, now))
    if sighting.version == row.version:
        if sequencer <= row.sequencer:
            return Result(Outcome.ALREADY, row)
        return Result(Outcome.ALREADY, replace(row, sequencer=sequencer))
    if not sequencer or sequencer == row.sequencer.partition(".")[0]:
        return Result(Outcome.UNORDERED, row)
    if sequencer < row.sequencer:
        return Result(Outcome.SUPERSEDED, row)
    if sighting.project != row.project:
        generation = row.generation
    return _applied(_with_content(row, sequencer, sighting.version, generation, now))


def observe(
    row: Image | None, seen: Image, version: str | None, generation: int, now: datetime
) -> Result[Image]:
    """The caller read the row (`seen`), then asked S3: valid if the row has not changed since."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.version == version:
        return Result(Outcome.ALREADY, row)
    if row.sequencer != seen.sequencer:
        return Result(Outcome.SUPERSEDED, row)
    return _applied(_with_content(row, following(row.sequencer), version, generation, now))


def renew(row: Image | None, generation: int, now: datetime) -> Result[Image]:
    """The labels changed: an image that is not verified is wanted again."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.generation >= generation or row.state in (State.VERIFIED, State.STALE, State.GONE):
        return Result(Outcome.ALREADY, row)
    return _applied(_wanted(replace(row, generation=generation, attempts=0), now))


def bring_boxes(row: Image | None, boxes: str, version: str, now: datetime) -> Result[Image]:
    """Somebody dropped boxes with an image: it is wanted, to be shown with them. Verified work stays."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.boxes == boxes and row.boxes_version == version:
        return Result(Outcome.ALREADY, row)
    if row.version != version or row.verified_version is not None:
        return Result(Outcome.SUPERSEDED, row)
    return _applied(_wanted(replace(row, boxes=boxes, boxes_version=version, attempts=0), now))


def retry(row: Image | None, now: datetime) -> Result[Image]:
    """The user retries a failed image."""
    if row is None or row.state != State.FAILED:
        return Result(Outcome.UNKNOWN if row is None else Outcome.ALREADY, row)
    return _applied(_wanted(replace(row, attempts=0), now))


def adopt(row: Image | None, project: str, generation: int, now: datetime) -> Result[Image]:
    """The image's folder became a project of its own; the image moves there if it still waits for labels."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.state != State.WAITING or row.project == project:
        return Result(Outcome.ALREADY, row)
    return _applied(_wanted(replace(row, project=project, generation=generation), now))


def claim(row: Image | None, run_id: str, generation: int, now: datetime) -> Result[Image]:
    """A run claims a wanted image."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.state == State.RUNNING and row.run_id == run_id:
        return Result(Outcome.ALREADY, row)
    if row.state != State.WANTED or row.generation > generation:
        return Result(Outcome.SUPERSEDED, row)
    claimed = replace(row, run_id=run_id, generation=generation, attempts=row.attempts + 1)
    return _applied(_entering(State.RUNNING, claimed, now))


def release(
    row: Image | None,
    run_id: str,
    now: datetime,
    max_attempts: int = MAX_ATTEMPTS,
    blameless: bool = False,
) -> Result[Image]:
    """A dead run returns an image; after too many dead runs, the image is the suspect.

    A run that died before a job had the image (`blameless`) does not count.
    """
    if row is None or row.state != State.RUNNING or row.run_id != run_id:
        return Result(Outcome.UNKNOWN if row is None else Outcome.SUPERSEDED, row)
    if blameless:
        return _applied(_wanted(replace(row, attempts=max(0, row.attempts - 1)), now))
    if row.attempts >= max_attempts:
        message = f"{row.attempts} runs died while they had this image"
        return _applied(_entering(State.FAILED, replace(row, reason="run_died", message=message), now))
    return _applied(_wanted(row, now))


def publish(row: Image | None, publication: Publication, now: datetime) -> Result[Image]:
    """A task was published. Its id is kept, whatever happened to the image in the meantime."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if publication.fence < row.fence:
        return Result(Outcome.SUPERSEDED, row)
    published = replace(
        row,
        task_id=publication.task_id,
        task_version=publication.version,
        prediction_id=publication.prediction_id,
        task_flag=None,
        fence=publication.fence,
        expires_at=None,
    )
    is_older = publication.version != row.version or publication.generation < row.generation
    own = row.own_boxes
    if is_older or (own and publication.prediction_id != prediction_id(row.image_id, row.version or "", own)):
        return Result(Outcome.SUPERSEDED, published if row.task_id is None else row)
    published = replace(published, generation=publication.generation)
    if row.verified_version is None:
        published = replace(published, state=State.TASKED, reason=None, message=None)
    if replace(published, fence=row.fence) == row:
        return Result(Outcome.ALREADY, row)
    return _applied(published if published.state == row.state else replace(published, since=now))


def fail(row: Image | None, failure: FailedImage, now: datetime) -> Result[Image]:
    """A run could not predict an image. If the run no longer holds it (after a retry, say), the report is
    outdated."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if failure.version != row.version or row.run_id != failure.run_id or failure.generation < row.generation:
        return Result(Outcome.SUPERSEDED, row)
    if row.state != State.RUNNING:
        return Result(Outcome.ALREADY if row.state == State.FAILED else Outcome.SUPERSEDED, row)
    failed = replace(row, reason=failure.reason, message=failure.message[:_MESSAGE_LENGTH])
    return _applied(_entering(State.FAILED, failed, now))


def review(
    row: Image | None, version: str | None, reviewed_at: datetime, now: datetime, skipped: bool = False
) -> Result[Image]:
    """An annotator verified this content, or (None) withdrew that or skipped the task. The newest review
    counts, even if it arrives late.

    After a withdrawal, the image is tasked again if its task shows the current content; else it is wanted.
    """
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.reviewed_at is not None:
        known, told = (row.reviewed_at, row.verified_version or ""), (reviewed_at, version or "")
        if told == known and skipped != row.skipped:  # an earlier version did not record it
            return _applied(replace(row, skipped=skipped))
        if told <= known:
            return Result(Outcome.ALREADY if told == known else Outcome.SUPERSEDED, row)
    reviewed = replace(
        row, verified_version=version, reviewed_at=reviewed_at, skipped=skipped, expires_at=None
    )
    if version is not None:
        return _applied(_settled(reviewed, now))
    if row.state not in (State.VERIFIED, State.STALE):
        return _applied(reviewed)
    if row.task_version == row.version:
        return _applied(_entering(State.TASKED, reviewed, now))
    return _applied(_wanted(reviewed, now))


def flag(row: Image | None, told: State | None) -> Result[Image]:
    """The task now shows this flag."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    outcome = Outcome.SUPERSEDED if told != row.due_flag else Outcome.APPLIED
    if row.task_flag == told:
        return Result(Outcome.ALREADY, row)
    return Result(outcome, replace(row, task_flag=told))


def lose_task(row: Image | None, task_id: int, now: datetime) -> Result[Image]:
    """The task no longer exists in Label Studio, nor do its annotations."""
    if row is None:
        return Result(Outcome.UNKNOWN, None)
    if row.task_id != task_id:
        return Result(Outcome.ALREADY if row.task_id is None else Outcome.SUPERSEDED, row)
    lost = replace(
        row,
        task_id=None,
        task_version=None,
        prediction_id=None,
        task_flag=None,
        verified_version=None,
        skipped=False,
    )
    if row.state in (State.TASKED, State.VERIFIED, State.STALE):
        return _applied(_wanted(lost, now))
    return _applied(lost)


def _applied(row: Image) -> Result[Image]:
    return Result(Outcome.APPLIED, row)


def _with_content(row: Image, sequencer: str, version: str | None, generation: int, now: datetime) -> Image:
    """The object was replaced or deleted."""
    generation = max(row.generation, generation)
    seen = replace(
        row,
        sequencer=sequencer,
        version=version,
        generation=generation,
        wanted_at=now,
        attempts=0,
        expires_at=None,
    )
    if version is None and row.task_id is None and row.verified_version is None:
        seen = replace(seen, expires_at=int((now + TOMBSTONE_LIFE).timestamp()))
    return _settled(_wanted(seen, now), now)


def _settled(row: Image, now: datetime) -> Image:
    """The state that follows from the object and the review alone, if one does."""
    if row.version is None:
        return _entering(State.GONE, row, now)
    if row.verified_version is None:
        return row
    return _entering(State.VERIFIED if row.verified_version == row.version else State.STALE, row, now)


def _wanted(row: Image, now: datetime) -> Image:
    state = State.WANTED if row.generation else State.WAITING
    undone = row.state in (State.WAITING, State.WANTED, State.RUNNING, State.GONE)
    wanted_at = row.wanted_at if undone and row.wanted_at else now
    return _entering(state, replace(row, wanted_at=wanted_at, run_id=None, reason=None, message=None), now)


def _entering(state: State, row: Image, now: datetime) -> Image:
    return row if row.state == state else replace(row, state=state, since=now)
