"""Dropping a folder together with the boxes that another tool wrote for it."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from boxdrop.datasets.dropped import Faults, Source
from boxdrop.datasets.readers import ReadImage
from boxdrop.domain.browsers import display_copy
from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.identity import image_id
from boxdrop.domain.images import decode, probe
from boxdrop.pipeline.boxes import bring_boxes
from boxdrop.pipeline.dispatch import ask_for_launch

if TYPE_CHECKING:
    from boxdrop.domain.labels import LabelSet
    from boxdrop.pipeline.drop import File
    from boxdrop.services import Services


class BoxesDrop:
    """Brings the boxes of a source as its images are stored; see `boxdrop.pipeline.drop.drop`.

    Args:
        services: needs `ledger`, `images`, `data` and `launches`.
        project: the project's name.
        source: the boxes.
        label_set: the project's labels.
        matched: of `Source.match`.

    Attributes:
        images, boxes: that are in the ledger with their boxes now.
        matched: images of the source by file.
        kept: images that a person has verified; their work stays.
        faults: what was left out.
    """

    def __init__(
        self,
        services: "Services",
        project: str,
        source: Source,
        label_set: "LabelSet",
        matched: Mapping[str, ReadImage],
    ) -> None:
        self.images = self.boxes = self.kept = 0
        self.faults = Faults(list(source.faults))
        self._services = services
        self._project = project
        self._source = source
        self._labels = label_set.names
        self.matched = matched
        self.model_version = source.model_version
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, file: "File", body: bytes, version: str) -> None:
        """Bring the boxes of one image.

        Raises:
            BoxdropError: they could not be stored; the same call again is safe.
        """
        image = self.matched.get(file.name)
        if image is None:
            return
        identity = image_id(self._services.images.name, file.key), version
        try:
            header, decoded = probe(body), decode(body)
        except ImageError as error:
            raise BoxdropError(str(error)) from None
        boxes, faults = self._source.convert(
            file.name, image, header, identity, self._labels, self._services.clock()
        )
        with self._lock:
            self.faults.add(faults)
        if boxes is None:
            return
        copy = None if decoded.shown_alike else display_copy(decoded.pixels)
        boxes = replace(boxes, display=copy is not None)
        brought = bring_boxes(self._services, self._project, file.key, boxes, copy)
        with self._lock:
            if brought.is_verified:
                self.kept += 1
            else:
                self.images += 1
                self.boxes += len(boxes.boxes)
                self._asked[brought.project] += 1

    def ask(self) -> None:
        """Ask for a launch of every project that got boxes.

        Raises:
            BoxdropError: the queue refused; reconcile asks later.
        """
        ask_for_launch(self._services.launches, sorted(self._asked))
