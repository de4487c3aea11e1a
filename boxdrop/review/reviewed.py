"""Verified images with what became of their boxes, as a stream; each image counts once.

For engineers who build upon it:

>>> from boxdrop.review.reviewed import LeftOut, read_reviewed, read_with_predictions
>>> for each in read_reviewed(services, "fruit"):                        # doctest: +SKIP
...     if not isinstance(each, LeftOut) and each.outcomes is not None:
...         print(each.row.key, each.model_version, each.outcomes.offered)

An image that was retracted, skipped, deleted or overwritten comes as a `LeftOut` with its reason, never as
a `Reviewed`; one that was verified again comes once, as it is now. The rule is the data sets'
(`boxdrop.datasets.freshness`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boxdrop.assessment.outcomes import Outcomes, compare
from boxdrop.datasets.freshness import Fresh, read_documents, read_documents_of, review_rule
from boxdrop.datasets.items import LeftOut, Why
from boxdrop.domain.annotations import Annotation
from boxdrop.domain.label import ReviewRule
from boxdrop.domain.predictions import Prediction
from boxdrop.ledger import Image
from boxdrop.store.parts import list_parts, list_runs_with_parts, read_part

if TYPE_CHECKING:
    from boxdrop.services import Services

__all__ = ["LeftOut", "Reviewed", "Why", "read_reviewed", "read_with_predictions"]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A verified image.

    Attributes:
        row: the image's row in the ledger: bucket, key, version.
        annotation: what the person says; `lead_time`, `user`, `updated_at`, `boxes`, `offer`.
        outcomes: what became of the boxes; None where the person saw none on purpose (`is_blind`), or boxdrop
            does not know which prediction they started from. Such an image says what is true, and nothing
            about what people do with boxes.
        prediction: the stored prediction that was offered, with all its candidates down to the floor; None
            where it was not asked for, or its part is gone. Its `boxes` follow the thresholds of the day it
            was computed; those that the person saw are `annotation.offer.boxes`.
    """

    row: Image
    annotation: Annotation
    outcomes: Outcomes | None
    prediction: Prediction | None = None

    @property
    def is_blind(self) -> bool:
        """Whether the person was shown no boxes on purpose."""
        return self.annotation.offer is not None and self.annotation.offer.blind

    @property
    def model_version(self) -> str | None:
        """The detector whose boxes the person started from, where that is known."""
        return self.annotation.offer.model_version if self.annotation.offer else None


def read_reviewed(services: "Services", project: str) -> Iterator[Reviewed | LeftOut]:
    """Stream the images of a project that people worked on, by image_id, in the memory of one page.

    Args:
        services: needs `ledger` and `data`.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    for each in read_documents(services, project):
        yield each if isinstance(each, LeftOut) else _reviewed(each)


def read_with_predictions(services: "Services", project: str) -> Iterator[Reviewed | LeftOut]:
    """As `read_reviewed`, each image with its stored prediction; in the order of the parts.

    Parts hold the predictions of many images, so the documents are read twice: once to learn which parts
    are needed, and again part by part. One part is in memory, and the ids of the images.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    wanted: dict[str, str] = {}  # image_id → prediction_id
    runs: dict[str, None] = {}
    unoffered: list[str] = []
    for each in read_documents(services, project):
        if isinstance(each, LeftOut):
            yield each
        elif each.annotation.offer is None:
            unoffered.append(each.row.image_id)
        else:
            wanted[each.row.image_id] = each.annotation.offer.prediction_id
            if each.row.run_id:
                runs[each.row.run_id] = None
    rule = review_rule(services, project)
    for run_id in _and_others(services, project, runs):
        for name in list_parts(services.data, project, run_id) if wanted else ():
            records = {
                record.image_id: record
                for record in read_part(services.data, name.key).records
                if isinstance(record, Prediction) and wanted.get(record.image_id) == record.prediction_id
            }
            for image_id in records:
                del wanted[image_id]
            for fresh in _still_fresh(services, project, records, rule):
                reviewed = _reviewed(fresh)
                yield replace(reviewed, prediction=records[fresh.row.image_id])
    for fresh in _still_fresh(services, project, [*wanted, *unoffered], rule):
        yield _reviewed(fresh)


def _and_others(services: "Services", project: str, runs: Iterable[str]) -> Iterator[str]:
    """The runs that rows name, then the others, newest first: a row that was retried names a later run."""
    named = set(runs)
    yield from named
    yield from sorted({*list_runs_with_parts(services.data, project)} - named, reverse=True)


def _still_fresh(
    services: "Services", project: str, image_ids: Iterable[str], rule: ReviewRule
) -> Iterator[Fresh]:
    """Read documents again; those that a person took back since the first reading are left out."""
    for each in read_documents_of(services, project, [*image_ids], rule):
        if isinstance(each, Fresh):
            yield each


def _reviewed(fresh: Fresh) -> Reviewed:
    offer = fresh.annotation.offer
    outcomes = None if offer is None or offer.blind else compare(offer.boxes, fresh.annotation.boxes)
    return Reviewed(fresh.row, fresh.annotation, outcomes)
