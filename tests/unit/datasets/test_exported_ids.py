"""What leaves: ids and splits of an object never change; a detector's figures are those of our own code."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from boxdrop.datasets.export import Images, export
from boxdrop.datasets.formats import FORMATS
from boxdrop.datasets.identifiers import box_number, image_number
from boxdrop.datasets.items import Box, ClassName, Item
from boxdrop.datasets.splits import Splits
from boxdrop.domain.identity import image_id
from boxdrop.teach.trial import weighted_ap
from model_export.demo.scoring import Found, average_precision, overlap

SPLITS = Splits.parse("train=60,val=40")
SIZE = (640, 480)
Corners = tuple[float, float, float, float]
Drawn = Sequence[tuple[str, str, Corners]]
"""Region, label and corners of each box."""


class Stored:
    """A data set in memory; see `boxdrop.datasets.export.Stored`."""

    def __init__(self, labels: Sequence[str], images: dict[str, Drawn]) -> None:
        self.classes = tuple(ClassName(number, name) for number, name in enumerate(labels, 1))
        self.splits = SPLITS.names
        self.predictions = False
        self.prompts: dict[str, tuple[str, ...]] = {}
        self.dropped_boxes: Counter[str] = Counter()
        ids = {name: number for number, name in enumerate(labels, 1)}
        self._items = [self._item(name, drawn, ids) for name, drawn in images.items()]

    @staticmethod
    def _item(name: str, drawn: Drawn, ids: dict[str, int]) -> Item:
        identity = image_id("bucket", name)
        boxes = tuple(
            Box(box_number(identity, region), label, ids[label], corners, region, "kept")
            for region, label, corners in drawn
        )
        when = datetime(2026, 11, 1, tzinfo=UTC)
        split = SPLITS.of(identity)
        return Item(
            image_number(identity), identity, "bucket", name, "v1", *SIZE, split, when, 1, "demo@1", boxes
        )

    def __iter__(self) -> Iterator[Item]:
        return iter(sorted(self._items, key=lambda item: item.image_id))


def exported(stored: Stored, folder: Path) -> list[dict[str, Any]]:
    """COCO's documents, one per split."""
    export("fruit", stored, FORMATS["coco"], folder, images=Images.NONE)
    return [json.loads((folder / f"annotations/instances_{name}.json").read_text()) for name in SPLITS.names]


def identities(documents: Sequence[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """By image: its split, its id, and the ids of its boxes."""
    found = {}
    for split, document in enumerate(documents):
        for image in document["images"]:
            boxes = [each["id"] for each in document["annotations"] if each["image_id"] == image["id"]]
            found[image["key"]] = (split, image["id"], tuple(sorted(boxes)))
    return found


CORNERS = st.just((10.0, 20.0, 110.0, 220.0))
IMAGES = st.dictionaries(
    st.integers(0, 40).map(lambda number: f"fruit/{number}.jpg"),
    st.lists(
        st.tuples(st.text("abc", min_size=1), st.just("apple"), CORNERS), max_size=3, unique_by=lambda b: b[0]
    ),
    max_size=6,
)


@settings(max_examples=15, deadline=None)
@given(IMAGES, IMAGES, st.booleans())
def test_more_images_labels_and_relabelled_boxes_change_no_id_and_no_split(
    before: dict[str, Drawn], more: dict[str, Drawn], relabelled: bool
) -> None:
    label = "banana" if relabelled else "apple"
    after: dict[str, Drawn] = more | {
        name: [(region, label, (1.0, 2.0, 3.0, 4.0)) for region, _, _ in drawn]
        for name, drawn in before.items()
    }
    with TemporaryDirectory() as folder:
        first = identities(exported(Stored(["apple"], before), Path(folder, "a")))
        second = identities(exported(Stored(["apple", "kiwi", "banana"], after), Path(folder, "b")))
    assert first.items() <= second.items()


def test_pycocotools_finds_the_same_average_precision_in_an_export_as_our_own_code(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    labels = ["pineapple", "banana", "apple"]
    corners = random.uniform(0, 200, (60, 4))
    corners[:, 2:] += corners[:, :2] + 30
    kinds = random.integers(0, 3, 60)
    verified: dict[str, Drawn] = {}
    for image in range(12):
        drawn = []
        for box in range(image * 5, image * 5 + 5):
            one = tuple(map(float, corners[box].round(3)))
            drawn.append((f"r{box}", labels[kinds[box]], (one[0], one[1], one[2], one[3])))
        verified[f"{image}.jpg"] = drawn
    shifted = np.concatenate([corners + random.normal(0, 12, corners.shape), random.uniform(0, 400, (20, 4))])
    shifted[60:, 2:] += shifted[60:, :2]
    scores = random.uniform(0.05, 1, 80).astype(np.float32)
    found_labels = np.concatenate([kinds, random.integers(0, 3, 20)])
    images = np.concatenate([np.repeat(np.arange(12), 5), random.integers(0, 12, 20)])

    class Scene:
        def __init__(self, image: int) -> None:
            mine = np.arange(image * 5, image * 5 + 5)
            self.boxes, self.labels = corners[mine].round(3), kinds[mine]

    mine = [images == image for image in range(12)]
    found = [Found(shifted[m].astype(np.float32), scores[m], found_labels[m]) for m in mine]
    ours = average_precision([Scene(image) for image in range(12)], found, 3)  # type: ignore[misc]

    documents = exported(Stored(labels, verified), tmp_path)
    whole = {key: [each for part in documents for each in part[key]] for key in ("images", "annotations")}
    coco = COCO()
    coco.dataset = {"info": {}, "categories": documents[0]["categories"], **whole}
    coco.createIndex()
    numbers = {image["key"]: image["id"] for image in whole["images"]}
    results = [
        {
            "image_id": numbers[f"{image}.jpg"],
            "category_id": int(label) + 1,
            "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
            "score": float(score),
        }
        for box, score, label, image in zip(
            shifted.astype(np.float32).astype(float), scores, found_labels, images, strict=True
        )
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.evaluate()
    evaluation.accumulate()
    theirs = evaluation.eval["precision"][0, :, :, 0, -1].mean(axis=0)
    assert theirs == pytest.approx(ours, abs=1e-9)
    assert 0.3 < theirs.mean() < 0.99

    for label in range(3):  # what lessons are judged by: the exact area, not 101 samples of it
        chosen = np.flatnonzero(found_labels == label)
        right = np.zeros(len(chosen), bool)
        free = kinds == label
        for place in np.argsort(-scores[chosen], kind="stable"):
            here = free & (np.arange(60) // 5 == images[chosen[place]])
            overlaps = overlap(shifted[chosen[place]][None], corners)[0] * here
            if overlaps.max() >= 0.5:
                right[place] = True
                free[overlaps.argmax()] = False
        once, objects = np.ones((1, 12)), np.array([(kinds == label).sum()])
        area = weighted_ap(scores[chosen], right, images[chosen], once, objects)[0]
        assert area == pytest.approx(theirs[label], abs=0.02)
