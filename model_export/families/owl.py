"""Export of OWL-ViT and OWLv2."""

from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil
from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil

from boxdrop.detect.bundle import Preprocess, Text
from model_export.errors import ExportError
from model_export.families.loading import colour, load_model
from model_export.graphs import Graph
from model_export.reference import Reference
from model_export.source import Origin

_PARTS: Final = {
    "owlvit": (transformers.OwlViTForObjectDetection, OwlViTImageProcessorPil, transformers.OwlViTProcessor),
    "owlv2": (transformers.Owlv2ForObjectDetection, Owlv2ImageProcessorPil, transformers.Owlv2Processor),
}
_FILTERS: Final = {Image.Resampling.BICUBIC: "bicubic", Image.Resampling.BILINEAR: "bilinear"}


@dataclass(slots=True)
class OwlFamily:
    """See `model_export.families.ExportFamily`.

    The template is the sentence of OWL's papers and of transformers' examples; transformers' pipeline,
    which gives the bare name, scores lower. The threshold is transformers'.
    """

    name: str
    template: str = "a photo of a {}"
    threshold: float = 0.1
    floor: float = 0.02

    def load(self, origin: Origin) -> "Owl":
        """Load model, tokenizer and the processor that computes with Pillow.

        Raises:
            ExportError: a part is missing, or they do not fit together.
        """
        model_class, image_processor_class, processor_class = _PARTS[self.name]
        model, tokenizer = load_model(model_class, origin)
        revision = origin.commit or "main"
        size = model.config.vision_config.image_size
        try:
            image_processor = image_processor_class.from_pretrained(origin.location, revision=revision)
        except (
            OSError
        ):  # a folder without preprocessor_config.json: the family's own values, at the model's size
            image_processor = image_processor_class(size={"height": size, "width": size})
        return Owl(self.name, origin, model, processor_class(image_processor, tokenizer))


class Owl:
    """See `model_export.families.LoadedModel`."""

    def __init__(self, family: str, origin: Origin, model: Any, processor: Any) -> None:
        self.family = family
        self.origin = origin
        self.model = model
        self.processor = processor
        self.preprocess = self._preprocess()

    def _preprocess(self) -> Preprocess:
        settings = self.processor.image_processor
        size = self.model.config.vision_config.image_size
        height, width = settings.size["height"], settings.size["width"]
        if (height, width) != (size, size):
            raise ExportError(
                f"{self.origin.id}: its processor makes {width}×{height} pixels, but its model takes "
                f"{size}×{size}"
            )
        padded = self.family == "owlv2"
        resample = Image.Resampling(settings.resample)
        plain = settings.do_resize and settings.do_rescale and settings.do_normalize
        cropped = settings.do_center_crop and dict(settings.crop_size) != {"height": size, "width": size}
        odd = (
            not plain
            or cropped
            or abs(settings.rescale_factor - 1 / 255) > 1e-9
            or (padded and not settings.do_pad)
            or (not padded and resample not in _FILTERS)
        )
        if odd:
            raise ExportError(
                f"{self.origin.id}: its preprocessor_config.json has steps that a bundle cannot represent; "
                f"supported are those of the published {self.family} models"
            )
        return Preprocess(
            height=height,
            width=width,
            resize="pad-square" if padded else _FILTERS[resample],
            mean=colour(settings.image_mean),
            std=colour(settings.image_std),
        )

    def text(self, template: str) -> Text:
        """How prompts become tokens.

        Raises:
            ExportError: the tokenizer does not fit the text encoder.
        """
        tokenizer, config = self.processor.tokenizer, self.model.config.text_config
        if len(tokenizer) > config.vocab_size:
            raise ExportError(
                f"{self.origin.id}: its tokenizer has {len(tokenizer)} tokens, its model {config.vocab_size}"
            )
        if tokenizer.pad_token_id is None:
            raise ExportError(f"{self.origin.id}: its tokenizer names no pad token")
        length = min(int(tokenizer.model_max_length), config.max_position_embeddings)
        return Text(max_length=length, pad_id=int(tokenizer.pad_token_id), template=template)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, without padding or truncation: the detector checks the length."""
        tokenizer = Tokenizer.from_str(self.processor.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def image_graph(self) -> Graph:
        """pixel_values [B, 3, H, W], query_embeds [Q, D] to logits [B, N, Q], boxes [B, N, 4] (cxcywh, "
        "0–1)."""
        size = self.model.config.vision_config.image_size
        embedded = torch.randn(3, self.model.config.text_config.hidden_size, generator=_seeded())
        return Graph(
            module=_ImageSide(self.model),
            inputs={
                "pixel_values": torch.randn(2, 3, size, size, generator=_seeded()),
                "query_embeds": embedded / embedded.norm(dim=-1, keepdim=True),
            },
            outputs=("logits", "boxes"),
            dynamic={
                "pixel_values": {0: "images"},
                "query_embeds": {0: "prompts"},
                "logits": {0: "images", 2: "prompts"},
                "boxes": {0: "images"},
            },
            heads=(*self.model.class_head.parameters(), *self.model.box_head.parameters()),
        )

    def text_graph(self) -> Graph:
        """input_ids, attention_mask, int64 [Q, max_length], to query_embeds, float32 [Q, D] of length 1."""
        text = self.text("{}")
        tokens = self.processor.tokenizer(
            ["a", "a cat"], padding="max_length", max_length=text.max_length, return_tensors="pt"
        )
        return Graph(
            module=_TextSide(self.model),
            inputs={"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]},
            outputs=("query_embeds",),
            dynamic={
                "input_ids": {0: "prompts"},
                "attention_mask": {0: "prompts"},
                "query_embeds": {0: "prompts"},
            },
        )

    @torch.inference_mode()
    def reference(self, image: Image.Image, texts: list[str]) -> Reference:
        """transformers' processor, model and post-processing, which takes the maximum over the prompts."""
        length = self.text("{}").max_length
        inputs = self.processor(text=[texts], images=image, max_length=length, return_tensors="pt")
        outputs = self.model(**inputs)
        # Without a threshold, rows stay in the order of the model's boxes, so they can be matched.
        (found,) = self.processor.post_process_grounded_object_detection(
            outputs, threshold=-1.0, target_sizes=[(image.height, image.width)]
        )
        return Reference(
            pixels=inputs["pixel_values"][0].numpy(),
            scores=outputs.logits[0].sigmoid().numpy(),
            best_scores=found["scores"].numpy(),
            best_prompts=found["labels"].numpy(),
            boxes=found["boxes"].numpy(),
        )


class _ImageSide(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, pixel_values: torch.Tensor, query_embeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        feature_map, _ = self.model.image_embedder(pixel_values)
        features = feature_map.flatten(1, 2)
        logits, _ = self.model.class_predictor(features, query_embeds.unsqueeze(0), None)
        return logits, self.model.box_predictor(features, feature_map)


class _TextSide(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = getattr(model, model.base_model_prefix)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        features = self.encoder.get_text_features(input_ids=input_ids, attention_mask=attention_mask)
        embedded: torch.Tensor = features.pooler_output
        return embedded / torch.linalg.norm(embedded, ord=2, dim=-1, keepdim=True)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
