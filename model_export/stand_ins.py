"""Models with random weights in the shape of the published ones, for tests and benchmarks that have no hub.

The weights are seeded and scaled so that activations, scores and boxes have the range of a trained model's:
with transformers' own initialisation they are hundreds of times larger, and floating point differences with
them.
"""

# ruff: noqa: S106 (tokens here are words, not secrets)

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from model_export.parity import COCO_NAMES

Settings = dict[str, Any]

TINY: Final[dict[str, Settings]] = {
    "owlvit": {
        "text_config": {
            "vocab_size": 400,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        "vision_config": {
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 96,
            "patch_size": 16,
        },
        "projection_dim": 32,
    },
}
TINY["owlv2"] = TINY["owlvit"]

FULL_SIZE: Final[dict[str, Settings]] = {
    # The configurations of google/owlvit-base-patch32 and google/owlv2-base-patch16-ensemble.
    "owlvit": {"text_config": {}, "vision_config": {"image_size": 768, "patch_size": 32}},
    "owlv2": {"text_config": {}, "vision_config": {"image_size": 960, "patch_size": 16}},
}


def make(folder: Path, family: str, settings: Settings, seed: int = 0) -> Path:
    """Write a model, its tokenizer and its image processor, as ``save_pretrained`` does.

    Args:
        folder: to make.
        family: ``owlvit`` or ``owlv2``.
        settings: for the family's configuration class; see `TINY` and `FULL_SIZE`.
        seed: of the weights.

    Returns:
        `folder`.
    """
    config_class = {"owlvit": transformers.OwlViTConfig, "owlv2": transformers.Owlv2Config}[family]
    model_class = {
        "owlvit": transformers.OwlViTForObjectDetection,
        "owlv2": transformers.Owlv2ForObjectDetection,
    }[family]
    config = config_class(**settings)
    tokenizer = _tokenizer(config.text_config.vocab_size)
    config.text_config.pad_token_id = tokenizer.pad_token_id
    config.text_config.bos_token_id = tokenizer.bos_token_id
    config.text_config.eos_token_id = tokenizer.eos_token_id
    model = model_class(config).eval()
    with torch.no_grad():
        _scale(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = config.vision_config.image_size
    processor = {
        "image_processor_type": {"owlvit": "OwlViTImageProcessor", "owlv2": "Owlv2ImageProcessor"}[family],
        "size": {"height": size, "width": size},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def _tokenizer(vocabulary: int) -> transformers.PreTrainedTokenizerFast:
    """Byte pairs with CLIP's layout: the end has the highest id, since OWL reads the text at its highest."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Whitespace()
    corpus: Iterable[str] = [f"a photo of a {name}" for name in COCO_NAMES] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocabulary - 2, 390),
        special_tokens=["<pad>", "<unk>"],
        end_of_word_suffix="</w>",
        initial_alphabet=[chr(code) for code in range(ord("a"), ord("z") + 1)],
        show_progress=False,
    )
    trained.train_from_iterator(corpus, trainer)
    learnt = json.loads(trained.to_str())["model"]
    vocab: dict[str, int] = learnt["vocab"]
    for number in range(len(vocab), vocabulary - 2):
        vocab[f"<filler-{number}>"] = number
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    begin, end = vocabulary - 2, vocabulary - 1
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", begin), ("<|endoftext|>", end)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        model_max_length=16,
    )


def _scale(model: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def spread(tensor: torch.Tensor, deviation: float) -> None:
        tensor.normal_(0, deviation, generator=generator)

    encoder = getattr(model, model.base_model_prefix)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            spread(module.weight, 1 / math.sqrt(module.in_features))
            if module.bias is not None:
                spread(module.bias, 0.02)
        elif isinstance(module, torch.nn.Embedding):
            spread(module.weight, 0.3)
    # The text is read at its last token, the same for all: it must weigh little beside what attention
    # brings to it.
    read = encoder.text_model.embeddings
    spread(read.token_embedding.weight, 1.0)
    read.token_embedding.weight[-1].mul_(0.05)
    read.position_embedding.weight.mul_(0.3)
    seen = encoder.vision_model.embeddings
    spread(seen.class_embedding, 0.3)
    spread(seen.patch_embedding.weight, 1 / math.sqrt(seen.patch_embedding.weight[0].numel()))
    # Patches are multiplied by the class token: around 1 keeps them in range.
    encoder.vision_model.post_layernorm.bias.fill_(1.0)
    encoder.vision_model.post_layernorm.weight.fill_(0.3)
    # Cosines of random vectors are about 1/sqrt(dimensions): this scale and shift give logits of -2.5 ± 2.
    dimensions = model.config.text_config.hidden_size
    spread(model.class_head.logit_shift.weight, 0.02 / math.sqrt(model.class_head.query_dim))
    model.class_head.logit_shift.bias.fill_(-1.25 / math.sqrt(dimensions))
    spread(model.class_head.logit_scale.weight, 0.5 / math.sqrt(model.class_head.query_dim))
    model.class_head.logit_scale.bias.fill_(2 * math.sqrt(dimensions))
    # Boxes of one to a dozen patches around their patch.
    model.box_head.dense2.weight.mul_(0.7)
    model.box_head.dense2.bias.copy_(torch.tensor([0.0, 0.0, 1.5, 1.5]))
