"""Export of OmDet-Turbo.

Like Grounding DINO, it selects its boxes among positions of the image. But its images have one size, and its
words are encoded once: an embedding per prompt, and the tokens of a task, "Detect cat, dog.", which accompany
the queries. The weights and the backbone are transformers' own; its decoder, which freezes the batch size
when traced (``len``), is reimplemented.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

from boxdrop.detect.bundle import Preprocess, Text
from boxdrop.detect.families.omdet import task_of
from model_export.errors import ExportError
from model_export.families.attention import attend, sample
from model_export.families.loading import colour, load_model
from model_export.graphs import Graph
from model_export.reference import NOWHERE, Reference
from model_export.source import Origin


@dataclass(slots=True)
class OmDetFamily:
    """See `model_export.families.ExportFamily`. The threshold is transformers'."""

    name: str = "omdet-turbo"
    template: str = "{}"
    threshold: float = 0.3
    floor: float = 0.06

    def load(self, origin: Origin) -> "OmDet":
        """Load model, tokenizer and the processor that computes with Pillow.

        Raises:
            ExportError: a part is missing.
        """
        model, tokenizer = load_model(transformers.OmDetTurboForObjectDetection, origin)
        images = DetrImageProcessorPil.from_pretrained(origin.location, revision=origin.commit or "main")
        return OmDet(origin, model, images, tokenizer)


class OmDet:
    """See `model_export.families.LoadedModel`.

    transformers' own processor is not used: it requires torchvision, only for its suppression. Its earlier
    steps, image processor and tokenizer, are done here in the same way.
    """

    def __init__(self, origin: Origin, model: Any, images: Any, tokenizer: Any) -> None:
        self.origin = origin
        self.model = model
        self.images = images
        self.words = tokenizer
        self.preprocess = self._preprocess()

    def _preprocess(self) -> Preprocess:
        settings = self.images
        height, width = settings.size.get("height"), settings.size.get("width")
        if (
            not (settings.do_resize and settings.do_normalize and height and width)
            or settings.resample != Image.Resampling.BILINEAR
            or (settings.do_rescale and abs(settings.rescale_factor - 1 / 255) > 1e-9)
        ):
            raise ExportError(
                f"{self.origin.id}: its preprocessor_config.json has steps that a bundle cannot represent; "
                "supported are those of the published omdet-turbo models"
            )
        # The published models' mean and deviation are in levels of 255.
        unit = 1.0 if settings.do_rescale else 255.0
        red, green, blue = (value / unit for value in colour(settings.image_mean))
        of_red, of_green, of_blue = (value / unit for value in colour(settings.image_std))
        return Preprocess(height, width, "bilinear", (red, green, blue), (of_red, of_green, of_blue))

    def text(self, template: str) -> Text:
        """How prompts become tokens.

        Raises:
            ExportError: the tokenizer does not fit the text encoder.
        """
        config = self.model.config.text_config
        if len(self.words) > config.vocab_size:
            raise ExportError(
                f"{self.origin.id}: its tokenizer has {len(self.words)} tokens, its model {config.vocab_size}"
            )
        if self.words.pad_token_id is None:
            raise ExportError(f"{self.origin.id}: its tokenizer names no pad token")
        length = min(77, config.max_position_embeddings)  # 77 is written into transformers' processor
        return Text(max_length=length, pad_id=int(self.words.pad_token_id), template=template)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, without padding or truncation: the detector checks the length."""
        tokenizer = Tokenizer.from_str(self.words.backend_tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        length = self.text("{}").max_length
        return dict(
            self.words(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        )

    def text_graph(self) -> Graph:
        """input_ids [P, L] and task_ids [1, L] to the embeddings for selecting and scoring boxes, both [P,
        D], and the task."""
        return Graph(
            module=_TextSide(self.model),
            inputs={
                "input_ids": self._tokens(["a", "a cat"])["input_ids"],
                "task_ids": self._tokens(["Detect a, a cat."])["input_ids"],
            },
            outputs=("choosing", "scoring", "task"),
            dynamic={
                "input_ids": {0: "prompts"},
                "choosing": {0: "prompts"},
                "scoring": {0: "prompts"},
            },
        )

    def image_graph(self) -> Graph:
        """pixel_values [B, 3, H, W] and the words to logits [B, Q, P] and boxes [B, Q, 4] (cxcywh, 0–1).

        ``place_logits``, ``places`` [B, N] and ``chosen`` [B, Q] are for parity, as in Grounding DINO.
        """
        seeded = torch.Generator().manual_seed(0)
        width = self.model.config.decoder_hidden_dim
        size = (self.preprocess.height, self.preprocess.width)
        return Graph(
            module=_ImageSide(self.model, size),
            inputs={
                "pixel_values": torch.randn(2, 3, *size, generator=seeded),
                "choosing": torch.nn.functional.normalize(torch.randn(3, width, generator=seeded), dim=1),
                "scoring": torch.nn.functional.normalize(torch.randn(3, width, generator=seeded), dim=1),
                "task": torch.randn(5, width, generator=seeded),
            },
            outputs=("logits", "boxes", "place_logits", "places", "chosen"),
            dynamic={
                "pixel_values": {0: "images"},
                "choosing": {0: "prompts"},
                "scoring": {0: "prompts"},
                "task": {0: "tokens"},
                "logits": {0: "images", 2: "prompts"},
                "boxes": {0: "images"},
                "place_logits": {0: "images"},
                "places": {0: "images"},
                "chosen": {0: "images"},
            },
            heads=tuple(_heads(self.model)),
        )

    @torch.inference_mode()
    def reference(self, image: Image.Image, texts: list[str]) -> Reference:
        """transformers' image processor, tokenizer and model; the maximum over the prompts, nothing
        suppressed."""
        pixels = self.images(image, return_tensors="pt")["pixel_values"]
        classes, task = self._tokens(texts), self._tokens([task_of(texts)])
        outputs = self.model(
            pixel_values=pixels,
            classes_input_ids=classes["input_ids"],
            classes_attention_mask=classes["attention_mask"],
            tasks_input_ids=task["input_ids"],
            tasks_attention_mask=task["attention_mask"],
            classes_structure=torch.tensor([len(texts)]),
        )
        scores = outputs.decoder_class_logits[0].sigmoid()
        best = scores.max(dim=1)
        centres, sides = outputs.decoder_coord_logits[0].split(2, dim=1)
        corners = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
        logits, chosen = self._choice(outputs, classes["input_ids"])
        return Reference(
            pixels=pixels[0].numpy(),
            scores=scores.numpy(),
            best_scores=best.values.numpy(),
            best_prompts=best.indices.numpy(),
            boxes=(corners * torch.tensor([image.width, image.height] * 2)).numpy(),
            places=torch.arange(len(logits)).numpy(),
            place_logits=logits.numpy(),
            chosen=chosen.numpy(),
        )

    def _choice(self, outputs: Any, classes: Tensor) -> tuple[Tensor, Tensor]:
        """The score of every position, and the selected positions, which transformers' output lacks."""
        decoder = self.model.decoder
        features, _, sizes, _ = decoder._get_encoder_input(outputs.encoder_extracted_states)
        embedded = self.model.language_backbone(classes, encode_type="class")[:, None]
        kept: list[Tensor] = []
        topk = torch.topk

        def watched(values: Tensor, *arguments: Any, **options: Any) -> Any:
            kept.append(values)
            return topk(values, *arguments, **options)

        torch.topk = watched
        try:
            decoder._get_decoder_input(features, tuple(sizes), embedded)
        finally:
            torch.topk = topk
        chosen = topk(kept[0][0], decoder.num_queries).indices
        _, proper = decoder.generate_anchors(tuple(sizes))
        return kept[0][0], torch.where(proper[0, chosen, 0], chosen, NOWHERE)


def _heads(model: Any) -> Iterator[Tensor]:
    """Weights that stay in 32 bits: those of the decoder, except for its projections of the image."""
    decoder = model.decoder
    for module in (decoder.encoder_vision_features, decoder.encoder_bbox_head, decoder.query_position_head):
        yield from module.parameters()
    yield from decoder.decoder_bbox_head.parameters()
    for layer in decoder.layers:
        values = {id(weights) for weights in layer.cross_attn.value_proj.parameters()}
        yield from (weights for weights in layer.parameters() if id(weights) not in values)


class _TextSide(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.language = model.language_backbone
        self.decoder = model.decoder
        self.cosine = model.config.class_distance_type == "cosine"

    def forward(self, input_ids: Tensor, task_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        read = self.language.model(input_ids).last_hidden_state
        at = input_ids.argmax(dim=-1)[:, None, None].expand(-1, 1, read.shape[2])
        embedded = torch.gather(read, 1, at)[:, 0] @ self.language.text_projection
        task = self.decoder.task_encoder(self.language.model(task_ids).last_hidden_state[0])
        project = getattr(self.decoder, "task_project", None)
        return (
            self._scaled(self.decoder.encoder_class_head(embedded)),
            self._scaled(self.decoder.decoder_class_head[-1](embedded)),
            task if project is None else project(task),
        )

    def _scaled(self, projected: Tensor) -> Tensor:
        """Of the length that makes a product with a direction the logit; 0.07 is written into
        transformers."""
        if not self.cosine:
            return projected
        return projected / projected.norm(dim=1, keepdim=True).clamp_min(1e-12) / 0.07


class _ImageSide(torch.nn.Module):
    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self.cosine = model.config.class_distance_type == "cosine"
        with torch.inference_mode():
            states = model.encoder(model.vision_backbone(torch.zeros(1, 3, *size))).extracted_states
        self.sizes = [(state.shape[2], state.shape[3]) for state in states]
        # At the very edge, where no box can start, transformers has infinities; their sigmoid is 1.
        anchors, self.proper = model.decoder.generate_anchors(tuple(self.sizes))
        self.anchors = torch.where(self.proper, anchors, torch.zeros_like(anchors))

    def forward(
        self, pixel_values: Tensor, choosing: Tensor, scoring: Tensor, task: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        decoder = self.model.decoder
        states = self.model.encoder(self.model.vision_backbone(pixel_values)).extracted_states
        projected = [
            layer(state) for layer, state in zip(decoder.channel_projection_layers, states, strict=True)
        ]
        features = torch.cat([state.flatten(2).transpose(1, 2) for state in projected], dim=1)
        batch = features.shape[0]

        objects = decoder.encoder_vision_features(features * self.proper.to(features.dtype))
        logits = self._logits(objects, choosing).amax(dim=-1)
        chosen = torch.topk(logits, decoder.num_queries, dim=1).indices

        def gather(values: Tensor) -> Tensor:
            return torch.gather(values, 1, chosen[..., None].expand(-1, -1, values.shape[-1]))

        embedded = gather(objects)
        start = gather(self.anchors.expand(batch, -1, -1))
        proper = gather(self.proper.to(features.dtype).expand(batch, -1, -1))
        boxes = (decoder.encoder_bbox_head(embedded) + start).sigmoid()
        boxes = torch.where(proper > 0, boxes, torch.ones_like(boxes))
        if decoder.learn_initial_query:
            embedded = decoder.tgt_embed.weight[None].expand(batch, -1, -1)

        told = task[None].expand(batch, -1, -1)
        for number, layer in enumerate(decoder.layers):
            place = decoder.query_position_head(boxes)
            asked = torch.cat([embedded + place, told], dim=1)
            joined = torch.cat([embedded, told], dim=1)
            joined = layer.norm1(joined + attend(layer.self_attn, asked, asked, joined, None))
            embedded, told = joined[:, : decoder.num_queries], joined[:, decoder.num_queries :]
            references = boxes[:, :, None].expand(-1, -1, len(self.sizes), -1)
            seen = sample(layer.cross_attn, embedded + place, features, references, self.sizes)
            embedded = layer.norm2(embedded + seen)
            embedded = layer.norm3(embedded + layer.linear2(layer.act(layer.linear1(embedded))))
            from_here = torch.log(boxes.clamp(min=1e-5) / (1 - boxes).clamp(min=1e-5))
            boxes = (decoder.decoder_bbox_head[number](embedded) + from_here).sigmoid()
        places = torch.arange(features.shape[1])[None].expand(batch, -1)
        names = torch.where(proper[..., 0] > 0, chosen, NOWHERE)
        return self._logits(embedded, scoring), boxes, logits, places, names

    def _logits(self, states: Tensor, words: Tensor) -> Tensor:
        if self.cosine:
            states = states / states.norm(dim=2, keepdim=True).clamp_min(1e-12)
        return states @ words.transpose(0, 1)
