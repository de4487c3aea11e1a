"""Two detectors on one label set: who looks for what, one scale of scores, and one box per object."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from boxdrop.detect import Bundle, Detector
from boxdrop.detect.allotment import allot, merged_defaults, shift_between, shifted
from boxdrop.detect.bundle import Contract, Defaults
from boxdrop.detect.merged import MergedDetector, merge
from boxdrop.detect.stream import Found, Stream
from boxdrop.domain.detections import Detections, select
from boxdrop.domain.detector_names import pinned_name, shown_digest, split_names
from boxdrop.domain.errors import BundleError, LabelSetError
from boxdrop.domain.labels import LabelSet, Tiling
from tests.fixed_bundle import write_fixed_bundle

CLASSES = ("person", "dog", "traffic light")
BOXES = np.array([[0, 0, 32, 32], [40, 8, 60, 20], [2, 40, 10, 60]], np.float32)
"""xyxy of a 64 × 64 input; the first is the upper left quarter, which is also a box of the toy's."""
SCORES = np.array([[0.1, 0.45, 0.05], [0.8, 0.1, 0.05], [0.05, 0.05, 0.6]], np.float32)
MIXED = LabelSet.from_yaml(
    "labels: [{name: warm, prompts: [crimson, red]}, {name: animal, prompts: [beast, Dog]}, green, person]"
)


def write_closed(folder: Path, **settings: Any) -> Path:
    contract = Contract("images", "boxes", "scores", "xyxy", "pixel", "probability", nms_iou=0.5)
    outputs = {"boxes": BOXES, "scores": settings.pop("scores", SCORES)}
    return write_fixed_bundle(folder, outputs, contract, CLASSES, name="closed", **settings)


@pytest.fixture
def closed(tmp_path: Path) -> Detector:
    return Detector.load(write_closed(tmp_path / "closed"), threads=1)


@pytest.fixture
def both(closed: Detector, toy_detector: Detector) -> MergedDetector:
    return MergedDetector([closed, toy_detector])


def picture(upper_left: tuple[int, int, int], size: int = 64) -> NDArray[np.uint8]:
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[: size // 2, : size // 2] = upper_left
    pixels[size // 2 :, size // 2 :] = (0, 250, 0)
    return pixels


def table(found: Detections, labels: LabelSet) -> list[tuple[str, str, list[int], float]]:
    return [
        (
            labels.names[label],
            labels.prompts[prompt],
            box.round().astype(int).tolist(),
            round(float(score), 4),
        )
        for label, prompt, box, score in zip(
            found.labels, found.prompts, found.boxes, found.scores, strict=True
        )
    ]


def test_each_label_is_looked_for_by_the_first_detector_that_knows_it() -> None:
    first, second = allot(MIXED, [("closed", CLASSES), ("toy", ())])
    assert (first.detector, first.label_set.names) == (0, ("animal", "person"))
    assert (second.detector, second.label_set.names) == (1, ("warm", "green"))
    assert first.labels.tolist() == [1, 3]
    assert [MIXED.prompts[prompt] for prompt in first.prompts] == ["beast", "Dog", "person"]
    assert [MIXED.prompts[prompt] for prompt in second.prompts] == ["crimson", "red", "green"]


def test_of_two_with_fixed_classes_the_second_gets_what_only_it_knows() -> None:
    labels = LabelSet.from_yaml("labels: [dog, {name: drink, classes: [cup]}]")
    first, second = allot(labels, [("closed", CLASSES), ("kitchen", ("dog", "cup"))])
    assert (first.label_set.names, second.label_set.names) == (("dog",), ("drink",))
    with pytest.raises(LabelSetError, match="label 'hat': detector closed has no class 'hat'"):
        allot(LabelSet.from_short_form("dog, hat"), [("closed", CLASSES), ("kitchen", ("cup",))])


def test_a_detector_without_a_label_does_not_run(both: MergedDetector) -> None:
    [share] = both.shares(LabelSet.from_short_form("dog, person"))
    assert share.detector is both.parts[0]
    [share] = both.shares(LabelSet.from_short_form("red"))
    assert share.detector is both.parts[1]


@pytest.mark.parametrize(
    ("text", "detectors", "said"),
    [
        (
            "labels: [dog]",
            [("toy", ()), ("closed", CLASSES)],
            "toy reads any words, so no label",
        ),
        (
            "labels: [{name: pet, classes: [cat]}]",
            [("closed", CLASSES), ("toy", ())],
            "has no class 'cat'",
        ),
        (
            "{lesson: 3f0c9a17be24d581, labels: [dog]}",
            [("closed", CLASSES), ("toy", ())],
            "`lesson` belongs to one detector, but two are named",
        ),
    ],
)
def test_labels_that_two_detectors_cannot_share_are_refused(
    text: str, detectors: list[tuple[str, tuple[str, ...]]], said: str
) -> None:
    with pytest.raises(LabelSetError, match=said):
        allot(LabelSet.from_yaml(text), detectors)


def test_together_they_find_what_each_finds_alone(both: MergedDetector) -> None:
    image = picture((200, 0, 0))
    expected = []
    for share, shift in zip(both.shares(MIXED), (0.0, shift_between(0.3, 0.5)), strict=True):
        alone = share.detector.candidates_of(image, share.label_set)
        moved = replace(alone, scores=shifted(alone.scores, shift))
        expected += table(moved.take(moved.scores >= both.bundle.defaults.floor), share.label_set)
    found = table(both.candidates_of(image, MIXED), MIXED)
    assert {each[0] for each in found} == {"warm", "animal", "green", "person"}
    assert {each[1] for each in found} == {"red", "Dog", "green", "person"}
    assert sorted(found) == sorted(expected)
    assert [each[3] for each in found] == sorted((each[3] for each in found), reverse=True)


def test_an_object_that_both_claim_is_shown_once_for_the_one_that_is_surer_by_its_own_measure(
    both: MergedDetector,
) -> None:
    labels = LabelSet.from_short_form("red, dog")
    # The toy gives the red quarter sigmoid(10 · red - 5), and shows boxes from 0.5 on. The closed detector
    # gives its dog 0.45, and shows boxes from 0.3 on: as sure as the toy is at 0.656.
    for red, winner, loser in ((0.53, "dog", "red"), (0.6, "red", "dog")):
        image = np.zeros((64, 64, 3), np.uint8)
        image[..., 0] = round(255 * red)
        assert both.parts[1].detect([image], LabelSet.from_short_form("red"))[0].scores[0] > 0.5
        [found] = both.detect([image], labels)
        at = [row for row, box in enumerate(found.boxes) if np.allclose(box, BOXES[0])]
        assert [labels.names[found.labels[row]] for row in at] == [winner]
        assert [labels.names[label] for label, _ in found.rivals[at[0]]] == [loser]
        # … which the candidates decide, so that other thresholds need no detector.
        again = select(both.candidates_of(image, labels), both.thresholds(labels))
        np.testing.assert_array_equal(again.scores, found.scores)


def test_boxes_at_a_default_threshold_are_equally_sure_whichever_detector_found_them() -> None:
    assert shifted(np.array([0.1], np.float32), shift_between(0.35, 0.1))[0] == pytest.approx(0.35, abs=1e-6)
    scores = np.random.default_rng(1).random(1000, np.float32)
    np.testing.assert_array_equal(shifted(scores, 0.0), scores)
    moved = shifted(np.sort(scores), 1.3)
    assert (np.diff(moved) >= 0).all()
    assert ((moved > 0) & (moved < 1)).all()
    assert np.isfinite(shifted(np.array([0.0, 1.0]), -2.0)).all()
    together = merged_defaults([Defaults(0.35, 0.02), Defaults(0.1, 0.02)])
    assert together.threshold == 0.35
    assert together.floor == pytest.approx(0.0900, abs=2e-4)  # 0.02 of the second, on the scale of the first


def test_a_threshold_below_what_both_keep_is_refused(both: MergedDetector) -> None:
    floor = both.bundle.defaults.floor
    both.thresholds(replace(MIXED, labels=tuple(replace(each, threshold=floor) for each in MIXED)))
    low = replace(MIXED, labels=tuple(replace(each, threshold=floor / 2) for each in MIXED))
    with pytest.raises(LabelSetError, match=r"floor of detector closed\+toy-owlvit"):
        both.thresholds(low)


@pytest.mark.parametrize("tiling", [Tiling("off"), Tiling("fixed", 40, 0.2)])
def test_the_stream_gives_the_same_boxes_in_batches_and_tiles(
    both: MergedDetector, tmp_path: Path, tiling: Tiling
) -> None:
    labels = replace(MIXED, tiling=tiling)
    files = []
    for number in range(11):
        files.append(tmp_path / f"{number:02}.png")
        Pillow.fromarray(picture((20 * number, 0, 0), 48 + 8 * (number % 3))).save(files[-1])

    def outcomes(detector: Any, asked: LabelSet) -> list[Detections]:
        stream = Stream(detector, asked, Path.read_bytes, batch_size=3, workers=2)
        made = list(stream.outcomes(files))
        assert [each.item for each in made] == files
        return [each.candidates for each in made if isinstance(each, Found)]

    together = outcomes(both, labels)
    shares = both.shares(labels)
    alone = [outcomes(share.detector, share.label_set) for share in shares]
    for found, *each in zip(together, *alone, strict=True):
        combined = both.combine(shares, each)
        np.testing.assert_array_equal(found.boxes, combined.boxes)
        np.testing.assert_array_equal(found.scores, combined.scores)
        assert len(found) > 3
    if tiling.mode == "off":
        for found, file in zip(together, files, strict=True):
            np.testing.assert_array_equal(
                found.scores, both.candidates_of(np.asarray(Pillow.open(file)), labels).scores
            )


def test_the_detection_digest_holds_both_detectors_their_order_and_the_scale(
    both: MergedDetector, toy_detector: Detector, tmp_path: Path
) -> None:
    closed = both.parts[0]
    version = both.model_version(MIXED)
    assert version.startswith("closed+toy-owlvit@")
    assert merge([closed]) is closed
    other = Detector.load(write_closed(tmp_path / "other", scores=SCORES / 2), threads=1)
    versions = {version, MergedDetector([other, toy_detector]).model_version(MIXED)}
    assert len(versions) == 2
    # A bundle's own digest leaves its default threshold out, because it changes no score of its own.
    higher = replace(closed.bundle, defaults=Defaults(0.4, 0.05))
    moved = MergedDetector([Detector(higher, threads=1), toy_detector])
    assert higher.digest == closed.bundle.digest
    assert moved.model_version(MIXED) not in versions
    assert (
        shown_digest(both.bundle.digest) == f"{closed.bundle.digest[:16]}+{toy_detector.bundle.digest[:16]}"
    )


def test_names_are_read_from_labels_yaml_and_from_one_text() -> None:
    for written in ("detectors: [mine, owlv2]", "detectors: mine, owlv2", "detector: mine+owlv2"):
        labels = LabelSet.from_yaml(f"{written}\nlabels: [dog]")
        assert labels.detector == "mine+owlv2"
        assert LabelSet.from_snapshot(labels.to_yaml(), "snapshot") == labels
    assert LabelSet.from_yaml("detectors: [mine]\nlabels: [dog]").detector == "mine"
    assert split_names("mine@0123456789abcdef + owlv2") == ("mine@0123456789abcdef", "owlv2")
    assert pinned_name("a+b", "0" * 64 + "+" + "1" * 64 + "~0.5000") == f"a@{'0' * 16}+b@{'1' * 16}"
    assert pinned_name("a", "0" * 64) == f"a@{'0' * 16}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("detectors: [a, b, c]", "line 1: `detectors`: .*3 detectors are too many; name 2 at most"),
        ("detectors: [a, a]", "a is named twice"),
        ("detectors: [a+b, c]", "'a\\+b' contains a \\+; list names one by one"),
        ("detectors: []", "must list the names or folders of two detectors"),
        ("detector: a\ndetectors: [a, b]", "line 2: give `detector` or `detectors`, not both"),
        ("detectors: {a: b}", "`detectors` must be text"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(text: str, said: str) -> None:
    with pytest.raises(LabelSetError, match=said):
        LabelSet.from_yaml(f"{text}\nlabels: [dog]")


@pytest.mark.parametrize("text", ["a++b", "+a", "a+", "a+b+c", "a+a"])
def test_a_text_that_names_no_two_detectors_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match="detector '"):
        split_names(text)


def test_bundles_of_one_detector_keep_their_digest(both: MergedDetector) -> None:
    for each in both.parts:
        assert Bundle.load(each.bundle.path).digest == each.bundle.digest
        assert each.model_version(MIXED).startswith(f"{each.bundle.name}@")
