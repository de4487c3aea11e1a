"""labels: store a project's labels.yaml, put it into force, and apply it to every image.

Three steps, each of which may crash anywhere and be repeated:

1. `store_labels` reads the current ``labels.yaml``, stores a snapshot, and records which one is the newest.
   For an invalid file it records the mistake; the previous labels stay.
2. `apply_labels` puts the newest one into force: at once if it is the project's first, else after it has not
   changed for a while. Labels that need the detector again raise the generation; if that concerns very many
   images, the user has to approve it.
3. `spread_labels` marks every image with older labels as wanted or, if only thresholds, colours or the
   caption changed, publishes the stored predictions again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from boxdrop.aws.s3 import Bucket
from boxdrop.detect.allotment import allot
from boxdrop.detect.settings import Defaults, thresholds_of
from boxdrop.domain.errors import BoxdropError, BundleError, LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import check_fits
from boxdrop.ledger import Ledger, Outcome, Project, State
from boxdrop.services import Services
from boxdrop.store.bundles import BundleRef, resolve
from boxdrop.store.labelsets import read_label_set, write_label_set
from boxdrop.store.layout import PartName
from boxdrop.store.lessons import read_lesson
from boxdrop.store.manifests import read_header
from boxdrop.store.parts import list_parts, list_runs_with_parts

FILE: Final = "labels.yaml"

SETTLED: Final = timedelta(seconds=10)
"""How long the ledger's index may lag: after this time, it is read once more for images that it did not
show."""

_MAX_BYTES: Final = 1 << 20
_SWEPT_AT_ONCE: Final = 2_000
_SWEPT_IN_A_CALL: Final = 20_000  # DynamoDB accepts about a thousand per second from one sweep
_ROUNDS: Final = 20


class Stored(StrEnum):
    """The outcome of reading a ``labels.yaml``."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    REFUSED = "refused"  # it has a mistake, recorded in the project's row
    MISSING = "missing"  # there is none, or it was deleted: the labels in force stay


class Applied(StrEnum):
    """The outcome of applying the newest label set."""

    NOTHING = "nothing"  # the project has no labels
    IN_FORCE = "in force"  # already before this call
    APPLIED = "applied"  # by this call
    EARLY = "early"  # it changed a moment ago and may change again; try later
    HELD = "held"  # it would run so many images again that the user has to approve it
    REFUSED = "refused"  # it does not fit its detector, or the detector is missing


@dataclass(frozen=True, slots=True)
class Change:
    """What a project's newest label set would do.

    Attributes:
        label_set: the newest.
        bundle: the detector that it selects.
        detection: its detection digest with that detector.
        is_first: whether the project has no labels yet.
        detects_again: whether images have to run again.
        images: how many; 0 unless `detects_again`.
    """

    label_set: LabelSet
    bundle: BundleRef
    detection: str
    is_first: bool
    detects_again: bool
    images: int


def labels_key(project: str) -> str:
    """Where a project's ``labels.yaml`` is in the image bucket."""
    return f"{project}/{FILE}"


def store_labels(services: Services, project: str, sequencer: str = "") -> Stored:
    """Read a project's current ``labels.yaml``, and record it as the newest.

    Args:
        sequencer: of the event about it; the file may be newer than the event.

    Raises:
        BoxdropError: repeat it, which is safe.
    """
    images = services.images
    key = labels_key(project)
    seen: Project | None = None
    for _ in range(_ROUNDS):
        found = images.get(key)
        if found is None:
            return Stored.MISSING
        digest, error = None, None
        try:
            digest = write_label_set(services.data, _parse(found.body, f"s3://{images.name}/{key}"))
        except LabelSetError as mistake:
            error = str(mistake)
        result = services.ledger.store_labels(project, images.name, digest, sequencer, seen, error)
        if result.outcome == Outcome.UNORDERED or (seen and result.outcome == Outcome.SUPERSEDED):
            seen = result.row  # now that the row is known, read the file again
        elif error is not None:
            return Stored.REFUSED
        else:
            return Stored.STORED if result.outcome == Outcome.APPLIED else Stored.UNCHANGED
    raise BoxdropError(f"s3://{images.name}/{key} changes faster than it can be read; try again")


def _parse(body: bytes, where: str) -> LabelSet:
    if len(body) > _MAX_BYTES:
        raise LabelSetError(f"{where}: {len(body)} bytes are too many for a label set")
    try:
        return LabelSet.from_yaml(body.decode("utf-8-sig"), where)
    except UnicodeDecodeError:
        raise LabelSetError(f"{where}: this is not UTF-8 text; save it as UTF-8") from None


def look_at_change(services: Services, project: Project, *, recount: bool = False) -> Change | None:
    """The effect of a project's newest label set; None if the project has none.

    Args:
        recount: count the images even if they were counted before for the same change.

    Raises:
        LabelSetError, BundleError: it cannot be used; the message says why.
        BoxdropError: something could not be read; try again.
    """
    if project.stored_labels is None:
        return None
    label_set = read_label_set(services.data, project.stored_labels)
    return change_by(services, project, label_set, recount=recount)


def change_by(services: Services, project: Project, label_set: LabelSet, *, recount: bool = False) -> Change:
    """The effect of a label set on a project, whether stored there or not; see `look_at_change`."""
    bundle = resolve(services.data, label_set.detector)
    check_detector(bundle, label_set)
    if label_set.lesson is not None:
        lesson = read_lesson(services.data, label_set.lesson)
        check_fits(lesson, label_set.lesson, bundle.name, bundle.digest)
    detection = label_set.digest(bundle.digest)
    is_first = project.labels is None
    detects_again = not is_first and detection != project.detection
    images = project.held_images if detects_again and project.held == detection else 0
    if detects_again and project.from_now != detection and (recount or not images):
        counts = services.ledger.count_images(project.name, (State.RUNNING, State.TASKED, State.FAILED))
        images = sum(counts.values())
    return Change(label_set, bundle, detection, is_first, detects_again, images)


def check_detector(bundle: BundleRef, label_set: LabelSet) -> None:
    """Check that a detector can find what a label set asks for.

    Raises:
        LabelSetError: it does not know a label, or a threshold is below its floor.
    """
    allot(label_set, [(each.name, each.classes) for each in bundle.singles])
    thresholds_of(label_set, Defaults(bundle.threshold, bundle.floor), bundle.name)


def apply_labels(services: Services, name: str, *, limit: int | None, quiet_s: float = 0) -> Applied:
    """Put a project's newest label set into force, once it has been left alone. Call `spread_labels` next.

    Args:
        limit: images that it may run again without approval; None: any number.
        quiet_s: how long ``labels.yaml`` must have been unchanged, so that three changes in a minute run the
            images once. The first label set does not wait.

    Raises:
        BoxdropError: repeat it, which is safe.
    """
    ledger = services.ledger
    for _ in range(_ROUNDS):
        project = ledger.project(name)
        if project is None or project.stored_labels is None:
            return Applied.NOTHING
        is_new = project.labels != project.stored_labels
        if is_new and project.labels is not None and project.labels_at is not None:
            quiet = (services.clock() - project.labels_at).total_seconds()
            # Half: clocks differ, and the last change requested a launch of its own.
            if quiet_s and -quiet_s <= quiet < quiet_s / 2:  # a time further ahead comes from a wrong clock
                return Applied.EARLY
        stored = project.stored_labels
        try:
            change = look_at_change(services, project)
        except (LabelSetError, BundleError) as error:
            refused = ledger.refuse_labels(name, stored, str(error))
            if refused.outcome == Outcome.SUPERSEDED:
                continue
            return Applied.REFUSED
        assert change is not None
        if limit is not None and change.images > limit:
            held = ledger.hold_labels(name, stored, change.detection, change.images)
            if held.outcome == Outcome.SUPERSEDED:
                continue
            return Applied.HELD
        bundle = change.bundle.name, change.bundle.digest, change.bundle.threshold
        result = ledger.apply_labels(name, stored, change.detection, bundle)
        if result.outcome == Outcome.SUPERSEDED:  # a newer one was stored in the meantime
            continue
        return Applied.APPLIED if result.outcome == Outcome.APPLIED else Applied.IN_FORCE
    raise BoxdropError(f"the labels of {name} change faster than they can be read; try again")


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the labels in force have spread.

    Attributes:
        wanted: images that this call marked as wanted.
        parts: stored parts that it sent to publish.
        again_s: call again after this many seconds; None: done.
    """

    wanted: int = 0
    parts: int = 0
    again_s: float | None = None


def spread_labels(
    services: Services,
    name: str,
    *,
    limit: int = _SWEPT_IN_A_CALL,
    on_progress: Callable[[int], None] | None = None,
) -> Spread:
    """Apply the labels in force to images and stored predictions, as far as one call can.

    The ledger's index lags by a second, so images that waited when the labels came into force are looked up
    twice.

    Args:
        limit: images to check.
        on_progress: called with the number of wanted images so far.
    """
    ledger = services.ledger
    project = ledger.project(name)
    if project is None or project.labels is None:
        return Spread()
    wanted = 0
    again_s: float | None = None
    if project.swept < project.oldest_generation:
        began = services.clock()
        wanted += _adopt(ledger, project)
        found = at_once = min(limit, _SWEPT_AT_ONCE)
        while found == at_once and wanted < limit:
            found = ledger.want_older(name, project.oldest_generation, at_once)
            wanted += found
            if on_progress:
                on_progress(wanted)
        if wanted >= limit:
            return Spread(wanted, again_s=0)
        if found or (project.applied_at is not None and began - project.applied_at < SETTLED):
            again_s = SETTLED.total_seconds()
        else:
            ledger.record_swept(name, project.oldest_generation)
    parts = 0
    if project.republished != project.labels:
        data = services.data
        fitting = stored_parts(data, project, kept=True)
        parts = services.parts.send_all(part_event(data.name, part.key) for part in fitting)
        ledger.record_republished(name, project.labels)
    return Spread(wanted, parts, again_s)


def _adopt(ledger: Ledger, project: Project) -> int:
    """Images may have been uploaded before their folder's labels: then they wait in a project further up."""
    adopted = 0
    names = list(ancestors(project.name))
    for name, parent in ledger.projects_named(names).items():
        if parent.labels is None:
            adopted += ledger.adopt_waiting(name, project.name, project.generation)
    return adopted


def ancestors(project: str) -> Iterator[str]:
    """The parent folders of a project's folder, deepest first."""
    while "/" in project:
        project = project.rpartition("/")[0]
        yield project


def stored_parts(data: Bucket, project: Project, *, kept: bool = False) -> Iterator[PartName]:
    """The parts of a project that were made by the detector and prompts in force.

    Args:
        kept: also those of images that stay as an earlier detector or lesson left them.
    """
    for run_id in list_runs_with_parts(data, project.name):
        parts = list_parts(data, project.name, run_id)
        first = next(parts, None)
        if first is None:  # in the earlier form, the folder of a nested project that is named like a run
            continue
        header = read_header(data, run_id)
        is_kept = kept and header.generation >= project.oldest_generation
        if is_kept or header.model_version == project.model_version:
            yield first
            yield from parts


def part_event(bucket: str, key: str) -> dict[str, Any]:
    """An object as an S3 event would report it, to publish it again."""
    return {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": bucket}, "object": {"key": key}, "reason": "boxdrop"},
    }
