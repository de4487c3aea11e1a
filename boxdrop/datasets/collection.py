"""Collecting verified work: a stream of items in the order of image ids, in the memory of one page."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from boxdrop.datasets.identifiers import box_number, image_number
from boxdrop.datasets.items import Box, ClassName, DatasetError, Item, LeftOut, Origin, Why
from boxdrop.datasets.splits import Grouping, Splits
from boxdrop.domain.annotations import Annotation, AnnotationError, DrawnBox, Reason, Tombstone, from_json
from boxdrop.ledger import Image, State
from boxdrop.store.layout import annotations_prefix

if TYPE_CHECKING:
    from boxdrop.services import Services

_PAGE: Final = 500
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Selection:
    """What goes into a data set.

    Attributes:
        labels: only boxes of these labels; None for all. Images without any stay, as negatives.
        since: only images that were verified at this time or later.
        min_size: only boxes whose shorter side has at least so many pixels.
    """

    labels: frozenset[str] | None = None
    since: datetime | None = None
    min_size: float = 0.0
    splits: Splits = field(default_factory=Splits)
    grouping: Grouping = field(default_factory=Grouping)


def classes_of(services: "Services", project: str, selection: Selection) -> tuple[ClassName, ...]:
    """The labels of a project with their frozen ids, by id: every label it ever had, or those selected.

    Raises:
        DatasetError: there is no such project, or it has no such label.
    """
    row = services.ledger.project(project)
    if row is None:
        names = ", ".join(each.name for each in services.ledger.projects()) or "none yet"
        raise DatasetError(f"there is no project {project}; there are: {names}")
    wanted = row.label_ids.keys() if selection.labels is None else selection.labels
    unknown = sorted(set(wanted) - row.label_ids.keys())
    if unknown:
        known = ", ".join(sorted(row.label_ids)) or "none"
        raise DatasetError(f"{project} has no label {', '.join(unknown)}; its labels are: {known}")
    return tuple(sorted((ClassName(row.label_ids[name], name) for name in wanted), key=lambda each: each.id))


class Collection:
    """The verified images of a project, as they are now.

    Args:
        services: needs `ledger` and `data`.

    Attributes:
        classes: see `classes_of`.
        dropped_boxes: boxes that were left out so far, by reason.

    Raises:
        DatasetError: there is no such project, or it has no such label.
    """

    def __init__(self, services: "Services", project: str, selection: Selection | None = None) -> None:
        self._services = services
        self._project = project
        self._selection = selection or Selection()
        self._ids = {each.name: each.id for each in classes_of(services, project, Selection())}
        self.classes = classes_of(services, project, self._selection)
        self.splits = self._selection.splits.names
        self.dropped_boxes: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Item | LeftOut]:
        """Stream what somebody worked on, by image_id, each as an item or with the reason why it is none.

        Raises:
            BoxdropError: the bucket or the ledger cannot be read.
        """
        self.dropped_boxes.clear()
        prefix = annotations_prefix(self._project)
        keys = (each.key for each in self._services.data.list(prefix))
        ids = (key.removeprefix(prefix).removesuffix(".json") for key in keys)
        own = (each for each in ids if "/" not in each)  # others are of a project whose name is longer
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while page := list(itertools.islice(own, _PAGE)):
                bodies = pool.map(lambda each: self._services.data.get(f"{prefix}{each}.json"), page)
                rows = self._services.ledger.images(page)
                for image_id, stored in zip(page, bodies, strict=True):
                    if stored is not None:
                        where = f"s3://{self._services.data.name}/{prefix}{image_id}.json"
                        yield self._judge(image_id, stored.body, where, rows)

    def _judge(self, image_id: str, body: bytes, where: str, rows: Mapping[str, Image]) -> Item | LeftOut:
        row = rows.get(image_id)
        try:
            document = from_json(body, where)
        except AnnotationError as error:
            return LeftOut(image_id, row.key if row else image_id, Why.UNREADABLE, str(error))
        key = row.key if row else document.image
        why, detail = self._reason(document, row)
        if why is not None:
            return LeftOut(image_id, key, why, detail)
        assert isinstance(document, Annotation)
        assert row is not None
        assert document.width is not None
        assert document.height is not None
        return Item(
            number=image_number(image_id),
            image_id=image_id,
            bucket=row.bucket,
            key=row.key,
            version=document.version,
            width=document.width,
            height=document.height,
            split=self._selection.splits.of(self._selection.grouping.of(row.key, image_id)),
            reviewed_at=document.updated_at,
            user=document.user,
            model_version=document.offer.model_version if document.offer else None,
            boxes=tuple(self._boxes(document)),
        )

    def _reason(self, document: Annotation | Tombstone, row: Image | None) -> tuple[Why | None, str]:
        """Why a document makes no item. What the ledger says of the image comes first: it is newer."""
        if row is None or row.state == State.GONE or row.project != self._project:
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
        unknown = sorted({box.label for box in document.boxes} - self._ids.keys())
        if unknown:
            return Why.UNKNOWN_LABEL, ", ".join(unknown)
        since = self._selection.since
        if since is not None and document.updated_at < since:
            return Why.OLDER, ""
        return None, ""

    def _boxes(self, document: Annotation) -> Iterator[Box]:
        offered = {} if document.offer is None else {box.region: box for box in document.offer.boxes}
        regions: Counter[str] = Counter()
        for box in document.boxes:
            again = regions[box.region]
            regions[box.region] += 1
            left, top, right, bottom = box.xyxy
            side = min(right - left, bottom - top)
            if self._selection.labels is not None and box.label not in self._selection.labels:
                self.dropped_boxes["other labels"] += 1
            elif side <= 0:
                self.dropped_boxes["without an area"] += 1
            elif side < self._selection.min_size:
                self.dropped_boxes["smaller than --min-size"] += 1
            else:
                before = offered.get(box.region)
                origin = _origin(box, before.label if before else None, before.xyxy if before else None)
                number = box_number(document.image_id, box.region, again)
                yield Box(number, box.label, self._ids[box.label], box.xyxy, box.region, origin, box.rotation)


_TOMBSTONES: Final = {Reason.SKIPPED: Why.SKIPPED, Reason.DELETED: Why.DELETED, Reason.LOST: Why.LOST}

_SAME_PX: Final = 0.5
"""Label Studio keeps percentages and rounds them: coordinates move by less than this without a person."""


def _origin(box: DrawnBox, label: str | None, xyxy: tuple[float, float, float, float] | None) -> Origin:
    if label is None or xyxy is None:
        return "drawn"
    if label != box.label:
        return "relabelled"
    if box.rotation or any(abs(a - b) > _SAME_PX for a, b in zip(box.xyxy, xyxy, strict=True)):
        return "adjusted"
    return "kept"
