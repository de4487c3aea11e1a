"""Training of the demo detector against the clock: so many minutes, whatever the machine.

The recipe (measured in `docs/decisions`): Muon for the matrices of both encoders and AdamW for the rest,
quality focal loss with the IoU as target, softmax over names on the patches of an object, L1 and GIoU for
boxes, an exponential average of the weights, bfloat16 and compiled layers.

The file is long because a recipe is read from its first line to its last.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import OwlViTForObjectDetection, PreTrainedTokenizerFast

from model_export.demo.art import TRAINED_STYLES, UNSEEN_STYLES
from model_export.demo.glimpses import WINDOW, cut_glimpses, predict_window, window_patches
from model_export.demo.muon import StackedMuon
from model_export.demo.names import index_of, names
from model_export.demo.network import (
    GRID,
    PATCH,
    build_network,
    configure,
    corners,
    embed_queries,
    normalise_pixels,
    predict,
    predict_kept,
    save_model,
)
from model_export.demo.pools import IMAGE_SIZE, MOST_OBJECTS, Pool, keep_first_names, open_pool
from model_export.demo.scenes import (
    EVALUATION,
    EVALUATION_PHOTOS,
    EVALUATION_SIZES,
    Scene,
    draw_scene,
    load_art,
)
from model_export.demo.scoring import Found, average_precision, suppress
from model_export.demo.tokenizer import encode_prompts, load_tokenizer, train_tokenizer
from model_export.demo.vocabulary import PhraseBook, teach_vocabulary, write_phrase_book

CHECK_SEED = 4_000_000
"""Scenes of the periodic check; `evaluate.py` uses others."""


@dataclass(frozen=True)
class Settings:
    """What a training run is told."""

    minutes: float = 75.0
    rate: float = 1.0
    """Of both learning rates; half for a model that has learnt already."""
    first_names: int = 0
    """Teach only so many names, in the order of `names.names()`, fruit first: a smaller detector in less
    time. 0: all."""
    seed: int = 20261123
    batch: int = 16
    """Scenes a step. Eight were ahead for 90 seconds; later, naming got worse with them (step 1000 on)."""
    muon_rate: float = 0.02
    adam_rate: float = 1e-3
    weight_decay: float = 0.05
    warm_up: int = 60
    vocabulary_steps: int = 500
    glimpse_minutes: float = 5.0
    glimpses: int = 96
    """Glimpses a step of the first minutes."""
    average: float = 0.998
    core: float = 0.7
    """An object's patches are those whose centre lies in this central share of its box."""
    check_minutes: float = 10.0
    check_scenes: int = 120
    kept_patches: int = 100
    """Patches of a scene that are looked at, those of objects before others: half the work
    (https://arxiv.org/abs/2208.07220)."""
    all_patches_from: float = 0.8
    """Share of the budget from which on every patch is looked at."""
    threads: int = 0
    """0 leaves it to torch."""
    compile: bool = True


@dataclass(frozen=True)
class Batch:
    """One step's pictures and answers; K is the number of patches that have an object."""

    images: Tensor
    """float32 [B, 3, 224, 224], normalised."""
    queries: Tensor
    """float32 [Q, 128], unit vectors; the first are the names in order, the rest name nothing."""
    rows: Tensor
    """int64 [K] picture of a patch."""
    patches: Tensor
    """int64 [K] patch."""
    labels: Tensor
    """int64 [K] class id."""
    boxes: Tensor
    """float32 [K, 4] xyxy, shares of the image."""
    weights: Tensor
    """float32 [K], mean 1: patches of large objects count less."""
    window: Tensor | None = None
    """int64 [patches]: which patches of the grid the pictures are, where they are glimpses."""
    kept: Tensor | None = None
    """int64 [B, kept]: which patches are looked at, where not all are. `patches` then counts these."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        moved = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Batch(
            **{name: None if tensor is None else tensor.to(device) for name, tensor in moved.items()}
        )


_CENTRES = (np.arange(GRID, dtype=np.float32) + 0.5) * PATCH
_CENTRE_X, _CENTRE_Y = (axis.reshape(-1) for axis in np.meshgrid(_CENTRES, _CENTRES))


def assign_patches(boxes: NDArray[np.float32], core: float) -> NDArray[np.int64]:
    """Which object each patch answers for: boxes [N, 4] (xyxy, pixels of 224, topmost last) → [GRID²], -1
    for none.

    A patch belongs to the topmost object whose central part holds its centre. Every object gets at least the
    patch nearest to its middle, unless that is the last one of another object.
    """
    owner = np.full(GRID * GRID, -1, np.int64)
    middles, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * core
    for index, ((x, y), (half_width, half_height)) in enumerate(zip(middles, halves, strict=True)):
        owner[(np.abs(_CENTRE_X - x) <= half_width) & (np.abs(_CENTRE_Y - y) <= half_height)] = index
    for index, (x, y) in enumerate(middles):
        if not (owner == index).any():
            nearest = int(np.argmin((_CENTRE_X - x) ** 2 + (_CENTRE_Y - y) ** 2))
            if owner[nearest] < 0 or (owner == owner[nearest]).sum() > 1:
                owner[nearest] = index
    return owner


def expose(rng: np.random.Generator, images: NDArray[np.uint8]) -> Tensor:
    """Pictures [B, H, W, 3] as the network takes them, each with another brightness and tint."""
    gain = rng.uniform(0.8, 1.2, (len(images), 1, 1, 1)) * rng.uniform(0.92, 1.08, (len(images), 3, 1, 1))
    offset = rng.uniform(-0.3, 0.3, (len(images), 1, 1, 1))
    return normalise_pixels(
        torch.from_numpy(images),
        torch.from_numpy(gain.astype(np.float32)),
        torch.from_numpy(offset.astype(np.float32)),
    )


def _weigh(rows: NDArray[np.int64], owner: NDArray[np.int64]) -> Tensor:
    """One over the root of how many patches an object has, scaled to mean 1, float32 [K]."""
    _, place, counts = np.unique(rows * MOST_OBJECTS + owner, return_inverse=True, return_counts=True)
    weights = counts[place] ** -0.5
    return torch.from_numpy((weights / weights.mean() if len(weights) else weights).astype(np.float32))


_WINDOW_X, _WINDOW_Y = (
    axis.reshape(-1) for axis in np.meshgrid(*[(np.arange(WINDOW, dtype=np.float32) + 0.5) * PATCH] * 2)
)


def make_glimpses(rng: np.random.Generator, pool: Pool, count: int, book: PhraseBook, core: float) -> Batch:
    """Single objects, all seen through one window of the grid."""
    images, boxes, labels = cut_glimpses(rng, pool, count)
    middles, halves = (
        (boxes[:, :2] + boxes[:, 2:]) / 2,
        np.maximum((boxes[:, 2:] - boxes[:, :2]) / 2 * core, PATCH / 2),
    )
    inside = (np.abs(_WINDOW_X - middles[:, :1]) <= halves[:, :1]) & (
        np.abs(_WINDOW_Y - middles[:, 1:]) <= halves[:, 1:]
    )
    rows, patches = np.nonzero(inside & (labels >= 0)[:, None])
    row, column = (int(place) for place in rng.integers(GRID - WINDOW + 1, size=2))
    corner = np.array([column, row, column, row], np.float32) * PATCH
    return Batch(
        images=expose(rng, images),
        queries=book.deal(rng),
        rows=torch.from_numpy(rows),
        patches=torch.from_numpy(patches),
        labels=torch.from_numpy(labels[rows]),
        boxes=torch.from_numpy((boxes[rows] + corner) / IMAGE_SIZE),
        weights=_weigh(rows, np.zeros_like(rows)),
        window=window_patches(row, column),
    )


def choose_patches(
    rng: np.random.Generator, owner: NDArray[np.int64], boxes: NDArray[np.float32], count: int
) -> NDArray[np.int64]:
    """Which patches of a scene to look at, in order: those that answer for an object first, then those that
    touch a box, then any.

    Args:
        rng: decides among equals.
        owner: of `assign_patches`.
        boxes: float32 [N, 4], xyxy, pixels of 224.
        count: how many.
    """
    reach = PATCH / 2
    touched = np.zeros(GRID * GRID, bool)
    for left, top, right, bottom in boxes:
        touched |= (np.abs(_CENTRE_X - (left + right) / 2) < (right - left) / 2 + reach) & (
            np.abs(_CENTRE_Y - (top + bottom) / 2) < (bottom - top) / 2 + reach
        )
    rank = np.where(owner >= 0, 0, np.where(touched, 1, 2)) + rng.random(GRID * GRID)
    return np.sort(np.argpartition(rank, count)[:count])


def make_batch(
    rng: np.random.Generator,
    pool: Pool,
    indices: NDArray[np.int64],
    book: PhraseBook,
    core: float,
    kept_patches: int = GRID * GRID,
) -> Batch:
    """Scenes of the pool, some mirrored, with another exposure, and new prompts."""
    images = np.stack([pool.image(index) for index in indices])
    boxes, labels = pool.boxes[indices].copy(), pool.labels[indices]
    mirrored = rng.random(len(indices)) < 0.5
    images[mirrored] = images[mirrored][:, :, ::-1]
    flipped = boxes[mirrored]
    boxes[mirrored] = np.stack(
        [IMAGE_SIZE - flipped[..., 2], flipped[..., 1], IMAGE_SIZE - flipped[..., 0], flipped[..., 3]], -1
    )
    present = [b[found >= 0] for b, found in zip(boxes, labels, strict=True)]
    owners = np.stack([assign_patches(objects, core) for objects in present])
    kept = None
    if kept_patches < GRID * GRID:
        kept = np.stack(
            [choose_patches(rng, o, b, kept_patches) for o, b in zip(owners, present, strict=True)]
        )
        owners = np.take_along_axis(owners, kept, axis=1)
    rows, patches = np.nonzero(owners >= 0)
    owner = owners[rows, patches]
    return Batch(
        images=expose(rng, images),
        queries=book.deal(rng),
        rows=torch.from_numpy(rows),
        patches=torch.from_numpy(patches),
        labels=torch.from_numpy(labels[rows, owner].astype(np.int64)),
        boxes=torch.from_numpy(boxes[rows, owner] / IMAGE_SIZE),
        weights=_weigh(rows, owner),
        kept=None if kept is None else torch.from_numpy(kept),
    )


def stream_glimpses(
    settings: Settings, pool: Pool, book: PhraseBook, stop: threading.Event
) -> queue.Queue[Batch]:
    """Glimpses from a thread of its own, until told to stop; deterministic by (seed, step)."""
    batches: queue.Queue[Batch] = queue.Queue(3)

    def produce() -> None:
        torch.set_num_threads(1)
        step = 0
        while not stop.is_set():
            rng = np.random.default_rng([settings.seed, 6, step])
            batch = make_glimpses(rng, pool, settings.glimpses, book, settings.core)
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    batches.put(batch, timeout=1)
                    break
            step += 1

    threading.Thread(target=produce, daemon=True).start()
    return batches


def stream_batches(
    settings: Settings, pool: Pool, book: PhraseBook, first_step: int, whole: threading.Event
) -> queue.Queue[Batch]:
    """Batches from a thread of its own, three ahead; deterministic by (seed, step).

    Once `whole` is set, they are looked at whole.
    """
    batches: queue.Queue[Batch] = queue.Queue(3)

    def produce() -> None:
        torch.set_num_threads(1)  # of this thread: the other cores are the step's
        per_epoch = len(pool) // settings.batch
        step = first_step
        while True:
            epoch, place = divmod(step, per_epoch)
            order = np.random.default_rng([settings.seed, 2, epoch]).permutation(len(pool))
            while place < per_epoch:
                rng = np.random.default_rng([settings.seed, 3, step])
                indices = order[place * settings.batch : (place + 1) * settings.batch]
                kept = GRID * GRID if whole.is_set() else settings.kept_patches
                batches.put(make_batch(rng, pool, indices, book, settings.core, kept))
                step, place = step + 1, place + 1

    threading.Thread(target=produce, daemon=True).start()
    return batches


def box_overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU (https://arxiv.org/abs/1902.09630) of paired boxes, [K, 4] xyxy → [K], [K]."""
    inner = (
        (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2]))
        .clamp(min=0)
        .prod(-1)
    )
    union = (first[:, 2:] - first[:, :2]).prod(-1) + (second[:, 2:] - second[:, :2]).prod(-1) - inner
    hull = (torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])).prod(-1)
    iou = inner / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def quality_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Summed quality focal loss (https://arxiv.org/abs/2006.04388): the score shall tell how well the box
    fits.
    """
    missed = (target - logits.detach().sigmoid()).abs()
    # missed ** 1.5, without pow, which is slow
    return (
        functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * missed * missed.sqrt()
    ).sum()


def losses(network: OwlViTForObjectDetection, batch: Batch, half: bool = True) -> dict[str, Tensor]:
    """The parts of the loss, and shares to watch (`iou`, `right`: of the patches with an object)."""
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=half):
        if batch.kept is not None:
            logits, boxes = predict_kept(network, batch.images, batch.queries, batch.kept)
        elif batch.window is None:
            logits, boxes = predict(network, batch.images, batch.queries)
        else:
            logits, boxes = predict_window(network, batch.images, batch.queries, batch.window)
    answered = corners(boxes[batch.rows, batch.patches])
    iou, giou = box_overlap(answered, batch.boxes)
    # Clamped from below, or a name would have to wait for its box to be learnt.
    target = torch.zeros_like(logits)
    target[batch.rows, batch.patches, batch.labels] = iou.detach().clamp(0.2, 1.0)
    focal = quality_focal(logits, target) / max(1, len(batch.labels))
    if not len(batch.labels):
        nothing = logits.sum() * 0
        return {"focal": focal, "naming": nothing, "box": nothing, "iou": nothing, "right": nothing}
    named = logits[batch.rows, batch.patches]
    naming = (functional.cross_entropy(named, batch.labels, reduction="none") * batch.weights).mean()
    box = ((5 * (answered - batch.boxes).abs().sum(-1) + 2 * (1 - giou)) * batch.weights).mean()
    return {
        "focal": focal,
        "naming": naming,
        "box": box,
        "iou": iou.mean(),
        "right": (named.argmax(-1) == batch.labels).float().mean(),
    }


def make_optimizers(network: OwlViTForObjectDetection, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the image encoder's matrices, AdamW for everything else but the text side, which stands
    still.
    """
    matrices, decayed, plain = [], [], []
    for name, parameter in network.named_parameters():
        if ".text_" in name or name == "owlvit.logit_scale" or "visual_projection" in name:
            parameter.requires_grad_(False)
        elif "encoder.layers" in name and parameter.ndim == 2:
            matrices.append(parameter)
        elif parameter.ndim > 1 and "embedding" not in name:
            decayed.append(parameter)
        else:
            plain.append(parameter)
    muon = StackedMuon(matrices, settings.muon_rate, settings.weight_decay)
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=settings.adam_rate, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    return [muon, adam]


def set_rates(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Every group's learning rate to a share of what it began with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("first_lr", group["lr"]) * share


def rate_share(step: int, elapsed: float, warm_up: int) -> float:
    """Warm-up by steps, then a cosine over the time budget (elapsed: 0 to 1) down to 2 %."""
    return min(1.0, (step + 1) / warm_up) * (0.49 * (1 + math.cos(math.pi * min(1.0, elapsed))) + 0.02)


@torch.no_grad()
def blend(average: OwlViTForObjectDetection, network: OwlViTForObjectDetection, keep: float) -> None:
    """Move the averaged weights a little towards the trained ones."""
    torch._foreach_lerp_(
        [p.data for p in average.parameters()], [p.data for p in network.parameters()], 1 - keep
    )


@torch.no_grad()
def find(
    network: OwlViTForObjectDetection,
    images: NDArray[np.uint8],
    sizes: NDArray[np.float32],
    prompts: NDArray[np.int64],
    floor: float = 0.02,
) -> list[Found]:
    """Detect with the torch model: images uint8 [N, 224, 224, 3], sizes [N, 2] (width, height) of the
    originals.
    """
    device = next(network.parameters()).device
    queries = embed_queries(network, torch.from_numpy(prompts).to(device))
    found = []
    for start in range(0, len(images), 20):
        pixels = normalise_pixels(torch.from_numpy(images[start : start + 20]).to(device))
        logits, boxes = predict(network, pixels, queries)
        scores, places = logits.sigmoid().cpu().numpy(), corners(boxes).cpu().numpy()
        for score, place, size in zip(scores, places, sizes[start : start + 20], strict=True):
            patch, label = np.nonzero(score > floor)
            scaled = np.clip(place[patch] * np.tile(size, 2), 0, np.tile(size, 2)).astype(np.float32)
            found.append(suppress(Found(scaled, score[patch, label], label)))
    return found


def squash(scenes: Iterable[Scene]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Scenes as the image processor resizes them (bicubic, aspect not kept), and their widths and heights."""
    images, sizes = [], []
    for scene in scenes:
        image = Image.fromarray(scene.image)
        images.append(np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)))
        sizes.append(image.size)
    return np.stack(images), np.array(sizes, np.float32)


class Check:
    """A small evaluation on the way: scenes of the trained styles and of the unseen one."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast, count: int, taught: int) -> None:
        self.taught = taught
        self.prompts = encode_prompts(
            tokenizer.backend_tokenizer, [f"a photo of a {name.text}" for name in names()[:taught]]
        )
        self.sets = {}
        for title, styles in (("known", TRAINED_STYLES), ("unseen", UNSEEN_STYLES)):
            art = load_art(folder, styles, EVALUATION_PHOTOS, 256)
            scenes = [
                draw_scene([CHECK_SEED, i], art, EVALUATION, *EVALUATION_SIZES[i % len(EVALUATION_SIZES)])
                for i in range(count)
            ]
            kept = [scene.labels < taught for scene in scenes]
            answers = [
                Scene(s.image[:1, :1], s.boxes[k], s.labels[k]) for s, k in zip(scenes, kept, strict=True)
            ]
            self.sets[title] = (answers, *squash(scenes))

    def run(self, network: OwlViTForObjectDetection) -> dict[str, float]:
        """mAP50 and the three fruits' AP on both sets."""
        network.eval()
        figures = {}
        for title, (scenes, images, sizes) in self.sets.items():
            precision = average_precision(scenes, find(network, images, sizes, self.prompts), self.taught)
            figures[f"{title} mAP50"] = float(np.nanmean(precision))
            for fruit in ("pineapple", "banana", "apple"):
                figures[f"{title} {fruit}"] = float(precision[index_of(fruit)])
        return figures


def train(folder: Path, settings: Settings, resume: bool = False, start: Path | None = None) -> Path:
    """Train for `settings.minutes` of wall clock, checks included; returns the Hugging Face folder.

    `start` is a Hugging Face folder of an earlier training of the same names, to go on from with fresh
    scenes: its words stand, and glimpses are left out.

    Every check writes `hf/` (averaged weights), `checkpoint.pt` (everything, for `resume`) and a line to
    `curve.jsonl`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    taught = settings.first_names or len(names())
    pool = keep_first_names(open_pool(folder), taught)
    earlier = folder / "hf" if resume else start
    tokenizer = load_tokenizer(earlier) if earlier else train_tokenizer()
    network = build_network(configure(tokenizer), settings.seed).to(device)
    started = time.monotonic()
    if start:
        known = OwlViTForObjectDetection.from_pretrained(start, dtype=torch.float32)
        network.load_state_dict(known.state_dict())
    if not earlier:
        teach_vocabulary(network, tokenizer, settings.seed, settings.vocabulary_steps)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizers = make_optimizers(network, settings)
    step, spent = 0, time.monotonic() - started
    checkpoint_file = folder / "checkpoint.pt"
    if resume:
        state = torch.load(checkpoint_file, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        for optimizer, stored in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        step, spent = state["step"], state["spent"]
    check = Check(folder, tokenizer, settings.check_scenes, taught)
    # Fused attention's bfloat16 backward takes 82 ms a layer on a CPU (torch 2.13), the plain one 6.
    network.set_attn_implementation("eager")
    if settings.compile:
        for layer in network.owlvit.vision_model.encoder.layers:
            layer.compile(dynamic=False)
    book = write_phrase_book(average, tokenizer, settings.seed).of_first_names(taught)
    print(
        f"{len(pool)} scenes, {taught} names, {network.num_parameters():,} parameters, {device}, "
        f"{asdict(settings)}",
        flush=True,
    )
    started, budget = time.monotonic() - spent, settings.minutes * 60
    next_check = (spent // (settings.check_minutes * 60) + 1) * settings.check_minutes * 60
    smooth: dict[str, float] = {}

    def keep(finished: bool) -> None:
        figures = check.run(average)
        save_model(average, tokenizer, folder / "hf")
        state: dict[str, Any] = {
            "network": network.state_dict(), "average": average.state_dict(), "step": step,
            "optimizers": [optimizer.state_dict() for optimizer in optimizers], "spent": time.monotonic() -
            started,
        }  # fmt: skip
        torch.save(state, checkpoint_file.with_suffix(".partial"))
        checkpoint_file.with_suffix(".partial").replace(checkpoint_file)
        line: dict[str, Any] = {
            "minutes": round((time.monotonic() - started) / 60, 2),
            "step": step,
            "finished": finished,
        }
        if start:
            line["start"] = start.name
        line |= {key: round(value, 4) for key, value in {**smooth, **figures}.items()}
        with (folder / "curve.jsonl").open("a") as curve:
            curve.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def step_on(batch: Batch, share: float) -> None:
        nonlocal step
        set_rates(optimizers, share * settings.rate)
        parts = losses(network, batch.to(device))
        loss = 2 * parts["focal"] + parts["naming"] + parts["box"]
        for optimizer in optimizers:
            optimizer.zero_grad()
        if torch.isfinite(loss):
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 1.0)
            for optimizer in optimizers:
                optimizer.step()
        else:
            print(f"step {step}: the loss is not finite, skipped", flush=True)
        step += 1
        blend(average, network, min(settings.average, (1 + step) / (10 + step)))
        if step % 10 == 0:
            for name, value in parts.items():
                smooth[name] = 0.9 * smooth.get(name, value.item()) + 0.1 * value.item()
        if step in (20, 100) or step % 250 == 0:
            now = time.monotonic() - started
            print(
                f"step {step} at {now / 60:.1f} min: " + " ".join(f"{k} {v:.3f}" for k, v in smooth.items()),
                flush=True,
            )

    network.train()
    if not earlier:
        stop, until = threading.Event(), time.monotonic() - started + settings.glimpse_minutes * 60
        glimpses = stream_glimpses(settings, pool, book, stop)
        while time.monotonic() - started < until:
            step_on(glimpses.get(), min(1.0, (step + 1) / settings.warm_up))
        stop.set()
        print(f"scenes from step {step}", flush=True)
    whole = threading.Event()
    batches = stream_batches(settings, pool, book, step, whole)
    while (elapsed := time.monotonic() - started) < budget:
        if elapsed > settings.all_patches_from * budget:
            whole.set()
        step_on(batches.get(), rate_share(step, elapsed / budget, settings.warm_up))
        if time.monotonic() - started > next_check:
            keep(finished=False)
            network.train()
            next_check += settings.check_minutes * 60
    keep(finished=True)
    return folder / "hf"
