"""Export of detectors with fixed classes: RT-DETR, RT-DETRv2, D-FINE, DEIMv2, LW-DETR, RF-DETR, DETR,
Deformable DETR, YOLOS.

They have the same outputs: logits of the classes per box, and boxes relative to the image. Most choose their
boxes among positions of the image first; the graph then also gives this choice, for parity.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers.image_transforms import center_to_corners_format
from transformers.models.deformable_detr.image_processing_pil_deformable_detr import (
    DeformableDetrImageProcessorPil,
)
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

from boxdrop.detect.bundle import Contract, Preprocess
from model_export.errors import ExportError
from model_export.families.loading import colour, load_weights
from model_export.graphs import Graph
from model_export.reference import Reference
from model_export.source import Origin

_UNNAMED: Final = ("n/a", "none", "")
"""Names in published configurations of class numbers that COCO left out."""

_YOLOS_SIDE: Final = 16  # YOLOS' processor cuts sides to multiples of its patches


@dataclass(frozen=True, slots=True)
class FixedFamily:
    """A family of detectors with fixed classes.

    Attributes:
        name: its ``model_type``.
        processor: the image processor that computes with Pillow. RF-DETR's own needs torchvision; its
            settings are those of Deformable DETR's.
        softmax: whether the scores are a softmax with a last class for nothing, or a sigmoid each.
        threshold, floor: the defaults of its bundles: transformers' threshold, and a tenth of it.
    """

    name: str
    processor: Any
    softmax: bool = False
    threshold: float = 0.5
    floor: float = 0.05

    def load(self, origin: Origin) -> "FixedModel":
        """Load model and processor.

        Raises:
            ExportError: a part is missing or not supported.
        """
        model = load_weights(transformers.AutoModelForObjectDetection, origin)
        try:
            processor = self.processor.from_pretrained(origin.location, revision=origin.commit or "main")
        except OSError:
            raise ExportError(
                f"{origin.id}: has no preprocessor_config.json, which says how images are resized; write it "
                "with processor.save_pretrained()"
            ) from None
        return FixedModel(self, origin, model, processor)


FIXED_FAMILIES: Final = {
    family.name: family
    for family in (
        FixedFamily("rt_detr", RTDetrImageProcessorPil),
        FixedFamily("rt_detr_v2", RTDetrImageProcessorPil),
        FixedFamily("d_fine", RTDetrImageProcessorPil),
        FixedFamily("deimv2", RTDetrImageProcessorPil),
        FixedFamily("lw_detr", DeformableDetrImageProcessorPil),
        FixedFamily("rf_detr", DeformableDetrImageProcessorPil),
        FixedFamily("deformable_detr", DeformableDetrImageProcessorPil),
        FixedFamily("detr", DetrImageProcessorPil, softmax=True),
        FixedFamily("yolos", YolosImageProcessorPil, softmax=True),
    )
}


class FixedModel:
    """A loaded model of a `FixedFamily`.

    Attributes:
        classes: names in the order of the logits; "" for numbers without a name.
        contract: of the graph.
    """

    def __init__(self, family: FixedFamily, origin: Origin, model: Any, processor: Any) -> None:
        self.family = family
        self.origin = origin
        self.model = model
        self.processor = processor
        self.classes = _names(model.config)
        self.preprocess = self._preprocess()
        focal = not family.softmax and getattr(model.config, "use_focal_loss", True)
        self.contract = Contract(
            input="pixel_values",
            boxes="boxes",
            scores="logits",
            box_format="cxcywh",
            box_unit="fraction",
            score_kind="logit" if focal else "softmax",
            no_object=None if focal else "last",
        )
        if family.name == "rf_detr":
            _fix_positions(model, self.preprocess)

    @property
    def resizes(self) -> bool:
        """Whether images of different sizes stay so."""
        return self.preprocess.resize == "short-edge"

    def image_graph(self) -> Graph:
        """pixel_values [B, 3, H, W] to logits [B, N, C], boxes [B, N, 4] and its choice, if it has one."""
        height, width = (192, 256) if self.resizes else (self.preprocess.height, self.preprocess.width)
        pixels = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        module = _Traced(self.model)
        with torch.inference_mode():
            chooses = len(module(pixels)) > 2
        outputs = ("logits", "boxes") + (("place_logits", "places", "chosen") if chooses else ())
        sides = {2: "height", 3: "width"} if self.resizes else {}
        return Graph(
            module=module,
            inputs={"pixel_values": pixels},
            outputs=outputs,
            dynamic={
                "pixel_values": {0: "images"} | sides,
                **{name: {0: "images"} for name in outputs[:2]},
                **{name: {0: "images", 1: name} for name in outputs[2:4]},
                **{name: {0: "images"} for name in outputs[4:]},
            },
            heads=tuple(
                weights
                for name, weights in self.model.named_parameters()
                if any(head in name for head in ("class_", "bbox_", "score_head", "reference"))
            ),
        )

    @torch.inference_mode()
    def reference(self, image: Image.Image, texts: list[str]) -> Reference:
        """transformers' processor and model, and its conversion of boxes and scores.

        Args:
            image: one image.
            texts: names of classes.
        """
        inputs = self.processor(images=image, return_tensors="pt")
        logits, boxes, *choice = _Traced(self.model)(inputs["pixel_values"])
        softmax = self.contract.score_kind == "softmax"
        scores = logits[0].softmax(-1)[:, :-1] if softmax else logits[0].sigmoid()
        asked = scores[:, [self.classes.index(text) for text in texts]]
        best, prompts = asked.max(dim=1)
        size = torch.tensor([image.width, image.height] * 2)
        return Reference(
            pixels=inputs["pixel_values"][0].numpy(),
            scores=asked.numpy(),
            best_scores=best.numpy(),
            best_prompts=prompts.numpy(),
            boxes=(center_to_corners_format(boxes[0]) * size).numpy(),
            place_logits=choice[0][0].numpy() if choice else None,
            places=choice[1][0].numpy() if choice else None,
            chosen=choice[2][0].numpy() if choice else None,
        )

    def _preprocess(self) -> Preprocess:
        settings = self.processor
        size = dict(settings.size)
        size = {key: value for key, value in size.items() if value}
        odd = (
            not settings.do_resize
            or not settings.do_rescale
            or abs(settings.rescale_factor - 1 / 255) > 1e-9
            or Image.Resampling(settings.resample) != Image.Resampling.BILINEAR
            or set(size) not in ({"height", "width"}, {"shortest_edge", "longest_edge"})
        )
        if odd:
            raise ExportError(
                f"{self.origin.id}: its preprocessor_config.json has steps that a bundle cannot represent; "
                f"supported are those of the published {self.family.name} models"
            )
        plain = "height" in size
        normalised = bool(settings.do_normalize)
        return Preprocess(
            height=size["height"] if plain else size["shortest_edge"],
            width=size["width"] if plain else size["longest_edge"],
            resize="bilinear" if plain else "short-edge",
            mean=colour(settings.image_mean) if normalised else (0.0, 0.0, 0.0),
            std=colour(settings.image_std) if normalised else (1.0, 1.0, 1.0),
            multiple=_YOLOS_SIDE if self.family.name == "yolos" and not plain else 1,
        )


def _names(config: Any) -> tuple[str, ...]:
    """The classes' names by their numbers; of equal names the first keeps it."""
    names: list[str] = []
    for number in range(len(config.id2label)):
        name = str(config.id2label[number]).strip()
        names.append("" if name.lower() in _UNNAMED or name in names else name)
    return tuple(names)


def _fix_positions(model: Any, settings: Preprocess) -> None:
    """Compute RF-DETR's position embeddings for its one size now: ONNX has no antialiased bicubic resize."""
    embeddings = model.model.backbone.backbone.embeddings
    patch = embeddings.patch_size
    patches = (settings.height // patch) * (settings.width // patch)
    hidden = embeddings.position_embeddings.shape[-1]
    with torch.no_grad():
        fixed = embeddings.interpolate_pos_encoding(
            torch.zeros(1, patches + 1, hidden), settings.height, settings.width
        ).detach()
    embeddings.interpolate_pos_encoding = lambda *_: fixed


class _Traced(torch.nn.Module):
    """The model's logits and boxes; if it chooses among places, also their scores, names and the choice."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        kept: list[tuple[Tensor, Tensor]] = []
        topk, as_tensor, linspace = torch.topk, torch.as_tensor, torch.linspace

        def watched(values: Tensor, *arguments: Any, **options: Any) -> Any:
            result = topk(values, *arguments, **options)
            kept.append((values, result[1]))
            return result

        def traced_sizes(data: Any, **options: Any) -> Tensor:
            """Sizes of feature maps, which as_tensor would turn into constants of the example image."""
            if isinstance(data, list) and data and isinstance(data[0], tuple | torch.Size):
                return torch.stack([torch.stack([as_tensor(side) for side in size]) for size in data])
            return as_tensor(data, **options)

        def traced_centres(start: Any, end: Any, steps: Any, **options: Any) -> Tensor:
            """Centres of cells, whose number linspace would freeze."""
            if isinstance(steps, Tensor) and start == 0.5:
                return torch.arange(steps, **options) + 0.5
            return linspace(start, end, steps, **options)

        torch.topk = watched
        if torch.jit.is_tracing():
            torch.as_tensor, torch.linspace = traced_sizes, traced_centres
        try:
            outputs = self.model(pixel_values=pixel_values)
        finally:
            torch.topk, torch.as_tensor, torch.linspace = topk, as_tensor, linspace
        if not kept:
            return outputs.logits, outputs.pred_boxes
        scores, chosen = kept[0]
        places = torch.arange(scores.shape[1])[None].expand(scores.shape[0], -1)
        return outputs.logits, outputs.pred_boxes, scores, places, chosen
