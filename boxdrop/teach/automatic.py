"""Teaching without a person: ``teach: auto`` when the verified images have doubled, and as a job."""

from typing import TYPE_CHECKING, Final

from boxdrop.aws.s3 import Put
from boxdrop.domain.curve import Curve
from boxdrop.domain.errors import BoxdropError, LabelSetError, LessonError
from boxdrop.domain.label_edit import with_lesson
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson
from boxdrop.domain.teaching import Teaching, next_teaching
from boxdrop.ledger import State
from boxdrop.pipeline.labels import labels_key
from boxdrop.store.lessons import read_lesson, write_lesson
from boxdrop.store.teachings import add_teaching, read_teachings

if TYPE_CHECKING:
    from boxdrop.detect.sessions import Provider
    from boxdrop.services import Services


_TRIES: Final = 3


def teach_itself(services: "Services", project: str, provider: "Provider" = "cpu") -> Teaching | None:
    """Teach a project if it is due; see `teach_unattended`.

    Args:
        services: needs `ledger`, `images` and `data`.
        project: its name.
        provider: see `Detector.load`.

    Returns:
        What came of it; None if the project is not due, or does not teach itself.

    Raises:
        BoxdropError: something could not be read or written; the next call tries again.
    """
    return None if images_due(services, project) is None else teach_unattended(services, project, provider)


def images_due(services: "Services", project: str) -> int | None:
    """How many images are verified, if a project asks to teach itself and has enough of them; else None.

    Args:
        services: needs `ledger`, `images` and `data`.
        project: its name.

    Raises:
        BoxdropError: something could not be read.
    """
    key, images = labels_key(project), services.images
    stored = images.get(key)
    if stored is None:
        return None
    try:
        label_set = LabelSet.from_yaml(
            stored.body.decode("utf-8-sig", "replace"), f"s3://{images.name}/{key}"
        )
    except LabelSetError:
        return None  # `status` shows the mistake
    if not label_set.teaches_itself:
        return None
    verified = _count_verified(services, project)
    return None if verified < _due(services, project, label_set) else verified


def teach_unattended(services: "Services", project: str, provider: "Provider" = "cpu") -> Teaching:
    """Teach a project, and name the lesson in its labels.yaml if the gain is clear.

    Nothing else is done: the changed labels.yaml comes into force as any other, after its quiet time, and
    waits for `boxdrop apply` where very many images would run again.

    Args:
        services: needs `ledger`, `images` and `data`.
        project: its name.
        provider: see `Detector.load`.

    Raises:
        BoxdropError: something could not be read or written; the next call tries again.
    """
    for _ in range(_TRIES):
        taught = _teach_once(services, project, provider)
        if taught is not None:
            return taught
    raise BoxdropError(f"{labels_key(project)} changes all the time; teach when nobody edits it")


def _teach_once(services: "Services", project: str, provider: "Provider") -> Teaching | None:
    """Teach; None if labels.yaml has changed in the meantime."""
    key, images = labels_key(project), services.images
    where = f"s3://{images.name}/{key}"
    stored = images.get(key)
    if stored is None:
        raise BoxdropError(f"{where} does not exist; `boxdrop new` makes one")
    text = stored.body.decode("utf-8-sig", "replace")
    LabelSet.from_yaml(text, where)  # a mistake in it is named before the work
    verified = _count_verified(services, project)
    from boxdrop.teach.project import teach_project  # only now: ONNX Runtime takes half a second

    at = services.clock()
    try:
        lesson, curve = teach_project(services, project, provider)
    except LessonError as error:
        teaching = Teaching(at, 0, verified, problem=str(error))
    else:
        number = None
        if has_clear_gain(lesson):
            number = write_lesson(services.data, lesson)
            body = with_lesson(text, number, where).encode()
            if images.replace(key, body, stored.etag, "application/yaml") != Put.STORED:
                return None
        teaching = teaching_of(lesson, curve, verified, number)
    add_teaching(services.data, project, teaching)
    return teaching


def _count_verified(services: "Services", project: str) -> int:
    return services.ledger.count_images(project, (State.VERIFIED,))[State.VERIFIED]


def _due(services: "Services", project: str, label_set: LabelSet) -> int:
    """How many images must be verified for the next lesson."""
    attempts = [0, *(each.verified for each in read_teachings(services.data, project))]
    if label_set.lesson is not None:  # perhaps by hand, or by an attempt that died before it was noted
        attempts.append(len(read_lesson(services.data, label_set.lesson).images))
    return next_teaching(max(attempts))


def has_clear_gain(lesson: Lesson) -> bool:
    """Whether cross-validation proves some label better, and all labels together are."""
    return bool(lesson.labels) and lesson.after.f1 > lesson.before.f1


def teaching_of(lesson: Lesson, curve: Curve | None, verified: int, number: str | None) -> Teaching:
    """A lesson as the record of an attempt.

    Args:
        lesson, curve: see `teach_project`.
        verified: images that were verified then.
        number: the lesson's id, if labels.yaml names it now.
    """
    return Teaching(
        lesson.made_at,
        len(lesson.images),
        verified,
        number,
        len(lesson.labels),
        lesson.before,
        lesson.after,
        None if number is not None else "no clear gain over the words",
        curve,
    )
