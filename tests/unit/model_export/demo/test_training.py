"""The recipe's parts: which patch answers for what, the optimizer, and a loss that falls."""

import numpy as np
import pytest
import torch

from model_export.demo.muon import StackedMuon, orthogonalise
from model_export.demo.names import names
from model_export.demo.network import (
    GRID,
    PATCH,
    build_network,
    configure,
    corners,
    normalise_pixels,
    predict,
    predict_kept,
)
from model_export.demo.pools import MOST_OBJECTS, Pool
from model_export.demo.tokenizer import train_tokenizer
from model_export.demo.train import (
    Settings,
    assign_patches,
    box_overlap,
    choose_patches,
    losses,
    make_batch,
    make_optimizers,
    rate_share,
)
from model_export.demo.vocabulary import PhraseBook


def _box(*values: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.array([values], np.float32)


def test_the_middle_of_a_box_answers_for_it() -> None:
    owner = assign_patches(_box(32, 32, 128, 128), core=0.7).reshape(GRID, GRID)
    assert owner[5, 5] == 0
    assert owner[2, 2] == -1
    assert owner[10, 10] == -1


def test_a_tiny_object_gets_the_nearest_patch() -> None:
    owner = assign_patches(_box(30, 30, 34, 34), core=0.7)
    assert (owner == 0).sum() == 1
    assert owner.reshape(GRID, GRID)[30 // PATCH : 34 // PATCH + 1, 30 // PATCH : 34 // PATCH + 1].max() == 0


def test_the_topmost_object_takes_the_patch() -> None:
    boxes = np.concatenate([_box(0, 0, 200, 200), _box(80, 80, 140, 140)])
    owner = assign_patches(boxes, core=0.7).reshape(GRID, GRID)
    assert owner[6, 6] == 1
    assert owner[3, 3] == 0


def _squares(count: int) -> Pool:
    """Scenes of one coloured square each, which has the scene's number as its class."""
    rng = np.random.default_rng(0)
    images = np.full((count, 224, 224, 3), 200, np.uint8)
    boxes, labels = (
        np.zeros((count, MOST_OBJECTS, 4), np.float32),
        np.full((count, MOST_OBJECTS), -1, np.int16),
    )
    for scene in range(count):
        left, top = rng.integers(10, 120, 2)
        images[scene, top : top + 80, left : left + 80] = rng.integers(0, 256, 3)
        boxes[scene, 0], labels[scene, 0] = (left, top, left + 80, top + 80), scene
    return Pool([images], boxes, labels)


def test_patches_of_objects_are_looked_at_before_others() -> None:
    boxes = np.concatenate([_box(32, 32, 128, 128), _box(150, 150, 190, 200)])
    owner = assign_patches(boxes, core=0.7)
    kept = choose_patches(np.random.default_rng(0), owner, boxes, 60)
    assert len(set(kept)) == 60
    assert list(kept) == sorted(kept)
    assert set(np.flatnonzero(owner >= 0)) <= set(kept)
    assert 2 * GRID + 2 in kept  # a corner of the first box, which answers for nothing
    few = choose_patches(np.random.default_rng(0), owner, boxes, 5)
    assert (owner[few] >= 0).all()


def test_a_part_of_the_patches_is_answered_as_the_whole_is() -> None:
    network = build_network(configure(train_tokenizer()), seed=0).eval()
    network.set_attn_implementation("eager")
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    queries = torch.nn.functional.normalize(torch.randn(5, 128), dim=-1)
    everything = torch.arange(GRID * GRID).expand(2, -1)
    with torch.no_grad():
        for whole, part in zip(
            predict(network, pixels, queries), predict_kept(network, pixels, queries, everything), strict=True
        ):
            assert torch.allclose(whole, part, atol=1e-5)


def test_a_batch_of_kept_patches_asks_for_the_same_objects() -> None:
    pool = _squares(count=4)
    book = PhraseBook(torch.randn(len(names()), 2, 128), torch.randn(4, 128))
    whole = make_batch(np.random.default_rng(1), pool, np.arange(4), book, 0.7)
    part = make_batch(np.random.default_rng(1), pool, np.arange(4), book, 0.7, 90)
    assert part.kept is not None
    assert part.kept.shape == (4, 90)
    assert torch.equal(part.labels, whole.labels)
    assert torch.equal(part.boxes, whole.boxes)
    assert torch.equal(part.kept[part.rows, part.patches], whole.patches)


def test_overlap_of_equal_boxes_is_one() -> None:
    box = torch.tensor([[0.1, 0.1, 0.5, 0.5]])
    iou, giou = box_overlap(box, box)
    assert iou.item() == pytest.approx(1)
    assert giou.item() == pytest.approx(1)


def test_corners_of_a_centred_box() -> None:
    assert corners(torch.tensor([0.5, 0.5, 0.2, 0.4])).tolist() == pytest.approx([0.4, 0.3, 0.6, 0.7])


def test_rates_warm_up_and_end_near_zero() -> None:
    assert rate_share(0, 0.0, 100) == pytest.approx(0.01)
    assert rate_share(200, 0.0, 100) == pytest.approx(1)
    assert rate_share(200, 1.0, 100) == pytest.approx(0.02)


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 32, 48)).float())
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_stacked_muon_steps_like_torchs() -> None:
    torch.manual_seed(0)
    mine = [torch.nn.Parameter(torch.randn(24, 16)) for _ in range(3)]
    theirs = [torch.nn.Parameter(matrix.detach().clone()) for matrix in mine]
    ours = StackedMuon(mine, lr=0.02, weight_decay=0.05)
    torchs = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.05, momentum=0.95, adjust_lr_fn="original")
    for _ in range(4):
        for one, other in zip(mine, theirs, strict=True):
            one.grad = torch.randn(24, 16)
            other.grad = one.grad.clone()
        ours.step()
        torchs.step()
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, atol=2e-3)  # bfloat16 products, in another order


def test_pixels_are_normalised_as_the_image_processor_does() -> None:
    from transformers import OwlViTImageProcessorPil

    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    processor = OwlViTImageProcessorPil(size={"height": 224, "width": 224})
    expected = processor(images=image, return_tensors="np")["pixel_values"]
    assert np.abs(normalise_pixels(torch.from_numpy(image[None])).numpy() - expected).max() < 1e-5


def test_the_loss_falls_on_a_few_scenes() -> None:
    network = build_network(configure(train_tokenizer()), seed=0)
    network.set_attn_implementation("eager")
    points = torch.nn.functional.normalize(torch.randn(len(names()), 2, 128), dim=-1)
    book = PhraseBook(points, torch.nn.functional.normalize(torch.randn(8, 128), dim=-1))
    optimizers = make_optimizers(network, Settings())
    batch = make_batch(np.random.default_rng(0), _squares(4), np.arange(4), book, 0.7)
    history = []
    for _ in range(8):
        parts = losses(network, batch, half=False)
        loss = 2 * parts["focal"] + parts["naming"] + parts["box"]
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.8 * history[0]
