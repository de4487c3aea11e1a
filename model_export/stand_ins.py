"""Models with random weights and the published configurations, for tests and benchmarks without the hub.

The weights are seeded and scaled so that activations, scores and boxes have the range of a trained model's:
with transformers' own initialisation they are hundreds of times larger, and floating point differences with
them.
"""

# ruff: noqa: S106 (tokens here are words, not secrets)

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from boxdrop.detectors.coco import COCO_NAMES

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
TINY["grounding-dino"] = {
    "backbone_config": {
        "model_type": "swin",
        "embed_dim": 16,
        "depths": [2, 1, 1],
        "num_heads": [1, 2, 4],
        "window_size": 7,
        "out_indices": [1, 2, 3],
    },
    "text_config": {
        "model_type": "bert",
        "vocab_size": 1100,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    },
    "d_model": 64,
    "encoder_layers": 2,
    "encoder_ffn_dim": 64,
    "encoder_attention_heads": 4,
    "decoder_layers": 2,
    "decoder_ffn_dim": 64,
    "decoder_attention_heads": 4,
    "num_queries": 60,
    "max_text_len": 256,
}
TINY["mm-grounding-dino"] = TINY["grounding-dino"]
TINY["omdet-turbo"] = {
    "backbone_config": {
        "model_type": "swin",
        "image_size": 96,
        "embed_dim": 16,
        "depths": [2, 2, 2, 2],
        "num_heads": [1, 2, 4, 4],
        "window_size": 3,
        "out_indices": [2, 3, 4],
    },
    "text_config": {
        "model_type": "clip_text_model",
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
    },
    "image_size": 96,
    "apply_layernorm_after_vision_backbone": False,
    "text_projection_in_dim": 32,
    "text_projection_out_dim": 32,
    "class_embed_dim": 32,
    "task_encoder_hidden_dim": 32,
    "encoder_in_channels": (32, 64, 128),
    "vision_features_channels": (64, 64, 64),
    "encoder_hidden_dim": 64,
    "encoder_attention_heads": 4,
    "encoder_dim_feedforward": 64,
    "decoder_hidden_dim": 64,
    "decoder_num_heads": 4,
    "decoder_num_layers": 2,
    "decoder_dim_feedforward": 64,
    "num_queries": 50,
}

FULL_SIZE: Final[dict[str, Settings]] = {
    # The configurations of google/owlvit-base-patch32 and google/owlv2-base-patch16-ensemble.
    "owlvit": {"text_config": {}, "vision_config": {"image_size": 768, "patch_size": 32}},
    "owlv2": {"text_config": {}, "vision_config": {"image_size": 960, "patch_size": 16}},
    # IDEA-Research/grounding-dino-tiny and openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg: Swin-T,
    # BERT base.
    "grounding-dino": {},
    "mm-grounding-dino": {},
    # omlab/omdet-turbo-swin-tiny-hf, with Swin-T of transformers in the place of timm's.
    "omdet-turbo": {
        "backbone_config": {
            "model_type": "swin",
            "image_size": 640,
            "window_size": 7,
            "out_indices": [2, 3, 4],
        },
        "text_config": {"model_type": "clip_text_model", "projection_dim": 512},
        "apply_layernorm_after_vision_backbone": False,
    },
}

SHORT_EDGES: Final = {"tiny": (224, 373), "full": (800, 1333)}
"""For Grounding DINO's processor: short edge and maximum long edge. Tiny models get small images."""


def make(folder: Path, family: str, settings: Settings, seed: int = 0) -> Path:
    """Write a model, its tokenizer and its image processor, as ``save_pretrained`` does.

    Args:
        folder: to make.
        family: a ``model_type`` of transformers, see `model_export.families.FAMILIES`.
        settings: for the family's configuration class; see `TINY` and `FULL_SIZE`.
        seed: of the weights.

    Returns:
        `folder`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family.endswith("grounding-dino"):
            _make_grounding(folder, family, settings, seed)
        elif family == "omdet-turbo":
            _make_omdet(folder, settings, seed)
        else:
            _make_owl(folder, family, settings, seed)
    return folder


def _make_owl(folder: Path, family: str, settings: Settings, seed: int) -> None:
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
    _write_processor(folder, processor)


def _make_grounding(folder: Path, family: str, settings: Settings, seed: int) -> None:
    mixed = family == "mm-grounding-dino"
    config_class = transformers.MMGroundingDinoConfig if mixed else transformers.GroundingDinoConfig
    model_class = (
        transformers.MMGroundingDinoForObjectDetection
        if mixed
        else transformers.GroundingDinoForObjectDetection
    )
    config = config_class(**settings)
    model = model_class(config).eval()
    with torch.no_grad():
        _scale_grounding(model, seed)
    model.save_pretrained(folder)
    _bert_tokenizer(config.text_config.vocab_size).save_pretrained(folder)
    short, long = SHORT_EDGES["full" if config.num_queries == 900 else "tiny"]
    size = {"shortest_edge": short, "longest_edge": long}
    _write_processor(folder, {"image_processor_type": "GroundingDinoImageProcessor", "size": size})


def _make_omdet(folder: Path, settings: Settings, seed: int) -> None:
    config = transformers.OmDetTurboConfig(**settings)
    tokenizer = _tokenizer(config.text_config.vocab_size)
    config.text_config.pad_token_id = tokenizer.pad_token_id
    config.text_config.bos_token_id = tokenizer.bos_token_id
    config.text_config.eos_token_id = tokenizer.eos_token_id
    tokenizer.model_max_length = 77
    model = transformers.OmDetTurboForObjectDetection(config).eval()
    with torch.no_grad():
        _scale_omdet(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = {
        "image_processor_type": "DetrImageProcessor",
        "size": {"height": config.image_size, "width": config.image_size},
        "do_pad": False,
        "do_rescale": False,
        "image_mean": [123.675, 116.28, 103.53],
        "image_std": [58.395, 57.12, 57.375],
    }
    _write_processor(folder, processor)


def _scale_omdet(model: Any, seed: int) -> None:
    """As for Grounding DINO; batch norms follow the convolutions, and the text's begin token is CLIP's."""
    generator = torch.Generator().manual_seed(seed)

    def own(_: str, module: Any) -> None:
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.7, 1.4, generator=generator)
            spread(module.running_mean, 0.1, generator)

    spread_layers(model, generator, own)
    projection = model.language_backbone.text_projection
    spread(projection, 1 / math.sqrt(len(projection)), generator)
    for head in (model.decoder.encoder_bbox_head, *model.decoder.decoder_bbox_head):
        head.layers[-1].weight.mul_(0.5)


def spread(tensor: torch.Tensor, deviation: float, generator: torch.Generator) -> None:
    """Fill a tensor with normal random numbers."""
    tensor.normal_(0, deviation, generator=generator)


def spread_layers(model: Any, generator: torch.Generator, own: Callable[[str, Any], None]) -> None:
    """Spread the weights that both families have.

    Args:
        own: called with the name and module of each, for modules of only one family.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            spread(module.weight, 1 / math.sqrt(module.in_features), generator)
            if module.bias is not None and "sampling_offsets" not in name:
                spread(module.bias, 0.02, generator)
        elif isinstance(module, torch.nn.Embedding):
            spread(module.weight, 0.3, generator)
        elif isinstance(module, torch.nn.Conv2d):
            spread(module.weight, 1 / math.sqrt(module.weight[0].numel()), generator)
        if name.endswith("sampling_offsets"):  # the bias is a star around the place, as it starts out
            module.weight.mul_(0.3)
        own(name, module)
        if hasattr(module, "relative_position_bias_table"):
            spread(module.relative_position_bias_table, 0.5, generator)


def _write_processor(folder: Path, settings: Settings) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _bert_tokenizer(vocabulary: int) -> transformers.PreTrainedTokenizerFast:
    """Word pieces with BERT's own ids for begin, end, full stop and question mark, which are hard-coded in
    Grounding DINO.

    COCO's words are whole tokens; all others are spelt out.
    """
    vocab = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    words = sorted({word for name in COCO_NAMES for word in name.split()})
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    free = iter(number for number in range(vocabulary) if number not in set(vocab.values()))
    for piece in [*letters, *(f"##{letter}" for letter in letters), *words]:
        if piece not in vocab:
            vocab[piece] = next(free)
    vocab |= {f"[filler-{number}]": number for number in free}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    )


def _scale_grounding(model: Any, seed: int) -> None:
    """Weights in a trained model's range: with transformers' own initialisation, every box has the same
    position, and words hardly matter.

    Its layers' norms keep activations near 1, so only weights that start at zero need random values.
    """
    generator = torch.Generator().manual_seed(seed)

    def own(name: str, module: Any) -> None:
        if name.endswith("fusion_layer"):  # starts at 1e-4, and would say nothing about the fusion
            spread(module.vision_param, 0.3, generator)
            spread(module.text_param, 0.3, generator)

    spread_layers(model, generator, own)
    core = model.model
    spread(core.level_embed, 0.3, generator)
    spread(core.query_position_embeddings.weight, 0.1, generator)
    for head in (*model.bbox_embed, core.encoder_output_bbox_embed):
        head.layers[-1].weight.mul_(0.5)
    # Logits are products of two normed vectors: some 2 around -3, where a trained model's are, by scale and
    # by a direction that all words share and no query does.
    width, share = model.config.d_model, 3.0
    shared = torch.randn(width, generator=generator)
    shared /= shared.norm()
    core.encoder.layers[-1].text_enhancer_layer.layer_norm_after.bias.copy_(share * shared)
    mixed = hasattr(model.class_embed[0], "bias")  # MM-Grounding-DINO divides by √width
    if mixed:
        for head in (*model.class_embed, core.encoder_output_class_embed):
            head.bias.zero_()
    for norm in (core.decoder.layer_norm, core.enc_output_norm):
        norm.weight.fill_(2.0 if mixed else 2.0 / math.sqrt(width))
        norm.bias.copy_(-3 / share * (math.sqrt(width) if mixed else 1.0) * shared)


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
