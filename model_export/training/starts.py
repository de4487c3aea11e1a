"""The model that a training starts from: one that was trained before, or a small one from nothing."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from boxdrop.training.plan import DRAWN, SMALL, STARTS, Plan, TrainingError
from model_export.errors import ExportError
from model_export.families.fixed import FIXED_FAMILIES
from model_export.source import Origin, resolve

TRAINABLE: Final = ("d_fine", "rt_detr", "rt_detr_v2", "deimv2", "lw_detr", "rf_detr")
"""Families that see every image in one square, so that images of a batch need no padding."""

SMALL_SIDE: Final = 128
DRAWN_FOLDER: Final = Path(__file__).parent / "drawn-s"
"""The start that was trained on drawn scenes; see `model_export.training.drawn`."""

_DIFFERENT: Final = 0.1
"""Of random weights, which keep new classes apart; see `_begin_heads`."""

_STAGES: Final = ["stage2", "stage3", "stage4"]
_CHANNELS: Final = [24, 32, 64, 96]
_WIDTH: Final = 64
_SMALL: Final[dict[str, Any]] = {
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        "embedding_size": _CHANNELS[0],
        "hidden_sizes": _CHANNELS,
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_features": _STAGES,
    },
    "freeze_backbone_batch_norms": False,
    "encoder_in_channels": _CHANNELS[1:],
    "encoder_hidden_dim": _WIDTH,
    "encoder_ffn_dim": 2 * _WIDTH,
    "encoder_attention_heads": 4,
    "d_model": _WIDTH,
    "decoder_in_channels": [_WIDTH] * 3,
    "decoder_ffn_dim": 2 * _WIDTH,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "num_queries": 30,
    "num_denoising": 30,
    "hidden_expansion": 0.5,
}
"""RT-DETRv2 with a ResNet of four blocks: 0.69 million parameters, for drawings and for tests."""


def start_model(plan: Plan) -> tuple[Any, Any, Origin | None]:
    """The model with the plan's classes, its image processor, and where it comes from.

    Raises:
        TrainingError: it cannot be loaded, or is of a family that cannot be trained here.
    """
    torch.manual_seed(plan.seed)
    if plan.start == SMALL:
        return *small_model(plan.classes, plan.side or SMALL_SIDE), None
    try:
        origin = resolve(_places().get(plan.start, plan.start))
    except ExportError as error:
        raise TrainingError(str(error)) from None
    if origin.model_type not in TRAINABLE:
        raise TrainingError(
            f"{origin.id}: its model_type is {origin.model_type!r}; boxdrop can train {', '.join(TRAINABLE)}"
        )
    where: dict[str, Any] = {"revision": origin.commit or "main"}
    try:
        model = transformers.AutoModelForObjectDetection.from_pretrained(
            origin.location,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            **_numbered(plan.classes),
            **where,
        )
        processor = FIXED_FAMILIES[origin.model_type].processor.from_pretrained(origin.location, **where)
        before = transformers.AutoModelForObjectDetection.from_pretrained(origin.location, **where)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{origin.id}: cannot be loaded: {str(error).splitlines()[0]}") from None
    _begin_heads(model, before)
    size = dict(processor.size)
    if not {"height", "width"} <= {name for name, value in size.items() if value}:
        raise TrainingError(f"{origin.id}: it keeps the shape of images, which cannot be trained here")
    if plan.side is not None:
        processor.size = {"height": plan.side, "width": plan.side}
    return model, processor, origin


@torch.no_grad()
def _begin_heads(model: Any, before: Any) -> None:
    """Begin the scores of the new classes with the mean of the earlier ones.

    What all earlier classes have in common is how an object differs from the ground. With random scores a
    model would first choose random places of the image, and learn anew where objects are.
    """
    known = dict(before.named_parameters())
    for name, weights in model.named_parameters():
        earlier = known.get(name)
        if earlier is None or earlier.shape == weights.shape or "denoising" in name:
            continue
        mean = earlier.float().mean(dim=0, keepdim=True)
        weights.mul_(_DIFFERENT if weights.ndim > 1 else 0.0).add_(mean)


def _places() -> dict[str, str]:
    """Where the starts with names are: on the hub, or here."""
    return {**STARTS, DRAWN: str(DRAWN_FOLDER)}


def small_model(classes: Sequence[str], side: int) -> tuple[Any, Any]:
    """A small RT-DETRv2 with random weights, and its image processor.

    Args:
        classes: their names.
        side: of the square in which it sees images, pixels.
    """
    config = transformers.AutoConfig.for_model("rt_detr_v2", **_SMALL, **_numbered(classes))
    model = transformers.AutoModelForObjectDetection.from_config(config)
    return model, FIXED_FAMILIES["rt_detr_v2"].processor(size={"height": side, "width": side})


def _numbered(classes: Sequence[str]) -> dict[str, Any]:
    """The classes as a configuration of transformers has them."""
    names = dict(enumerate(classes))
    return {"id2label": names, "label2id": {name: number for number, name in names.items()}}


def parameter_groups(model: Any, plan: Plan) -> list[dict[str, Any]]:
    """Parameters by learning rate and decay: the backbone learns slowly, norms and biases do not decay."""
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, weights in model.named_parameters():
        if weights.requires_grad:
            rate = plan.rate * (0.1 if "backbone" in name else 1.0)
            decay = 0.0 if weights.ndim < 2 else 1e-4
            groups.setdefault((rate, decay), []).append(weights)
    return [{"params": each, "lr": rate, "weight_decay": decay} for (rate, decay), each in groups.items()]


@contextlib.contextmanager
def evaluated(model: Any) -> Iterator[Any]:
    """The model, meanwhile in evaluation mode."""
    trains = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(trains)


def card_of(origin: Origin | None, folder: Path) -> None:
    """Write the licence of the model that it was trained from where the export finds it."""
    licence = "apache-2.0" if origin is None else origin.licence
    front = f"---\nlicense: {licence}\n---\n" if licence else ""
    (folder / "README.md").write_text(front, encoding="utf-8")
