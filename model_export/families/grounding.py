"""Export of Grounding DINO and MM-Grounding-DINO (LLMDet is one of these).

The weights are those of transformers' modules, but the computation between them is reimplemented, because
transformers' own

- freezes sizes when it is traced (``torch.as_tensor(spatial_shapes)``, paddings inside ``if``): the graph
  then runs at other sizes and is silently wrong;
- finds labels among the tokens inside the model (``isin``), which a label with a full stop breaks;
- includes the area outside an image: windows of the backbone and group norms of the projection see the
padding of a batch, so an image's boxes depend on its neighbours. Here the graph gets each image's size, and
masks the rest: a batch gives the same results as single images, and a single image the same as transformers.

The file is long because it holds a whole family: one model's layers, in the order of its computation.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)
from transformers.models.grounding_dino.modeling_grounding_dino import build_label_maps

from boxdrop.detect.bundle import Preprocess, Text
from boxdrop.detect.families.grounding import blocks
from model_export.errors import ExportError
from model_export.families.attention import attend, linear, sample
from model_export.families.loading import colour, load_model
from model_export.graphs import Graph
from model_export.reference import NOWHERE, Reference
from model_export.source import Origin

_MODELS: Final = {
    "grounding-dino": transformers.GroundingDinoForObjectDetection,
    "mm-grounding-dino": transformers.MMGroundingDinoForObjectDetection,
}
_NEVER: Final = -1e4
"""Added to the scores of masked positions; fits into 16 bits."""


@dataclass(slots=True)
class GroundingFamily:
    """See `model_export.families.ExportFamily`. The threshold is transformers'."""

    name: str
    template: str = "{}"
    threshold: float = 0.25
    floor: float = 0.05

    def load(self, origin: Origin) -> "GroundingDino":
        """Load model, tokenizer and the processor that computes with Pillow.

        Raises:
            ExportError: a part is missing or of a kind that cannot be exported.
        """
        model, tokenizer = load_model(_MODELS[self.name], origin)
        config = model.config
        if config.backbone_config.model_type != "swin" or not config.two_stage:
            raise ExportError(
                f"{origin.id}: its backbone is {config.backbone_config.model_type!r}; only two-stage models "
                "on Swin are supported, which all published ones are"
            )
        revision = origin.commit or "main"
        try:
            images = GroundingDinoImageProcessorPil.from_pretrained(origin.location, revision=revision)
        except OSError:  # no preprocessor_config.json: the family's own values
            images = GroundingDinoImageProcessorPil()
        return GroundingDino(self.name, origin, model, transformers.GroundingDinoProcessor(images, tokenizer))


class GroundingDino:
    """See `model_export.families.LoadedModel`."""

    def __init__(self, family: str, origin: Origin, model: Any, processor: Any) -> None:
        self.family = family
        self.origin = origin
        self.model = model
        self.processor = processor
        self.preprocess = self._preprocess()

    def _preprocess(self) -> Preprocess:
        settings = self.processor.image_processor
        short, long = settings.size.get("shortest_edge"), settings.size.get("longest_edge")
        plain = settings.do_resize and settings.do_rescale and settings.do_normalize and settings.do_pad
        if (
            not plain
            or not (short and long)
            or settings.resample != Image.Resampling.BILINEAR
            or abs(settings.rescale_factor - 1 / 255) > 1e-9
        ):
            raise ExportError(
                f"{self.origin.id}: its preprocessor_config.json has steps that a bundle cannot represent; "
                f"supported are those of the published {self.family} models"
            )
        return Preprocess(
            height=short,
            width=long,
            resize="short-edge",
            mean=colour(settings.image_mean),
            std=colour(settings.image_std),
        )

    def text(self, template: str) -> Text:
        """How prompts become tokens.

        Raises:
            ExportError: the tokenizer does not fit the text encoder.
        """
        tokenizer, config = self.processor.tokenizer, self.model.config
        if len(tokenizer) > config.text_config.vocab_size:
            raise ExportError(
                f"{self.origin.id}: its tokenizer has {len(tokenizer)} tokens, its model "
                f"{config.text_config.vocab_size}"
            )
        return Text(
            max_length=config.max_text_len, pad_id=int(tokenizer.pad_token_id or 0), template=template
        )

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, without padding or truncation: the detector checks the length."""
        tokenizer = Tokenizer.from_str(self.processor.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def text_graph(self) -> Graph:
        """input_ids [1, T], attention [T, T], positions [T] to text_features, text_positions [T, D]."""
        spans = torch.tensor([[1, 3], [4, 5]])
        attention, positions = blocks(7, spans.numpy())
        return Graph(
            module=_TextSide(self.model),
            inputs={
                "input_ids": torch.arange(7)[None] + 5,
                "attention": torch.from_numpy(attention),
                "positions": torch.from_numpy(positions),
            },
            outputs=("text_features", "text_positions"),
            dynamic={
                "input_ids": {1: "tokens"},
                "attention": {0: "tokens", 1: "tokens"},
                "positions": {0: "tokens"},
                "text_features": {0: "tokens"},
                "text_positions": {0: "tokens"},
            },
        )

    def image_graph(self) -> Graph:
        """Two images and the words to logits [B, Q, T] and boxes [B, Q, 4] (cxcywh, 0–1 of the image).

        ``place_logits`` and ``places`` [B, N] and ``chosen`` [B, Q] are for parity: the scores of all places
        before the best Q of them are taken, and which were taken.
        """
        dimensions = self.model.config.d_model
        seeded = torch.Generator().manual_seed(0)
        attention, _ = blocks(7, torch.tensor([[1, 3], [4, 5]]).numpy())
        return Graph(
            module=_ImageSide(self.model),
            inputs={
                "pixel_values": torch.randn(2, 3, 250, 318, generator=seeded),
                "pixel_sizes": torch.tensor([[250, 310], [243, 318]]),
                "text_features": torch.randn(7, dimensions, generator=seeded),
                "text_positions": torch.randn(7, dimensions, generator=seeded),
                "text_attention": torch.from_numpy(attention),
            },
            outputs=("logits", "boxes", "place_logits", "places", "chosen"),
            dynamic={
                "pixel_values": {0: "images", 2: "height", 3: "width"},
                "pixel_sizes": {0: "images"},
                "text_features": {0: "tokens"},
                "text_positions": {0: "tokens"},
                "text_attention": {0: "tokens", 1: "tokens"},
                "logits": {0: "images", 2: "tokens"},
                "boxes": {0: "images"},
                "place_logits": {0: "images", 1: "places"},
                "places": {0: "images", 1: "places"},
                "chosen": {0: "images"},
            },
            heads=tuple(_heads(self.model)),
        )

    @torch.inference_mode()
    def reference(self, image: Image.Image, texts: list[str]) -> Reference:
        """Run transformers' processor and model on one image; labels are matched as in its training."""
        inputs = self.processor(text=[texts], images=image, return_tensors="pt")
        if inputs["input_ids"].shape[1] > self.model.config.max_text_len:
            raise ValueError(f"{len(texts)} prompts are {inputs['input_ids'].shape[1]} tokens: split them")
        outputs = self.model(**inputs)
        scores = outputs.logits[0].sigmoid()
        # transformers' own words for its own special tokens; a tokenizer with other ids says so.
        (spans,) = build_label_maps(outputs.logits, inputs["input_ids"])
        assert len(spans) == len(texts), "a label was split: parity needs labels without full stops"
        by_prompt = torch.stack([scores[:, span.bool()].amax(dim=1) for span in spans], dim=1)
        (found,) = self.processor.image_processor.post_process_object_detection(
            outputs, threshold=-1.0, target_sizes=[(image.height, image.width)]
        )
        best = by_prompt.max(dim=1)
        logits = outputs.enc_outputs_class[0].amax(dim=-1)
        places = self._places(*inputs["pixel_values"].shape[2:])
        chosen = logits.topk(self.model.config.num_queries).indices
        proper = outputs.enc_outputs_coord_logits[0].isfinite().all(dim=-1)
        return Reference(
            pixels=inputs["pixel_values"][0].numpy(),
            scores=by_prompt.numpy(),
            best_scores=best.values.numpy(),
            best_prompts=best.indices.numpy(),
            boxes=found["boxes"].numpy(),
            places=places.numpy(),
            place_logits=logits.numpy(),
            chosen=torch.where(proper, places, NOWHERE)[chosen].numpy(),
        )

    def _places(self, height: int, width: int) -> Tensor:
        """Names of all places of an image of this size, in the order in which transformers has them."""
        config = self.model.config
        swin = config.backbone_config
        sizes = []
        side = (-(-height // swin.patch_size), -(-width // swin.patch_size))
        for stage in range(1, len(swin.depths) + 1):
            if stage in swin.out_indices:
                sizes.append(side)
            if stage < len(swin.depths):
                side = ((side[0] + 1) // 2, (side[1] + 1) // 2)
        while len(sizes) < config.num_feature_levels:
            side = ((side[0] + 1) // 2, (side[1] + 1) // 2)
            sizes.append(side)
        return torch.cat([_names(level, *size) for level, size in enumerate(sizes)])


def _heads(model: Any) -> Iterator[Tensor]:
    """Weights that stay in 32 bits: those that select and compute boxes and sampling points, and the text's,
    which are few."""
    core = model.model
    modules = [core.enc_output, core.encoder_output_bbox_embed, *model.bbox_embed, core.decoder.bbox_embed]
    modules.append(core.decoder.reference_points_head)
    modules += [layer.deformable_layer.self_attn.sampling_offsets for layer in core.encoder.layers]
    modules += [layer.text_enhancer_layer for layer in core.encoder.layers]
    modules += [layer.fusion_layer for layer in core.encoder.layers]
    for module in modules:
        yield from module.parameters()
    for layer in core.decoder.layers:  # except for its projections of the image
        values = {id(weights) for weights in layer.encoder_attn.value_proj.parameters()}
        yield from (weights for weights in layer.parameters() if id(weights) not in values)


class _TextSide(torch.nn.Module):
    """BERT, its projection, and the sine positions that every layer of the encoder adds."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.bert = model.model.text_backbone
        self.projection = model.model.text_projection
        self.dimensions = model.config.d_model

    def forward(self, input_ids: Tensor, attention: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.bert.embeddings(
            input_ids=input_ids, token_type_ids=torch.zeros_like(input_ids), position_ids=positions[None]
        )
        mask = _additive(attention)[None, None]
        encoded = self.bert.encoder(embedded, attention_mask=mask).last_hidden_state
        return self.projection(encoded)[0], _sines(positions[:, None].to(encoded.dtype), self.dimensions)


class _ImageSide(torch.nn.Module):
    """Backbone, fusion with the words, choice of queries, decoder."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        pixel_values: Tensor,
        pixel_sizes: Tensor,
        text_features: Tensor,
        text_positions: Tensor,
        text_attention: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        core, config = self.model.model, self.model.config
        levels = _levels(core, pixel_values, pixel_sizes)
        features = torch.cat([level.features.flatten(2).transpose(1, 2) for level in levels], dim=1)
        real = torch.cat([level.real.flatten(1) for level in levels], dim=1)[
            ..., None
        ]  # 1.0 inside the image
        positions = torch.cat(
            [
                _sine_grid(level, config.d_model, config.positional_embedding_temperature)
                .flatten(1, 2)
                .add(embedding)
                for level, embedding in zip(levels, core.level_embed, strict=True)
            ],
            dim=1,
        )
        ratios = torch.stack([level.ratios for level in levels], dim=1)  # [B, levels, 2], width and height
        centres = torch.cat([_centres(level) for level in levels], dim=1)  # [B, N, 2], 0 to 1 of the image
        references = centres[:, :, None] * ratios[:, None]  # of the canvas, level by level

        words = text_features[None].expand(features.shape[0], -1, -1)
        hidden = (1 - real).transpose(1, 2) * _NEVER  # [B, 1, N]
        between = _additive(text_attention)
        for layer in core.encoder.layers:
            features, words = _fuse(layer.fusion_layer, features, words, hidden)
            words = _enhance(layer.text_enhancer_layer, words, text_positions, between)
            features = _deformable_layer(
                layer.deformable_layer, features, positions, references, levels, real
            )

        queries = _propose(core, levels, features, real, words, config.num_queries)
        states, boxes = _decode(self.model, queries, features, real, words, levels, ratios)
        logits = _contrast(self.model.class_embed[-1], states, words)
        # If there are fewer positions than queries, positions outside the image fill up the rest.
        logits = logits + (1 - queries.real) * _NEVER
        return logits, boxes, queries.logits, queries.places, queries.chosen


@dataclass(slots=True)
class _Level:
    """One resolution of the image.

    Attributes:
        features: [B, C, h, w].
        real: [B, h, w], 1.0 inside the image, 0.0 beyond.
        size: h and w, traced.
        inside: int [B, 2], rows and columns inside the image.
    """

    features: Tensor
    real: Tensor
    size: tuple[Any, Any]
    inside: Tensor

    @property
    def ratios(self) -> Tensor:
        """[B, 2]: which part of the width and of the height is inside."""
        height, width = self.size
        inside = self.inside.to(self.features.dtype)
        return torch.stack([inside[:, 1] / width, inside[:, 0] / height], dim=-1)


def _sizes(levels: list[_Level]) -> list[tuple[Any, Any]]:
    return [level.size for level in levels]


@dataclass(slots=True)
class _Queries:
    """The best positions, from which the decoder starts.

    Attributes:
        logits: [B, N], of all places.
        places: int [B, N], their names.
        chosen: int [B, Q], names of those taken; `NOWHERE` at the image's edge.
        states: [B, Q, D].
        references: [B, Q, 4], cxcywh, 0 to 1.
        real: [B, Q, 1], 1.0 unless taken from outside the image.
    """

    logits: Tensor
    places: Tensor
    chosen: Tensor
    states: Tensor
    references: Tensor
    real: Tensor


def _inside(inside: Tensor, height: Any, width: Any, dtype: torch.dtype) -> Tensor:
    """int [B, 2] to [B, h, w], 1.0 inside."""
    rows = torch.arange(height)[None, :, None] < inside[:, 0, None, None]
    columns = torch.arange(width)[None, None, :] < inside[:, 1, None, None]
    return (rows & columns).to(dtype)


def _levels(core: Any, pixel_values: Tensor, pixel_sizes: Tensor) -> list[_Level]:
    """The Swin stages that the model uses, projected to one width, and coarser ones computed from the
    last."""
    backbone = core.backbone.conv_encoder.model
    stages = _swin(backbone, pixel_values, pixel_sizes)
    levels: list[_Level] = []
    for number, projection in enumerate(core.input_proj_vision):
        convolution, norm = projection
        if number < len(stages):
            below = stages[number]
        elif number == len(stages):
            below = stages[-1]
        else:
            below = levels[-1]
        # The strided 3×3 convolution reads beyond the image, where a single image has zeros.
        features = convolution(below.features * below.real[:, None])
        height, width = features.shape[-2:]
        inside = (
            below.inside if number < len(stages) else torch.div(below.inside + 1, 2, rounding_mode="floor")
        )
        real = _inside(inside, height, width, features.dtype)
        levels.append(_Level(_group_norm(norm, features, real), real, (height, width), inside))
    return levels


def _group_norm(norm: torch.nn.GroupNorm, features: Tensor, real: Tensor) -> Tensor:
    """Group norm with the mean and variance of the positions inside the image."""
    batch, channels, height, width = features.shape
    real = real[:, None, None]
    grouped = features.reshape(batch, norm.num_groups, channels // norm.num_groups, height, width)
    share = real.mean(dim=(2, 3, 4), keepdim=True)
    mean = (grouped * real).mean(dim=(2, 3, 4), keepdim=True) / share
    centred = (grouped - mean) * real
    variance = (centred * centred).mean(dim=(2, 3, 4), keepdim=True) / share
    normed = (centred * torch.rsqrt(variance + norm.eps)).reshape(batch, channels, height, width)
    return normed * norm.weight[:, None, None] + norm.bias[:, None, None]


def _swin(backbone: Any, pixel_values: Tensor, pixel_sizes: Tensor) -> list[_Level]:
    """The normed outputs of the stages that the backbone's configuration names, before their downsampling."""
    swin = backbone.swin
    patches = swin.embeddings.patch_embeddings
    patch = int(patches.patch_size[0])
    height, width = pixel_values.shape[2:]
    padded = functional.pad(
        pixel_values, (0, (patch - width % patch) % patch, 0, (patch - height % patch) % patch)
    )
    features = patches.projection(padded)
    height, width = features.shape[2:]
    features = swin.embeddings.norm(features.flatten(2).transpose(1, 2))
    if swin.embeddings.position_embeddings is not None:
        raise ExportError("a Swin with absolute positions is not known")
    inside = torch.div(pixel_sizes + (patch - 1), patch, rounding_mode="floor")
    found = []
    for number, stage in enumerate(swin.encoder.layers, start=1):
        real = _inside(inside, height, width, features.dtype)
        mask = _shift_mask(stage.blocks[0].window_size, inside, height, width, features.dtype)
        flat = real.flatten(1)[..., None]
        for block in stage.blocks:
            features = _swin_block(block, features, flat, (height, width), mask)
        name = f"stage{number}"
        if name in backbone.out_features:
            normed = backbone.hidden_states_norms[name](features)
            picture = normed.transpose(1, 2).reshape(normed.shape[0], -1, height, width)
            found.append(_Level(picture, real, (height, width), inside))
        if stage.downsample is not None:
            features = _merge_patches(stage.downsample, features * flat, height, width)
            height, width = (height + 1) // 2, (width + 1) // 2
            inside = torch.div(inside + 1, 2, rounding_mode="floor")
    return found


def _merge_patches(merging: Any, features: Tensor, height: Any, width: Any) -> Tensor:
    picture = features.reshape(features.shape[0], height, width, features.shape[2])
    picture = functional.pad(picture, (0, 0, 0, width % 2, 0, height % 2))
    quarters = [picture[:, row::2, column::2] for column in range(2) for row in range(2)]
    joined = torch.cat(quarters, dim=-1)
    return merging.reduction(merging.norm(joined.flatten(1, 2)))


def _shift_mask(window: int, inside: Tensor, height: Any, width: Any, dtype: torch.dtype) -> Tensor:
    """The attention mask in the windows of shifted blocks: [B · windows, 1, window², window²], 0 or never.

    A shifted block rolls the picture over its edges; what comes from the other side is another region. The
    edges are those that the image alone would have, padded to whole windows; beyond them is a region, too.
    """
    shift = window // 2
    height, width = height + (window - height % window) % window, width + (window - width % window) % window
    edges = torch.div(inside + (window - 1), window, rounding_mode="floor") * window

    def regions(length: Any, edge: Tensor) -> Tensor:
        # The pixel that a place shows after the picture was rolled by `shift`.
        place = torch.arange(length)[None]
        edge = edge[:, None]
        source = (place + shift) % length
        # Rolled over the end of the canvas, or the image's own last stretch, or beyond the image.
        wrapped = (place + shift >= length).long()
        return wrapped + 2 * (source >= edge).long()

    rows, columns = regions(height, edges[:, 0]), regions(width, edges[:, 1])
    regional = rows[:, :, None] * 4 + columns[:, None, :]
    batch = regional.shape[0]
    regional = regional.reshape(batch, height // window, window, width // window, window)
    regional = regional.transpose(2, 3).reshape(-1, window * window)
    apart = regional[:, None, :] != regional[:, :, None]
    return (apart.to(dtype) * _NEVER)[:, None]


def _swin_block(block: Any, features: Tensor, real: Tensor, size: tuple[Any, Any], mask: Tensor) -> Tensor:
    height, width = size
    window, shift = block.window_size, block.shift_size
    batch, _, channels = features.shape
    # Zeros beyond the image, as a single image is padded to whole windows after this norm.
    picture = (block.layernorm_before(features) * real).reshape(batch, height, width, channels)
    down, right = (window - height % window) % window, (window - width % window) % window
    picture = functional.pad(picture, (0, 0, 0, right, 0, down))
    tall, wide = height + down, width + right
    if shift:
        picture = torch.roll(picture, shifts=(-shift, -shift), dims=(1, 2))
    windows = picture.reshape(batch, tall // window, window, wide // window, window, channels)
    windows = windows.transpose(2, 3).reshape(-1, window * window, channels)
    windows = _window_attention(block.attention, windows, mask if shift else None)
    picture = windows.reshape(batch, tall // window, wide // window, window, window, channels)
    picture = picture.transpose(2, 3).reshape(batch, tall, wide, channels)
    if shift:
        picture = torch.roll(picture, shifts=(shift, shift), dims=(1, 2))
    features = features + picture[:, :height, :width].reshape(batch, height * width, channels)
    return features + _feed_forward(block.mlp, block.mlp.activation_fn, block.layernorm_after(features))


def _window_attention(attention: Any, windows: Tensor, mask: Tensor | None) -> Tensor:
    heads, width = attention.num_attention_heads, attention.head_dim
    area = windows.shape[1]

    def split(projected: Tensor) -> Tensor:
        return projected.reshape(-1, area, heads, width).transpose(1, 2)

    query = split(linear(attention.q_proj, windows)) * attention.scaling
    key, value = split(linear(attention.k_proj, windows)), split(linear(attention.v_proj, windows))
    bias = attention.relative_position_bias()
    weights = query @ key.transpose(2, 3) + (bias if mask is None else bias + mask)
    attended = weights.softmax(dim=-1) @ value
    return linear(attention.o_proj, attended.transpose(1, 2).reshape(-1, area, heads * width))


def _sines(positions: Tensor, dimensions: int, temperature: float = 10000) -> Tensor:
    """Sine embedding of coordinates [..., n], each in `dimensions` numbers; y before x, as DETR has it."""
    steps = torch.arange(dimensions, dtype=torch.float32)
    periods = temperature ** (2 * torch.div(steps, 2, rounding_mode="floor") / dimensions)
    frequencies = (2 * math.pi / periods).to(positions.dtype)
    embedded = [_alternate(positions[..., axis, None] * frequencies) for axis in range(positions.shape[-1])]
    if len(embedded) >= 2:
        embedded[0], embedded[1] = embedded[1], embedded[0]
    return torch.cat(embedded, dim=-1)


def _alternate(angles: Tensor) -> Tensor:
    """Sine of the even entries, cosine of the odd ones, in turn."""
    return torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), dim=-1).flatten(-2)


def _sine_grid(level: _Level, dimensions: int, temperature: float) -> Tensor:
    """Position embedding of every place: [B, h, w, D]; counted from 1, to the image's edge."""
    height, width = level.size
    steps = torch.arange(dimensions // 2, dtype=torch.float32)
    periods = temperature ** (2 * torch.div(steps, 2, rounding_mode="floor") / (dimensions // 2))
    inside = level.inside.to(level.features.dtype)
    embedded = []
    for axis, length in ((0, height), (1, width)):
        counted = torch.arange(1, length + 1, dtype=level.features.dtype)[None]
        angles = counted / (inside[:, axis, None] + 1e-6) * (2 * math.pi)
        embedded.append(_alternate(angles[..., None] / periods))
    down = embedded[0][:, :, None].expand(-1, -1, width, -1)
    across = embedded[1][:, None].expand(-1, height, -1, -1)
    return torch.cat([down, across], dim=-1)


def _centres(level: _Level) -> Tensor:
    """[B, h·w, 2]: x and y of every place's centre, from 0 to 1 inside the image."""
    height, width = level.size
    inside = level.inside.to(level.features.dtype)
    down = (torch.arange(height, dtype=inside.dtype) + 0.5)[None] / inside[:, 0, None]
    across = (torch.arange(width, dtype=inside.dtype) + 0.5)[None] / inside[:, 1, None]
    grid = torch.stack(
        [across[:, None].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)], dim=-1
    )
    return grid.flatten(1, 2)


def _names(level: int, height: Any, width: Any) -> Tensor:
    """int64 [h · w]: what each place of a level is called, whatever the canvas; below 1,024 rows and
    columns."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    return (level * 2**20 + rows * 2**10 + columns).flatten()


def _additive(attention: Tensor) -> Tensor:
    """Who sees whom, as a number to add before the softmax."""
    return (~attention).to(torch.float32) * _NEVER


def _fuse(layer: Any, features: Tensor, words: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Attention from image to words and from words to image, with one product; words are not masked,
    positions outside the image are.

    transformers projects every position of the image to queries and values, and the result back again: three
    quarters of a layer's work, for about ten words. Matrix products are associative, so here the words are
    projected instead, (x W) k = x (W k), and values are summed before the projection, p (x W) = (p x) W.

    Args:
        features: [B, N, D].
        words: [B, T, D].
        hidden: [B, 1, N], 0 or never.
    """
    attention = layer.attn
    heads, width = attention.num_heads, attention.head_dim
    features, words = layer.layer_norm_vision(features), layer.layer_norm_text(words)
    batch, dimensions = features.shape[0], features.shape[2]

    def split(projected: Tensor) -> Tensor:
        return projected.reshape(batch, -1, heads, width).transpose(1, 2)  # [B, heads, T, width]

    key, text = split(attention.text_proj(words)), split(attention.values_text_proj(words))
    query = attention.vision_proj
    toward = key @ (query.weight * attention.scale).reshape(1, heads, width, dimensions)  # [B, heads, T, D]
    shift = (key * (query.bias * attention.scale).reshape(1, heads, 1, width)).sum(dim=-1)  # [B, heads, T]
    product = features @ toward.flatten(1, 2).transpose(1, 2) + shift.flatten(1)[:, None]  # [B, N, heads · T]

    written = attention.out_vision_proj
    outward = written.weight.reshape(dimensions, heads, width).permute(1, 2, 0) * layer.vision_param
    spoken = (text @ outward[None]).flatten(1, 2)  # [B, heads · T, D]
    heard = product.reshape(batch, -1, heads, words.shape[1]).softmax(dim=-1).flatten(2)
    changed = heard @ spoken + written.bias * layer.vision_param

    values = attention.values_vision_proj
    looked = (product.transpose(1, 2) + hidden).softmax(dim=-1) @ features  # [B, heads · T, D]
    inward = values.weight.reshape(1, heads, width, dimensions).transpose(2, 3)
    seen = looked.reshape(batch, heads, -1, dimensions) @ inward + values.bias.reshape(1, heads, 1, width)
    reworded = attention.out_text_proj(seen.transpose(1, 2).flatten(2))
    return features + changed, words + layer.text_param * reworded


def _feed_forward(layer: Any, activation: Any, values: Tensor) -> Tensor:
    rows = values.reshape(-1, values.shape[-1])
    rows = functional.linear(rows, layer.fc1.weight, layer.fc1.bias)
    rows = functional.linear(activation(rows), layer.fc2.weight, layer.fc2.bias)
    return rows.reshape(*values.shape[:-1], layer.fc2.out_features)


def _enhance(layer: Any, words: Tensor, positions: Tensor, between: Tensor) -> Tensor:
    placed = words + positions
    words = layer.layer_norm_before(words + attend(layer.self_attn, placed, placed, words, between))
    return layer.layer_norm_after(words + _feed_forward(layer, layer.activation, words))


def _deformable_layer(
    layer: Any, features: Tensor, positions: Tensor, references: Tensor, levels: list[_Level], real: Tensor
) -> Tensor:
    moved = sample(layer.self_attn, features + positions, features, references, _sizes(levels), real)
    features = layer.self_attn_layer_norm(features + moved)
    return layer.final_layer_norm(features + _feed_forward(layer, layer.activation_fn, features))


def _contrast(head: Any, states: Tensor, words: Tensor) -> Tensor:
    """[B, Q, D] and [B, T, D] to [B, Q, T]; MM-Grounding-DINO scales and shifts, Grounding DINO does not."""
    logits = states @ words.transpose(1, 2)
    bias = getattr(head, "bias", None)
    return logits if bias is None else logits / math.sqrt(states.shape[-1]) + bias


def _propose(
    core: Any, levels: list[_Level], features: Tensor, real: Tensor, words: Tensor, count: int
) -> _Queries:
    centres = torch.cat([_centres(level) for level in levels], dim=1)
    sides = torch.cat(
        [
            torch.full_like(centres[:, :1], 0.05 * 2.0**number).expand(-1, level.size[0] * level.size[1], -1)
            for number, level in enumerate(levels)
        ],
        dim=1,
    )
    proposals = torch.cat([centres, sides], dim=-1)
    # Places at the image's very edge propose nothing.
    proper = ((proposals > 0.01) & (proposals < 0.99)).all(dim=-1, keepdim=True)
    usable = proper.to(features.dtype) * real
    objects = core.enc_output_norm(core.enc_output(features * usable))
    logits = _contrast(core.encoder_output_class_embed, objects, words).amax(dim=-1)
    chosen = torch.topk(logits + (1 - real[..., 0]) * _NEVER, count, dim=1).indices

    def gather(values: Tensor) -> Tensor:
        return torch.gather(values, 1, chosen[..., None].expand(-1, -1, values.shape[-1]))

    usable = gather(usable)
    # In double use: 1 · x + 0 · y would be NaN for the infinities that transformers puts in; its sigmoid of
    # infinity is 1.
    near = torch.clamp(gather(proposals), 1e-6, 1 - 1e-6)
    near = torch.log(near / (1 - near))
    moved = (core.encoder_output_bbox_embed(gather(objects)) + near).sigmoid()
    references = torch.where(usable > 0, moved, torch.ones_like(moved))
    states = core.query_position_embeddings.weight[None].expand(features.shape[0], -1, -1)
    places = torch.cat([_names(number, *level.size) for number, level in enumerate(levels)])
    places = places[None].expand(features.shape[0], -1)
    names = torch.where(usable[..., 0] > 0, torch.gather(places, 1, chosen), NOWHERE)
    return _Queries(logits, places, names, states, references, gather(real))


def _decode(
    model: Any,
    queries: _Queries,
    features: Tensor,
    real: Tensor,
    words: Tensor,
    levels: list[_Level],
    ratios: Tensor,
) -> tuple[Tensor, Tensor]:
    """The last layer's states and boxes; each layer refines the boxes."""
    decoder = model.model.decoder
    states, references = queries.states, queries.references
    dimensions = decoder.config.d_model
    quadrupled = torch.cat([ratios, ratios], dim=-1)[:, None]
    for number, layer in enumerate(decoder.layers):
        place = decoder.reference_points_head(_sines(references, dimensions // 2))
        placed = states + place
        states = layer.self_attn_layer_norm(states + attend(layer.self_attn, placed, placed, states, None))
        read = attend(layer.encoder_attn_text, states + place, words, words, None)
        states = layer.encoder_attn_text_layer_norm(states + read)
        on_canvas = references[:, :, None] * quadrupled
        seen = sample(layer.encoder_attn, states + place, features, on_canvas, _sizes(levels), real)
        states = layer.encoder_attn_layer_norm(states + seen)
        states = layer.final_layer_norm(states + _feed_forward(layer, layer.activation_fn, states))
        bounded = torch.clamp(references, 1e-5, 1 - 1e-5)
        from_here = torch.log(bounded / (1 - bounded))
        if number + 1 < len(decoder.layers):
            references = (decoder.bbox_embed[number](states) + from_here).sigmoid()
    # The outputs use the normalised states; the layers pass on the unnormalised ones.
    states = decoder.layer_norm(states)
    return states, (model.bbox_embed[-1](states) + from_here).sigmoid()
