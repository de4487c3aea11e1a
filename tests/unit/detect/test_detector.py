import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from boxdrop.detect import Bundle, Detector
from boxdrop.detect.families import Words
from boxdrop.domain.detections import Detections
from boxdrop.domain.errors import BoxdropError, BundleError, LabelSetError
from boxdrop.domain.labels import Label, LabelSet

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


def quarters(width: int, height: int, *colours: tuple[int, int, int]) -> NDArray[Any]:
    """An image whose quarters (top left, top right, bottom left, bottom right) have these colours."""
    image = np.zeros((height, width, 3), np.uint8)
    half, middle = width // 2, height // 2
    for i, colour in enumerate(colours):
        top, left = (i // 2) * middle, (i % 2) * half
        image[top : top + middle, left : left + half] = colour
    return image


def labels(text: str) -> LabelSet:
    return LabelSet.from_short_form(text)


def same(one: Detections, other: Detections) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("boxes", "scores", "labels", "prompts", "queries")
    )


def test_it_finds_what_is_named_where_it_is(toy_detector: Detector) -> None:
    image = quarters(40, 20, RED, BLACK, BLACK, GREEN)
    (found,) = toy_detector.detect([image], labels("green, red, blue"))
    assert sorted(found.labels) == [0, 1]
    by_label = dict(zip(found.labels, found.boxes, strict=True))
    np.testing.assert_allclose(by_label[1], [0, 0, 20, 10], atol=1e-4)
    np.testing.assert_allclose(by_label[0], [20, 10, 40, 20], atol=1e-4)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-5)), atol=0.03)


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40)])
def test_boxes_of_a_padded_image_are_pixels_of_the_image(
    padding_detector: Detector, width: int, height: int
) -> None:
    """The lower or right half of the square is padding: quarters of the square are halves of the image."""
    image = np.zeros((height, width, 3), np.uint8)
    half = width // 2 if width > height else height // 2
    if width > height:
        image[:, :half], image[:, half:] = RED, GREEN
        second = [half, 0, width, height]
    else:
        image[:half], image[half:] = RED, GREEN
        second = [0, half, width, height]
    (found,) = padding_detector.detect([image], labels("red, green"))
    by_label = dict(zip(found.labels, found.boxes, strict=True))
    np.testing.assert_allclose(by_label[0], [0, 0, 20, 20], atol=1e-4)
    np.testing.assert_allclose(by_label[1], second, atol=1e-4)


def test_a_batch_answers_what_single_images_answer(toy_detector: Detector) -> None:
    random = np.random.default_rng(0)
    images = [
        random.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((9, 30), (64, 64), (50, 7), (1, 1))
    ]
    label_set = labels("red, green, blue, white")
    together = toy_detector.detect(images, label_set)
    for image, batched in zip(images, together, strict=True):
        assert same(toy_detector.detect([image], label_set)[0], batched)
    assert all(same(a, b) for a, b in zip(toy_detector.detect(images, label_set), together, strict=True))


def test_prompts_of_one_label_merge_by_their_best_and_say_which(toy_detector: Detector) -> None:
    label_set = LabelSet((Label("reddish", ("crimson", "red"), id=0), Label("green", ("green",), id=1)))
    (found,) = toy_detector.detect([quarters(8, 8, RED)], label_set)
    assert list(found.labels) == [0]
    assert label_set.prompts[found.prompts[0]] == "red"
    (alone,) = toy_detector.detect([quarters(8, 8, RED)], labels("red"))
    assert found.scores[0] == alone.scores[0]


def test_labels_have_thresholds_of_their_own(toy_detector: Detector) -> None:
    image = quarters(8, 8, (255, 0, 0), (150, 0, 0))  # logits 5 and about 0.9
    strict = LabelSet((Label("red", ("red",), threshold=0.9),))
    assert len(toy_detector.detect([image], labels("red"))[0]) == 2
    assert len(toy_detector.detect([image], strict)[0]) == 1
    assert toy_detector.thresholds(labels("red, green")) == [0.5, 0.5]
    assert toy_detector.thresholds(strict) == [0.9]


def test_candidates_reach_down_to_the_floor(toy_detector: Detector) -> None:
    image = quarters(8, 8, (255, 0, 0), (77, 0, 0), (25, 0, 0))  # scores 0.99, 0.12, 0.02
    found = toy_detector.candidates(toy_detector.preprocess(image)[None], [(8, 8)], labels("red"))
    assert len(found[0]) == 2
    assert found[0].scores.min() >= 0.05
    all_of_them = toy_detector.candidates(
        toy_detector.preprocess(image)[None], [(8, 8)], labels("red"), floor=1e-6
    )
    assert len(all_of_them[0]) == 4


def test_a_threshold_below_the_floor_is_refused_in_words(toy_detector: Detector) -> None:
    label_set = LabelSet((Label("red", ("red",), threshold=0.01),))
    with pytest.raises(LabelSetError, match=r"label 'red': threshold 0\.01 is below 0\.05, the floor"):
        toy_detector.detect([quarters(8, 8, RED)], label_set)
    with pytest.raises(LabelSetError, match="below"):
        toy_detector.detect([], label_set)


def test_a_prompt_that_is_too_long_is_refused_by_its_label(toy_detector: Detector) -> None:
    label_set = LabelSet((Label("fine", ("red",), id=0), Label("wordy", ("red red red red red",), id=1)))
    with pytest.raises(
        LabelSetError, match=r"label 'wordy': .* is 5 tokens long, but detector toy-owlvit reads only 4"
    ):
        toy_detector.embed(label_set)


def test_query_embeddings_are_computed_once_for_a_label_set(
    toy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector.load(toy())
    runs: list[LabelSet] = []
    encode = detector._encode

    def counted(label_set: LabelSet) -> tuple[Words, ...]:
        runs.append(label_set)
        return encode(label_set)

    monkeypatch.setattr(detector, "_encode", counted)
    first = detector.embed(labels("red, green"))
    assert detector.embed(labels("red, green")) is first
    # Thresholds and names are no part of it.
    renamed = LabelSet((Label("r", ("red",), 0.7, 0), Label("g", ("green",), None, 1)))
    assert detector.embed(renamed) is first
    detector.embed(labels("green, red"))
    assert len(runs) == 2
    with pytest.raises(ValueError, match="read-only"):
        first[0].inputs["query_embeds"][0] = 0


def test_embeddings_of_old_label_sets_are_let_go(
    toy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxdrop.detect.detector._LABEL_SETS_KEPT", 2)
    detector = Detector.load(toy())
    names = ("red", "green", "blue")
    first = detector.embed(labels(names[0]))
    for name in names:
        detector.embed(labels(name))
    assert len(detector._embedded) == 2
    assert detector.embed(labels(names[0])) is not first


def test_many_prompts_are_encoded_in_parts_with_the_same_result(
    toy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector.load(toy())
    (whole,) = detector.embed(labels("red, green, blue, white, crimson"))
    monkeypatch.setattr("boxdrop.detect.families.owl._PROMPTS_AT_ONCE", 2)
    (again,) = Detector.load(detector.bundle).embed(labels("red, green, blue, white, crimson"))
    assert np.array_equal(again.inputs["query_embeds"], whole.inputs["query_embeds"])


@pytest.mark.parametrize("graph", ["image.onnx", "text.onnx"])
def test_a_broken_graph_is_an_error_on_load_and_not_later(toy: Callable[..., Path], graph: str) -> None:
    bundle = Bundle.load(toy())
    (bundle.path / graph).write_bytes(b"no graph")
    with pytest.raises(BundleError, match=rf"{graph}: ONNX Runtime .* cannot load it"):
        Detector(bundle)


def test_an_answer_that_is_not_finite_names_the_image(toy: Callable[..., Path]) -> None:
    detector = Detector.load(toy(poisoned_by_black=True))
    fine, black = quarters(8, 8, RED), quarters(8, 8, BLACK)
    with pytest.raises(BoxdropError, match=r"image 1 of the batch: .* not finite"):
        detector.detect([fine, black, fine], labels("red"))
    assert len(detector.detect([fine], labels("red"))[0]) == 1


def test_cuda_that_is_not_there_is_an_error(toy: Callable[..., Path]) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is CUDA here")
    with pytest.raises(BoxdropError, match=r"CUDA was requested.*onnxruntime-gpu"):
        Detector.load(toy(), provider="cuda")


def test_cuda_that_falls_back_to_the_processor_is_an_error(
    toy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens where the CUDA build is installed and its libraries do not load."""

    class FallenBack:
        def __init__(self, path: str, options: object, providers: list[str]) -> None:
            assert providers == ["CUDAExecutionProvider"]

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", FallenBack)
    with pytest.raises(BoxdropError, match=r"fell back to the CPU"):
        Detector.load(toy(), provider="cuda")


def test_an_unknown_provider_is_an_error(toy: Callable[..., Path]) -> None:
    with pytest.raises(BoxdropError, match=r"provider 'tpu' is unknown; use one of cpu, cuda"):
        Detector.load(toy(), provider="tpu")  # type: ignore[arg-type]


def test_the_model_version_changes_when_answers_may(toy_detector: Detector) -> None:
    version = toy_detector.model_version(labels("red, green"))
    name, digest = version.split("@")
    assert name == "toy-owlvit"
    assert len(digest) == 8
    assert toy_detector.model_version(labels("green, red")) == version
    assert (
        toy_detector.model_version(
            LabelSet((Label("red", ("red",), 0.9), Label("green", ("green",), None, 1)))
        )
        == version
    )
    assert toy_detector.model_version(labels("red")) != version
    assert (
        toy_detector.model_version(
            LabelSet((Label("red", ("crimson",)), Label("green", ("green",), None, 1)))
        )
        != version
    )


def test_no_images_give_no_detections(toy_detector: Detector) -> None:
    assert toy_detector.detect([], labels("red")) == []
    assert toy_detector.candidates(np.zeros((0, 3, 8, 8), np.float32), [], labels("red")) == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(toy_detector: Detector, image: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"an image must be uint8 \[height, width, 3\]"):
        toy_detector.preprocess(image)


def test_sizes_must_fit_the_batch(toy_detector: Detector) -> None:
    with pytest.raises(ValueError, match="1 images but 2 sizes"):
        toy_detector.candidates(np.zeros((1, 3, 8, 8), np.float32), [(8, 8), (8, 8)], labels("red"))


def test_a_view_of_an_image_is_an_image(toy_detector: Detector) -> None:
    """Flipped and cropped arrays are not contiguous."""
    image = quarters(16, 16, RED, BLACK, BLACK, GREEN)
    flipped = image[::-1, ::-1]
    for detected in (flipped, np.ascontiguousarray(flipped)):
        (found,) = toy_detector.detect([detected], labels("red, green"))
        assert dict(zip(found.labels, found.queries, strict=True)) == {0: 3, 1: 0}


def test_threads_may_share_a_detector(toy: Callable[..., Path]) -> None:
    detector = Detector.load(toy())
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (30, 20 + i, 3), dtype=np.uint8) for i in range(16)]
    sets = [labels("red, green"), labels("blue"), labels("white, red")]
    barrier = threading.Barrier(4)

    def work(_: int) -> list[Detections]:
        barrier.wait()
        return [detector.detect([image], label_set)[0] for image in images for label_set in sets]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, range(4)))
    for answer in answers[1:]:
        assert all(same(a, b) for a, b in zip(answers[0], answer, strict=True))


def test_a_path_a_string_and_a_bundle_load_alike(toy: Callable[..., Path]) -> None:
    folder: Path = toy()
    for given in (folder, str(folder), Bundle.load(folder)):
        assert Detector.load(given, threads=1).bundle.name == "toy-owlvit"
