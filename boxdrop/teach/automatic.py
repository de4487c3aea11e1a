"""``teach: auto``: a project teaches itself each time that its verified images have doubled."""

from typing import TYPE_CHECKING

from boxdrop.aws.s3 import Put
from boxdrop.detect.sessions import Provider
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
    from boxdrop.services import Services


def teach_itself(services: "Services", project: str, provider: Provider = "cpu") -> Teaching | None:
    """Teach a project if it is due, and name the lesson in its labels.yaml if the gain is clear.

    Nothing else is done: the changed labels.yaml comes into force as any other, after its quiet time, and
    waits for `boxdrop apply` where very many images would run again.

    Args:
        services: needs `ledger`, `images` and `data`.
        project: its name.
        provider: see `Detector.load`.

    Returns:
        What came of it; None if the project is not due, or does not teach itself.

    Raises:
        BoxdropError: something could not be read or written; the next call tries again.
    """
    key, images = labels_key(project), services.images
    where = f"s3://{images.name}/{key}"
    stored = images.get(key)
    if stored is None:
        return None
    text = stored.body.decode("utf-8-sig", "replace")
    try:
        label_set = LabelSet.from_yaml(text, where)
    except LabelSetError:
        return None  # `status` shows the mistake
    verified = services.ledger.count_images(project, (State.VERIFIED,))[State.VERIFIED]
    if not label_set.teaches_itself or verified < _due(services, project, label_set):
        return None
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
                raise BoxdropError(f"{where} has changed in the meantime; the next call teaches again")
        teaching = teaching_of(lesson, curve, verified, number)
    add_teaching(services.data, project, teaching)
    return teaching


def _due(services: "Services", project: str, label_set: LabelSet) -> int:
    """How many images must be verified for the next lesson."""
    tried = [each.verified for each in read_teachings(services.data, project)]
    if label_set.lesson is not None:  # perhaps by hand, or by an attempt that died before it was noted
        tried.append(len(read_lesson(services.data, label_set.lesson).images))
    return next_teaching(max(tried, default=0))


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
