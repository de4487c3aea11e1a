"""labels: a project's labels.yaml is kept, comes into force, and reaches every image.

Three steps, each of which may be repeated or die anywhere:

1. `store_labels` reads ``labels.yaml`` as it is now, keeps a snapshot, and records which is the newest. A
   file with a mistake is recorded as one; what was before it stays.
2. `apply_labels` brings the newest into force: at once if it is the project's first, else once it has been
   left alone for a while. Labels that need the detector again raise the generation; if that concerns very
   many images, somebody has to say yes.
3. `spread_labels` wants every image again that older labels made, or (where only thresholds, colours or the
   caption changed) sends for the stored predictions to be published anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError, BundleError, LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import check_fits
from boxdrop.ledger import Ledger, Outcome, Project, State
from boxdrop.services import Services
from boxdrop.store.bundles import BundleRef, resolve
from boxdrop.store.labelsets import read_label_set, write_label_set
from boxdrop.store.layout import PartName, predictions_prefix
from boxdrop.store.lessons import read_lesson
from boxdrop.store.manifests import read_header
from boxdrop.store.parts import list_parts

FILE: Final = "labels.yaml"

SETTLED: Final = timedelta(seconds=10)
"""How long the ledger's index may be behind: what it did not show before is looked for once more after it."""

_MAX_BYTES: Final = 1 << 20
_SWEPT_AT_ONCE: Final = 2_000
_SWEPT_IN_A_CALL: Final = 20_000  # DynamoDB takes about a thousand a second from one sweep
_ROUNDS: Final = 20


class Stored(StrEnum):
    """What became of a ``labels.yaml``."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    REFUSED = "refused"  # it has a mistake, which the project's row tells
    MISSING = "missing"  # there is none (any more): the labels in force stay


class Applied(StrEnum):
    """What became of the newest label set."""

    NOTHING = "nothing"  # the project has no labels
    IN_FORCE = "in force"  # before this call, too
    APPLIED = "applied"  # by this call
    EARLY = "early"  # it may change again in a moment; ask again
    HELD = "held"  # it concerns so many images that somebody has to say yes
    REFUSED = "refused"  # it does not fit its detector, or that is not there


@dataclass(frozen=True, slots=True)
class Change:
    """What a project's newest label set would do.

    Attributes:
        label_set: the newest.
        bundle: the detector that it asks for.
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
    """Read a project's ``labels.yaml`` as it is now, and record that it is the newest.

    Args:
        sequencer: of the event that tells of it; what is read may be newer still.

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
        raise LabelSetError(f"{where}: {len(body)} bytes are far too many for a label set")
    try:
        return LabelSet.from_yaml(body.decode("utf-8-sig"), where)
    except UnicodeDecodeError:
        raise LabelSetError(f"{where}: this is not UTF-8 text; save it as UTF-8") from None


def look_at_change(services: Services, project: Project, *, recount: bool = False) -> Change | None:
    """What the newest label set of a project would do; None if the project has none.

    Args:
        recount: count the images also if that was done before for the same change.

    Raises:
        LabelSetError, BundleError: it cannot be used: a sentence for people.
        BoxdropError: something could not be read; try again.
    """
    if project.stored_labels is None:
        return None
    label_set = read_label_set(services.data, project.stored_labels)
    return change_by(services, project, label_set, recount=recount)


def change_by(services: Services, project: Project, label_set: LabelSet, *, recount: bool = False) -> Change:
    """What a label set would do to a project, stored there or not; see `look_at_change`."""
    bundle = resolve(services.data, label_set.detector)
    for label in label_set:
        if label.threshold is not None and label.threshold < bundle.floor:
            raise LabelSetError(
                f"label {label.name!r}: threshold {label.threshold:g} is below {bundle.floor:g}, the floor "
                f"of detector {bundle.name}, under which it keeps nothing; raise the threshold to "
                f"{bundle.floor:g} or more"
            )
    if label_set.lesson is not None:
        lesson = read_lesson(services.data, label_set.lesson)
        check_fits(lesson, label_set.lesson, bundle.name, bundle.digest)
    detection = label_set.digest(bundle.digest)
    is_first = project.labels is None
    detects_again = not is_first and detection != project.detection
    images = project.held_images if detects_again and project.held == detection else 0
    if detects_again and (recount or not images):
        counts = services.ledger.count_images(project.name, (State.RUNNING, State.TASKED, State.FAILED))
        images = sum(counts.values())
    return Change(label_set, bundle, detection, is_first, detects_again, images)


def apply_labels(services: Services, name: str, *, limit: int | None, quiet_s: float = 0) -> Applied:
    """Bring a project's newest label set into force, if it is time. `spread_labels` comes after.

    Args:
        limit: images that it may run again without being asked; None: as many as there are.
        quiet_s: how long ``labels.yaml`` must have been left alone, so that three changes in a minute run the
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
            # Half: clocks differ, and whoever changed it last has asked, too.
            if quiet_s and quiet < quiet_s / 2:
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
        if result.outcome == Outcome.SUPERSEDED:  # a newer one was stored meanwhile
            continue
        return Applied.APPLIED if result.outcome == Outcome.APPLIED else Applied.IN_FORCE
    raise BoxdropError(f"the labels of {name} change faster than they can be read; try again")


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the labels in force have come.

    Attributes:
        wanted: images that this call wanted again.
        parts: stored parts that it sent for.
        again_s: look again after so many seconds; None: they are everywhere.
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
    """Let the labels in force reach images and stored predictions, as far as a call goes.

    The ledger's index lags a second, so what waited when the labels came is looked for twice.

    Args:
        limit: images to look at.
        on_progress: told how many are wanted so far.
    """
    ledger = services.ledger
    project = ledger.project(name)
    if project is None or project.labels is None:
        return Spread()
    wanted = 0
    again_s: float | None = None
    if project.swept < project.generation:
        began = services.clock()
        wanted += _adopt(ledger, project)
        found = at_once = min(limit, _SWEPT_AT_ONCE)
        while found == at_once and wanted < limit:
            found = ledger.want_older(name, project.generation, at_once)
            wanted += found
            if on_progress:
                on_progress(wanted)
        if wanted >= limit:
            return Spread(wanted, again_s=0)
        if found or (project.applied_at is not None and began - project.applied_at < SETTLED):
            again_s = SETTLED.total_seconds()
        else:
            ledger.record_swept(name, project.generation)
    parts = 0
    if project.republished != project.labels:
        data = services.data
        fitting = stored_parts(data, name, project.model_version)
        parts = services.parts.send_all(part_event(data.name, part.key) for part in fitting)
        ledger.record_republished(name, project.labels)
    return Spread(wanted, parts, again_s)


def _adopt(ledger: Ledger, project: Project) -> int:
    """Images of a folder may have come before its labels: then they wait in a project further up."""
    adopted = 0
    names = list(ancestors(project.name))
    for name, parent in ledger.projects_named(names).items():
        if parent.labels is None:
            adopted += ledger.adopt_waiting(name, project.name, project.generation)
    return adopted


def ancestors(project: str) -> Iterator[str]:
    """The folders that a project's folder is in, deepest first."""
    while "/" in project:
        project = project.rpartition("/")[0]
        yield project


def stored_parts(data: Bucket, project: str, model_version: str | None) -> Iterator[PartName]:
    """The parts of a project whose predictions this detector with these prompts would make again."""
    for run_id in data.list_folders(predictions_prefix(project)):
        parts = list_parts(data, project, run_id)
        first = next(parts, None)
        if first is None:  # a folder of a project inside this one
            continue
        if read_header(data, run_id).model_version == model_version:
            yield first
            yield from parts


def part_event(bucket: str, key: str) -> dict[str, Any]:
    """What S3 would say of an object, for sending for it once more."""
    return {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": bucket}, "object": {"key": key}, "reason": "boxdrop"},
    }
