"""A small OWL-ViT: transformers' classes unchanged, sized for two CPU cores, and started so that it trains
at once.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor, PreTrainedTokenizerFast

from model_export.demo.pools import IMAGE_SIZE
from model_export.demo.tokenizer import LONGEST_PROMPT

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PATCH = 16
GRID = IMAGE_SIZE // PATCH


def configure(tokenizer: PreTrainedTokenizerFast) -> OwlViTConfig:
    """2.9 million parameters: vision 6 x 192, text 2 x 128."""
    return OwlViTConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers":
            2, "num_attention_heads": 4, "max_position_embeddings": LONGEST_PROMPT, "pad_token_id": 0,
            "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 192, "intermediate_size": 576, "num_hidden_layers": 6, "num_attention_heads": 4,
            "image_size": IMAGE_SIZE, "patch_size": PATCH,
        },
        projection_dim=128,
    )  # fmt: skip


def build_network(config: OwlViTConfig, seed: int) -> OwlViTForObjectDetection:
    """A network with weights that keep activations near one (transformers' default start does not at this
    size).
    """
    torch.manual_seed(seed)
    network = OwlViTForObjectDetection(config)
    layers, width = config.vision_config.num_hidden_layers, config.vision_config.hidden_size
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.endswith(("out_proj", "fc2")):
                module.weight.data.mul_(
                    1 / math.sqrt(2 * layers)
                )  # as GPT-2: residual branches add up to one
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    vision = network.owlvit.vision_model
    nn.init.normal_(vision.embeddings.class_embedding, std=0.02)
    nn.init.xavier_uniform_(vision.embeddings.patch_embedding.weight.view(width, -1))
    vision.embeddings.position_embedding.weight.data[1:] = _grid_positions(GRID, width) * 0.5
    nn.init.normal_(network.owlvit.text_model.embeddings.token_embedding.weight, std=0.1)
    # The class token is multiplied into every patch after this norm: around one, it changes nothing at first.
    nn.init.ones_(vision.post_layernorm.weight)
    nn.init.ones_(vision.post_layernorm.bias)
    head = network.class_head
    for part, bias in ((head.logit_shift, -0.5), (head.logit_scale, 9.0)):
        nn.init.zeros_(part.weight)
        nn.init.constant_(part.bias, bias)
    # Boxes start at four patches a side, not at one.
    network.box_head.dense2.weight.data.mul_(0.1)
    network.box_head.dense2.bias.data[2:] = _logit(4 / GRID) - _logit(1 / GRID)
    return network


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _grid_positions(grid: int, width: int) -> Tensor:
    """Two-dimensional sine and cosine positions, float32 [grid², width]."""
    frequencies = 1 / 100 ** (torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(grid).float(), torch.arange(grid).float(), indexing="ij")
    across, down = x.reshape(-1, 1) * frequencies, y.reshape(-1, 1) * frequencies
    return torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], 1)


def normalise_pixels(images: Tensor, gain: Tensor | float = 1.0, offset: Tensor | float = 0.0) -> Tensor:
    """uint8 [B, H, W, 3] → float32 [B, 3, H, W], as the saved image processor does it after resizing.

    Training changes the exposure: `gain` times the result plus `offset`, both broadcast over [B, 3, 1, 1].
    """
    mean = torch.tensor(CLIP_MEAN, device=images.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(CLIP_STD, device=images.device).view(1, 3, 1, 1) * 255
    scale = gain / std
    return images.permute(0, 3, 1, 2).float().mul_(scale).add_(offset - mean * scale)


def embed_queries(network: OwlViTForObjectDetection, ids: Tensor) -> Tensor:
    """Token ids [Q, L] → unit vectors float32 [Q, 128]."""
    pooled = network.owlvit.text_model(input_ids=ids, attention_mask=(ids > 0).long()).pooler_output
    return functional.normalize(network.owlvit.text_projection(pooled).float(), dim=-1)


def predict(network: OwlViTForObjectDetection, pixels: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Every patch's answer: logits float32 [B, P, Q] and boxes float32 [B, P, 4], cxcywh, shares of the
    image.
    """
    feature_map, _ = network.image_embedder(pixels)
    features = feature_map.reshape(len(pixels), -1, feature_map.shape[-1])
    logits, _ = network.class_predictor(features, queries[None].expand(len(pixels), -1, -1), None)
    return logits.float(), network.box_predictor(features, feature_map).float()


def predict_tokens(
    network: OwlViTForObjectDetection, tokens: Tensor, patches: Tensor, queries: Tensor
) -> tuple[Tensor, Tensor]:
    """What `predict` answers, for a part of the grid.

    Args:
        network: an OWL-ViT.
        tokens: float32 [B, K, D], embedded patches without their positions.
        patches: int64 [K] or [B, K], their numbers in the grid.
        queries: float32 [Q, 128].

    Returns:
        (logits float32 [B, K, Q]; boxes float32 [B, K, 4], cxcywh, shares of the whole image).
    """
    vision = network.owlvit.vision_model
    positions = vision.embeddings.position_embedding.weight
    token = (vision.embeddings.class_embedding + positions[0]).expand(len(tokens), 1, -1)
    hidden = torch.cat([token, tokens + positions[patches + 1]], dim=1)
    encoded = vision.encoder(inputs_embeds=vision.pre_layernorm(hidden)).last_hidden_state
    embedded = vision.post_layernorm(encoded)
    features = network.layer_norm(embedded[:, 1:] * embedded[:, :1])
    logits, _ = network.class_predictor(features, queries[None].expand(len(tokens), -1, -1), None)
    bias = network.box_bias.to(features.device).view(-1, 4)[patches]
    return logits.float(), (network.box_head(features) + bias).sigmoid().float()


def predict_kept(
    network: OwlViTForObjectDetection, pixels: Tensor, queries: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """`predict_tokens` for the patches int64 [B, K] of whole pictures, float32 [B, 3, 224, 224]."""
    tokens = network.owlvit.vision_model.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    some = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
    return predict_tokens(network, some, kept, queries)


def corners(boxes: Tensor) -> Tensor:
    """cxcywh → xyxy, [..., 4]."""
    centre, extent = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - extent / 2, centre + extent / 2], -1)


def save_model(network: OwlViTForObjectDetection, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a Hugging Face folder, whole or not at all: readers of the old one are not disturbed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    network.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    processor = OwlViTImageProcessor(
        size=size, do_resize=True, resample=3, do_center_crop=False, do_rescale=True, rescale_factor=1 / 255,
        do_normalize=True, image_mean=list(CLIP_MEAN), image_std=list(CLIP_STD),
    )  # fmt: skip
    processor.save_pretrained(fresh)
    fresh.chmod(0o755)
    if folder.exists():
        old = fresh.with_name(fresh.name + "-old")
        folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old)
    else:
        fresh.rename(folder)
