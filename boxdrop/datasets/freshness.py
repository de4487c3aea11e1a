"""Which documents about images count: only what people verified in the version that the bucket holds now.

Data sets, the review report and everything that learns from verified work read documents through here, so
that an image that was retracted, deleted or overwritten leaves all of them at once.
"""

import heapq
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from boxdrop.assessment.agreement import choose
from boxdrop.datasets.items import LeftOut, Why
from boxdrop.domain.annotations import Annotation, AnnotationError, Document, Reason, Tombstone, from_json
from boxdrop.domain.label import LATEST, ReviewRule
from boxdrop.ledger import Image, State
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.layout import annotation_key, annotations_prefix, prefixes_of
from boxdrop.store.reviews import read_review

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boxdrop.aws.s3 import Bucket
    from boxdrop.services import Services

_PAGE: Final = 500
_AT_ONCE: Final = 16
_TOMBSTONES: Final = {Reason.SKIPPED: Why.SKIPPED, Reason.DELETED: Why.DELETED, Reason.LOST: Why.LOST}


@dataclass(frozen=True, slots=True)
class Fresh:
    """A document that counts.

    Attributes:
        row: the image's row in the ledger.
        annotation: about the version that `row` names; its size is known.
    """

    row: Image
    annotation: Annotation


def read_documents(services: "Services", project: str) -> Iterator[Fresh | LeftOut]:
    """Stream the documents of a project by image_id, each as fresh or with the reason why it does not count.

    One page of documents is in memory at a time.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    own = read_ids(services, project)
    rule = review_rule(services, project)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while page := list(itertools.islice(own, _PAGE)):
            yield from _read_page(services, project, page, pool, rule)


def read_ids(services: "Services", project: str) -> Iterator[str]:
    """Stream the ids of the images of a project that have a document, in order.

    Raises:
        BoxdropError: the bucket cannot be read.
    """
    prefixes = prefixes_of(annotations_prefix(project), project)
    ids = heapq.merge(*(_ids_below(services.data, each) for each in prefixes))
    return (image_id for image_id, _ in itertools.groupby(ids))


def _ids_below(data: "Bucket", prefix: str) -> Iterator[str]:
    for listed in data.list(prefix):
        image_id = listed.key.removeprefix(prefix).removesuffix(".json")
        if "/" not in image_id:  # others belong to a nested project, by keys of the earlier form
            yield image_id


def read_documents_of(
    services: "Services", project: str, image_ids: "Sequence[str]", rule: ReviewRule
) -> Iterator[Fresh | LeftOut]:
    """As `read_documents`, of these images alone; those without a document are left out silently.

    Args:
        rule: of `review_rule`.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(image_ids), _PAGE):
            yield from _read_page(services, project, image_ids[start : start + _PAGE], pool, rule)


def _read_page(
    services: "Services", project: str, page: "Sequence[str]", pool: ThreadPoolExecutor, rule: ReviewRule
) -> Iterator[Fresh | LeftOut]:
    bodies = pool.map(lambda each: read_review(services.data, project, each), page)
    rows = services.ledger.images(page)
    for image_id, stored in zip(page, bodies, strict=True):
        if stored is not None:
            where = f"s3://{services.data.name}/{annotation_key(project, image_id)}"
            yield _by_rule(_judge(project, image_id, stored.body, where, rows), rule)


def review_rule(services: "Services", project: str) -> ReviewRule:
    """Which annotation counts, by the labels in force.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    row = services.ledger.project(project)
    if row is None or row.labels is None:
        return LATEST
    return read_label_set(services.data, row.labels).review


def _by_rule(found: Fresh | LeftOut, rule: ReviewRule) -> Fresh | LeftOut:
    if isinstance(found, LeftOut):
        return found
    chosen = choose(found.annotation, rule)
    if chosen is not None:
        return found if chosen is found.annotation else replace(found, annotation=chosen)
    why = Why.DISPUTED if rule.counts == "agreed" else Why.UNREVIEWED
    return LeftOut(found.row.image_id, found.row.key, why, annotation=found.annotation)


def _judge(
    project: str, image_id: str, body: bytes, where: str, rows: "Mapping[str, Image]"
) -> Fresh | LeftOut:
    row = rows.get(image_id)
    try:
        document = from_json(body, where)
    except AnnotationError as error:
        return LeftOut(image_id, row.key if row else image_id, Why.UNREADABLE, str(error))
    why, detail = _reason(document, row, project)
    if why is not None:
        return LeftOut(image_id, row.key if row else document.image, why, detail)
    assert isinstance(document, Annotation)
    assert row is not None
    return Fresh(row, document)


def _reason(document: Document, row: Image | None, project: str) -> tuple[Why | None, str]:
    """Why a document does not count. The ledger decides first: it is newer than the document."""
    if row is None or row.state == State.GONE or row.project != project:
        return Why.GONE, ""
    if isinstance(document, Tombstone):
        return _TOMBSTONES[document.reason], ""
    if row.state == State.STALE or document.version != row.version:
        return Why.STALE, f"verified {document.version}, now {row.version}"
    if row.state != State.VERIFIED:
        return Why.UNVERIFIED, f"it is {row.state}"
    if document.notes:
        return Why.NOTES, "; ".join(document.notes)
    if document.width is None:
        return Why.NO_SIZE, ""
    return None, ""
