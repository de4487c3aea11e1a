"""Collects verified work: a stream of items by image id, with one page in memory."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from boxdrop.aws.s3 import Bucket
from boxdrop.datasets.freshness import Fresh, read_documents, read_ids
from boxdrop.datasets.identifiers import box_number, image_number
from boxdrop.datasets.items import Box, ClassName, DatasetError, Item, LeftOut, Origin, Why
from boxdrop.datasets.lookalikes import UNKNOWN, Places, Seen, look_of, open_places, store_places
from boxdrop.datasets.predicted import read_predictions
from boxdrop.datasets.splits import Grouping, Splits, place_of
from boxdrop.domain.annotations import Annotation, DrawnBox, was_moved
from boxdrop.domain.errors import ImageError
from boxdrop.domain.identity import region_id
from boxdrop.domain.images import DEFAULT_LIMITS, decode
from boxdrop.domain.predictions import Prediction
from boxdrop.iterables import chunked
from boxdrop.ledger import Image, State
from boxdrop.store.labelsets import read_label_set

if TYPE_CHECKING:
    from boxdrop.services import Services


_PAGE: Final = 500
_WORKERS: Final = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """The selection for a data set.

    Attributes:
        labels: only boxes of these labels; None for all. Images without any stay, as negatives.
        since: only images that were verified at this time or later.
        min_size: only boxes whose shorter side has at least this many pixels.
        predictions: also images that nobody has verified, with the boxes that their tasks show. `since` does
            not apply to them.
        accepted: with `predictions`, only these image_ids: those that `boxdrop accept` accepted.
        together: whether near-duplicates share a split, where there are several; see
            `boxdrop.datasets.lookalikes`. It reads each image once.
    """

    labels: frozenset[str] | None = None
    since: datetime | None = None
    min_size: float = 0.0
    splits: Splits = field(default_factory=Splits)
    grouping: Grouping = field(default_factory=Grouping)
    predictions: bool = False
    accepted: frozenset[str] | None = None
    together: bool = True


def classes_of(services: "Services", project: str, selection: Selection) -> tuple[ClassName, ...]:
    """The labels of a project with their frozen ids, by id: every label it ever had, or the selected ones.

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


def prompts_of(services: "Services", project: str) -> dict[str, tuple[str, ...]]:
    """The prompts of each label in force; of none where the project has no labels yet."""
    row = services.ledger.project(project)
    if row is None or row.labels is None:
        return {}
    return {label.name: label.prompts for label in read_label_set(services.data, row.labels)}


class Collection:
    """The current verified images of a project, and the unverified ones if they are selected.

    Args:
        services: needs `ledger` and `data`.

    Attributes:
        classes: see `classes_of`.
        prompts: of each label in force.
        predictions: whether there may be unverified images.
        on_compared: called as new images are compared with the others, with how many were.
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
        self.prompts = prompts_of(services, project)
        self.splits = self._selection.splits.names
        self.predictions = self._selection.predictions
        self.dropped_boxes: Counter[str] = Counter()
        self.on_compared: Callable[[int], None] = lambda done: None
        self._places: Places | None = None

    def __iter__(self) -> Iterator[Item | LeftOut]:
        """Stream the images with annotators' work, by image_id, each as an item or with the reason why it is
        left out; then the unverified images, if they are selected, in no order.

        Raises:
            BoxdropError: the bucket or the ledger cannot be read.
        """
        self.dropped_boxes.clear()
        self._places = self._place_images()
        for each in read_documents(self._services, self._project):
            yield each if isinstance(each, LeftOut) else self._item(each)
        if self.predictions:
            accepted = self._selection.accepted
            for image, prediction in read_predictions(self._services, self._project):
                if accepted is None or image.image_id in accepted:
                    yield self._predicted(image, prediction)

    def _item(self, fresh: Fresh) -> Item | LeftOut:
        row, document = fresh.row, fresh.annotation
        why, detail = self._reason(document)
        if why is not None:
            return LeftOut(row.image_id, row.key, why, detail)
        assert document.width is not None
        assert document.height is not None
        return Item(
            number=image_number(row.image_id),
            image_id=row.image_id,
            bucket=row.bucket,
            key=row.key,
            version=document.version,
            width=document.width,
            height=document.height,
            split=self._split(row),
            reviewed_at=document.updated_at,
            user=document.user,
            model_version=document.offer.model_version if document.offer else None,
            boxes=tuple(self._boxes(document)),
        )

    def _split(self, row: Image) -> str:
        if self._places is not None and self._places.of(row.image_id) is None:  # verified a moment ago
            self._places = self._place_images()
        place = None if self._places is None else self._places.of(row.image_id)
        return self._selection.splits.at(self._own_place(row) if place is None else place)

    def _own_place(self, row: Image) -> int:
        return place_of(self._selection.grouping.of(row.key, row.image_id))

    def _place_images(self) -> Places | None:
        """The places of all images, those without one included; None where near-duplicates do not matter."""
        if len(self.splits) < 2 or not self._selection.together:
            return None
        where = self._services.data, self._project, self._selection.grouping.pattern
        while True:
            places = open_places(*where)
            seen = list(self._look_at(row for row in self._images() if places.of(row.image_id) is None))
            if not seen:
                return places
            store_places(*where, places, seen)

    def _images(self) -> Iterator[Image]:
        """The images that may get into the data set, once each."""
        ids = read_ids(self._services, self._project)
        while page := list(itertools.islice(ids, _PAGE)):
            for row in self._services.ledger.images(page).values():
                if row.state == State.VERIFIED and row.project == self._project and row.version is not None:
                    yield row
        if self.predictions:
            seen = {row.image_id: row for row, _ in read_predictions(self._services, self._project)}
            yield from seen.values()

    def _look_at(self, rows: Iterator[Image]) -> Iterator[Seen]:
        buckets: dict[str, Bucket] = {self._services.images.name: self._services.images}

        def look(row: Image) -> Seen:
            assert row.version is not None
            try:
                data = buckets[row.bucket].read_version(row.key, row.version, DEFAULT_LIMITS.max_bytes)
                seen = look_of(decode(data).pixels)
            except ImageError:  # the export will say so
                seen = UNKNOWN
            return Seen(row.image_id, self._own_place(row), seen)

        with ThreadPoolExecutor(_WORKERS) as pool:
            done = 0
            for some in chunked(rows, _PAGE):
                for name in {row.bucket for row in some} - buckets.keys():
                    buckets[name] = Bucket(name)
                for seen in pool.map(look, some):
                    done += 1
                    self.on_compared(done)
                    yield seen

    def _predicted(self, row: Image, prediction: Prediction) -> Item:
        boxes = []
        for index, box in enumerate(prediction.boxes):
            if box.label in self._ids and self._is_selected(box.label, box.xyxy):
                region = region_id(prediction.prediction_id, index)
                number = box_number(row.image_id, region)
                where = self._ids[box.label], box.xyxy, region
                boxes.append(Box(number, box.label, *where, "predicted", score=box.score))
        return Item(
            number=image_number(row.image_id),
            image_id=row.image_id,
            bucket=row.bucket,
            key=row.key,
            version=prediction.version,
            width=prediction.width,
            height=prediction.height,
            split=self._split(row),
            reviewed_at=row.since,
            user=None,
            model_version=prediction.model_version,
            boxes=tuple(boxes),
            verified=False,
        )

    def _reason(self, document: Annotation) -> tuple[Why | None, str]:
        """Why a fresh document is not selected."""
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
            if not self._is_selected(box.label, box.xyxy):
                continue
            before = offered.get(box.region)
            origin = _origin(box, before.label if before else None, before.xyxy if before else None)
            number = box_number(document.image_id, box.region, again)
            yield Box(number, box.label, self._ids[box.label], box.xyxy, box.region, origin, box.rotation)

    def _is_selected(self, label: str, xyxy: tuple[float, float, float, float]) -> bool:
        """Whether a box is in the selection; one that is not is counted."""
        left, top, right, bottom = xyxy
        side = min(right - left, bottom - top)
        if self._selection.labels is not None and label not in self._selection.labels:
            self.dropped_boxes["other labels"] += 1
        elif side <= 0:
            self.dropped_boxes["without an area"] += 1
        elif side < self._selection.min_size:
            self.dropped_boxes["smaller than --min-size"] += 1
        else:
            return True
        return False


def _origin(box: DrawnBox, label: str | None, xyxy: tuple[float, float, float, float] | None) -> Origin:
    if label is None or xyxy is None:
        return "drawn"
    if label != box.label:
        return "relabelled"
    return "adjusted" if was_moved(box, xyxy) else "kept"
