"""Export of tiny models of the families that choose their boxes, and their parity with transformers.

What is the same for all families is tested in `test_parity.py`, on OWL.
"""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES
from transformers.models.grounding_dino import modeling_grounding_dino

import boxdrop.detect.families
from boxdrop.detect import Bundle, Detector
from boxdrop.detectors.coco import COCO_NAMES
from boxdrop.domain.labels import LabelSet
from model_export import exporter
from model_export.errors import ExportError
from model_export.exporter import Choices, export
from model_export.families import FAMILIES
from model_export.parity import TOLERANCE, compare
from model_export.pictures import SHAPES, draw
from model_export.source import resolve
from model_export.stand_ins import TINY, make

pytestmark = pytest.mark.slow  # one export takes ten seconds

FAMILY_NAMES = ("grounding-dino", "mm-grounding-dino", "omdet-turbo")

# One thread: see test_parity.py.
choices = partial(Choices, threads=1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family, as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("sources")
    return {name: make(folder / f"tiny-{name}", name, TINY[name]) for name in FAMILY_NAMES}


@pytest.fixture(scope="module")
def bundles(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Their bundles, compared on two pictures; `test_other_sizes_batches_and_label_counts` has others."""
    folder = tmp_path_factory.mktemp("bundles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "compare", partial(compare, pictures=("wide", "small")))
        return {name: export(str(source), folder / name, choices()) for name, source in sources.items()}


@pytest.fixture(scope="module")
def detectors(bundles: dict[str, Bundle]) -> dict[str, Detector]:
    """The bundles, opened."""
    return {name: Detector.load(bundle, threads=1) for name, bundle in bundles.items()}


@pytest.fixture
def loaded(sources: dict[str, Path]) -> Callable[[str], Any]:
    """Loads the model of a family again."""
    return lambda name: FAMILIES[name].load(resolve(str(sources[name])))


def labels(*names: str) -> LabelSet:
    return LabelSet.from_short_form(", ".join(names))


def test_every_family_that_transformers_maps_can_be_exported_and_run() -> None:
    mapped = set(MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES)
    assert set(FAMILIES) == mapped
    assert set(boxdrop.detect.families.FAMILIES) == mapped


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_the_report_compares_places_before_boxes(bundles: dict[str, Bundle], name: str) -> None:
    parity = Bundle.load(bundles[name].path, verify=True).parity
    assert parity["passed"]
    assert parity["unmatched"] == 0
    assert parity["largest"]["place"] <= TOLERANCE.place
    rows = parity["rows"]
    assert {row["batch"] for row in rows} == {1, 2}
    assert {row["labels"] for row in rows} == {1, 3, 80}
    assert all(row["chosen"] >= 50 for row in rows)
    # At most one in fifty may have another rank: the others were compared.
    assert all(row["detections"] - row["swapped"] >= 45 for row in rows)


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_other_sizes_batches_and_label_counts(
    detectors: dict[str, Detector], loaded: Callable[[str], Any], name: str
) -> None:
    """None of them is what the graph was traced with, nor what the export compared."""
    report = compare(
        loaded(name), detectors[name], [labels(*COCO_NAMES[:17])], pictures=("tall", "square", "small")
    )
    assert {row.batch for row in report.rows} == {1, 3}
    assert report.passed, report.table()


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_what_an_image_gets_does_not_depend_on_its_batch(detectors: dict[str, Detector], name: str) -> None:
    """transformers' Grounding DINO lets an image see the padding that others in its batch bring about."""
    detector, label_set = detectors[name], labels(*COCO_NAMES[:5])
    images = [np.asarray(draw(shape)) for shape in SHAPES] + [np.zeros((300, 2, 3), np.uint8)]
    pixels = [detector.preprocess(image) for image in images]
    sizes = [(image.shape[1], image.shape[0]) for image in images]
    together = detector.candidates(pixels, sizes, label_set, floor=1e-3, nms_iou=1.0)
    for prepared, size, batched in zip(pixels, sizes, together, strict=True):
        (single,) = detector.candidates([prepared], [size], label_set, floor=1e-3, nms_iou=1.0)
        # In the order of queries and labels, for rounding may change the order by score.
        ours, theirs = (found.take(np.lexsort((found.labels, found.queries))) for found in (single, batched))
        np.testing.assert_array_equal(ours.queries, theirs.queries)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=2e-3)  # pixels, of up to 1,000
    assert sum(len(batched) for batched in together) > 100


@pytest.mark.parametrize("name", ["grounding-dino", "omdet-turbo"])
@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (480, 640), (97, 96), (1500, 40), (41, 1500), (1920, 1081), (224, 224)]
)
def test_inputs_equal_those_of_transformers(
    detectors: dict[str, Detector], loaded: Callable[[str], Any], name: str, width: int, height: int
) -> None:
    image = np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8)
    model = loaded(name)
    processor = model.images if name == "omdet-turbo" else model.processor.image_processor
    theirs = processor(image, return_tensors="np", input_data_format="channels_last").pixel_values[0]
    ours = detectors[name].preprocess(image)
    # OmDet's processor normalises levels of 255, which rounds elsewhere.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0 if name == "grounding-dino" else 1e-6)


@pytest.mark.parametrize(("width", "height"), [(1, 700), (700, 1), (1, 1), (3, 2)])
def test_images_of_any_shape_are_answered(detectors: dict[str, Detector], width: int, height: int) -> None:
    """transformers fails on a line of pixels, and where there are fewer places than queries."""
    image = np.full((height, width, 3), 130, np.uint8)
    detector = detectors["grounding-dino"]
    (found,) = detector.candidates([detector.preprocess(image)], [(width, height)], labels("cat", "dog"))
    assert np.isfinite(found.scores).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [width, height, width, height]).all()


def test_labels_beyond_the_models_tokens_are_shared_out_evenly(
    detectors: dict[str, Detector], loaded: Callable[[str], Any]
) -> None:
    name = "grounding-dino"
    words = [f"{first}{second}" for first in "abcdefgh" for second in "abcdefghijklm"]
    label_set = labels(*words)  # 104 labels of two tokens and a full stop: 312 of 256 tokens
    passes = detectors[name].embed(label_set)
    assert [len(words.prompts) for words in passes] == [52, 52]
    assert sorted(np.concatenate([words.prompts for words in passes])) == list(range(104))
    report = compare(loaded(name), detectors[name], [label_set], pictures=("small",))
    assert report.passed, report.table()
    assert {row.chosen for row in report.rows} == {120}


def encoded(detector: Detector, *names: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features and positions of the tokens of the first of some labels."""
    (words,) = detector.embed(labels(*names))
    assert words.spans is not None
    span = slice(*words.spans[0])
    return words.inputs["text_features"][span], words.inputs["text_positions"][span]


def test_a_labels_tokens_do_not_depend_on_its_neighbours(detectors: dict[str, Detector]) -> None:
    detector = detectors["grounding-dino"]
    alone = encoded(detector, "remote control")
    among = encoded(detector, "remote control", "teddy bear", "cat", "zebra")
    for one, other in zip(alone, among, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert len(alone[0]) > 1
    assert np.abs(encoded(detector, "teddy bear")[0] - encoded(detector, "bear")[0][-1]).max() > 0.1


def test_a_label_with_full_stops_is_one_label(
    detectors: dict[str, Detector], loaded: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers takes it for three; here transformers' model is told what belongs together."""
    detector, model = detectors["grounding-dino"], loaded("grounding-dino")
    names = ("u. s. bear", "cat")
    (words,) = detector.embed(labels(*names))
    #       [CLS]  u . s . bear  .  cat  .  [SEP]
    assert words.spans is not None
    assert words.spans.tolist() == [[1, 6], [7, 8]]
    groups = torch.tensor([0, 1, 1, 1, 1, 1, 1, 2, 2, 3])
    places = torch.tensor([0, 0, 1, 2, 3, 4, 5, 0, 1, 0])
    monkeypatch.setattr(
        modeling_grounding_dino,
        "generate_masks_with_special_tokens_and_transfer_map",
        lambda ids, special_tokens: ((groups[:, None] == groups)[None], places[None]),
    )
    image = draw("square")
    inputs = model.processor(text="u. s. bear. cat.", images=image, return_tensors="pt")
    assert inputs["input_ids"].shape[1] == 10
    with torch.inference_mode():
        outputs = model.model(**inputs)
    scores = outputs.logits[0].sigmoid().numpy()
    expected = np.stack([scores[:, 1:6].max(axis=1), scores[:, 7:8].max(axis=1)], axis=1)

    pixels = np.asarray(image)
    (found,) = detector.candidates(
        [detector.preprocess(pixels)], [image.size], labels(*names), floor=1e-9, nms_iou=1.0
    )
    assert len(found) == expected.size
    np.testing.assert_allclose(found.scores, expected[found.queries, found.labels], atol=1e-4)


def test_parity_sees_weights_that_differ(
    bundles: dict[str, Bundle], loaded: Callable[[str], Any], tmp_path: Path
) -> None:
    """Of the part that chooses, and of the part that moves the chosen boxes."""
    from tests.integration.test_parity import alter, signed_anew

    name = "grounding-dino"
    for part, columns in (("enc_output.bias", "place"), ("decoder.layers.1.fc2.bias", "score")):
        folder = tmp_path / part
        shutil.copytree(bundles[name].path, folder)
        alter(folder / "image.onnx", part, lambda bias: bias + 0.05 * (np.arange(len(bias)) % 2))
        detector = Detector.load(signed_anew(bundles[name], folder), threads=1)
        report = compare(loaded(name), detector, [labels("cat", "dog")], pictures=("small",))
        assert not report.passed
        assert all(getattr(row, columns) > 1e-3 for row in report.rows)


def test_a_backbone_whose_library_is_missing_is_named(sources: dict[str, Path], tmp_path: Path) -> None:
    """The published OmDet-Turbo has its backbone from timm."""
    try:
        import timm  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ModuleNotFoundError:
        pass
    else:
        pytest.skip("timm is installed")
    source = shutil.copytree(sources["omdet-turbo"], tmp_path / "published")
    config = json.loads((source / "config.json").read_text())
    config["backbone_config"] = {"model_type": "timm_backbone", "backbone": "swin_tiny_patch4_window7_224"}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match=r"published: .*timm.*install what it names"):
        export(str(source), tmp_path / "bundle", choices())
