"""Detectors with fixed classes and random weights, for tests; see `model_export.stand_ins`."""

import json
import math
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from boxdrop.detectors.coco import COCO_NAMES
from model_export.stand_ins import spread, spread_layers

Settings = dict[str, Any]

_NAMES: Final = (*COCO_NAMES[:11], "N/A")

_RESNET: Final[Settings] = {
    "embedding_size": 16,
    "hidden_sizes": [16, 24, 32, 48],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
_HGNET: Final[Settings] = {
    "model_type": "hgnet_v2",
    "embedding_size": 8,
    "hidden_sizes": [16, 24, 32, 48],
    "depths": [1, 1, 1, 1],
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 24, 32],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 24, 32, 48],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_downsample": [False, True, True, True],
    "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 5, 5],
    "stage_numb_of_layers": [2, 2, 2, 2],
    "out_features": ["stage2", "stage3", "stage4"],
    "return_idx": [1, 2, 3],
}
_RT_DETR: Final[Settings] = {
    "encoder_in_channels": [24, 32, 48],
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 64,
    "encoder_attention_heads": 2,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 64,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_queries": 40,
    "num_denoising": 0,
    "hidden_expansion": 0.5,
}
_DETR: Final[Settings] = {
    "backbone_config": {"model_type": "resnet", **_RESNET, "out_features": ["stage4"]},
    "use_timm_backbone": False,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 40,
}
_LW_DETR: Final[Settings] = {
    "d_model": 32,
    "decoder_ffn_dim": 64,
    "decoder_layers": 2,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "num_queries": 40,
    "group_detr": 1,
}
_STAGES: Final = ["stage2", "stage3", "stage4"]
_RT_BACKBONE: Final = {"model_type": "rt_detr_resnet", **_RESNET, "out_features": _STAGES}

TINY_FIXED: Final[dict[str, Settings]] = {
    "rt_detr": {"backbone_config": _RT_BACKBONE, **_RT_DETR},
    "rt_detr_v2": {"backbone_config": _RT_BACKBONE, **_RT_DETR},
    "d_fine": {"backbone_config": _HGNET, **_RT_DETR},
    "deimv2": {"backbone_config": _HGNET, **_RT_DETR},
    "lw_detr": {
        "backbone_config": {
            "model_type": "lw_detr_vit",
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 128,
            "pretrain_image_size": 128,
            "patch_size": 16,
            "num_windows": 4,
            "window_block_indices": [0, 2],
            "out_indices": [1, 2],
        },
        "projector_scale_factors": [1.0],
        "num_feature_levels": 1,
        **_LW_DETR,
    },
    "rf_detr": {
        "backbone_config": {
            "model_type": "rf_detr_dinov2",
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 84,
            "patch_size": 14,
            "num_windows": 2,
            "out_features": ["stage2", "stage3"],
        },
        **_LW_DETR,
    },
    "deformable_detr": {
        **_DETR,
        "backbone_config": {"model_type": "resnet", **_RESNET, "out_features": _STAGES},
    },
    "detr": _DETR,
    "yolos": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": [128, 160],
        "patch_size": 16,
        "num_detection_tokens": 40,
    },
}

_RESNET_50: Final = {"model_type": "resnet"}  # transformers' defaults are those of ResNet-50

FULL_FIXED: Final[dict[str, Settings]] = {
    # transformers' default configurations: ResNet-50 for the RT-DETRs, HGNetV2 for D-FINE and DEIMv2, ViT and
    # DINOv2 small for LW-DETR and RF-DETR.
    "rt_detr": {},
    "rt_detr_v2": {},
    "d_fine": {},
    "deimv2": {},
    "lw_detr": {"projector_scale_factors": [1.0], "num_feature_levels": 1},
    "rf_detr": {},
    # facebook/detr-resnet-50 and SenseTime/deformable-detr, with transformers' ResNet in the place of timm's.
    "deformable_detr": {
        "use_timm_backbone": False,
        "backbone_config": {**_RESNET_50, "out_features": _STAGES},
    },
    "detr": {
        "use_timm_backbone": False,
        "backbone_config": {**_RESNET_50, "out_features": ["stage4"]},
    },
    "yolos": {"image_size": [800, 1344]},  # hustvl/yolos-base
}
"""For `make_fixed` with ``full_size``."""

_SQUARE: Final = {"rf_detr": 112}  # another one than its backbone's, so that positions are interpolated
_FULL_SQUARE: Final = {"rf_detr": 560}  # Roboflow's base model
_SHORT_EDGE: Final = {"shortest_edge": 128, "longest_edge": 213}
_FULL_SHORT_EDGE: Final = {"shortest_edge": 800, "longest_edge": 1333}
_PROCESSORS: Final[dict[str, Settings]] = {
    "detr": {"image_processor_type": "DetrImageProcessor", "size": _SHORT_EDGE},
    "deformable_detr": {"image_processor_type": "DeformableDetrImageProcessor", "size": _SHORT_EDGE},
    "yolos": {"image_processor_type": "YolosImageProcessor", "size": _SHORT_EDGE},
    "lw_detr": {"image_processor_type": "DeformableDetrImageProcessor", "do_pad": False},
    "rf_detr": {"image_processor_type": "RfDetrImageProcessor", "do_pad": False},
}


def make_fixed(
    folder: Path, family: str, settings: Settings, seed: int = 0, *, full_size: bool = False
) -> Path:
    """Write a model and its image processor, as ``save_pretrained`` does.

    Args:
        folder: to make.
        family: a ``model_type``, see `model_export.families.fixed.FIXED_FAMILIES`.
        settings: for its configuration class; see `TINY_FIXED` and `FULL_FIXED`.
        seed: of the weights.
        full_size: images and classes of COCO's size, not small ones.
    """
    names = COCO_NAMES if full_size else _NAMES
    classes: Settings = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }
    config = transformers.AutoConfig.for_model(family, **settings, **classes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForObjectDetection.from_config(config).eval()
        with torch.no_grad():
            _scale(model, seed)
    model.save_pretrained(folder)
    side = _FULL_SQUARE.get(family, 640) if full_size else _SQUARE.get(family, 128)
    processor = {"image_processor_type": "RTDetrImageProcessor", "size": {"height": side, "width": side}}
    processor |= _PROCESSORS.get(family, {})
    if full_size and processor["size"] == _SHORT_EDGE:
        processor["size"] = _FULL_SHORT_EDGE
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def _scale(model: Any, seed: int) -> None:
    """Weights in a trained model's range: transformers' own let every place and box look alike."""
    generator = torch.Generator().manual_seed(seed)

    def own(name: str, module: Any) -> None:
        if getattr(module, "running_var", None) is not None:
            module.running_var.uniform_(0.7, 1.4, generator=generator)
            module.weight.uniform_(0.7, 1.4, generator=generator)
            for part in (module.running_mean, module.bias):
                spread(part, 0.1, generator)
        elif isinstance(module, torch.nn.Conv2d):  # through many layers, ReLU would halve what an image says
            spread(module.weight, math.sqrt(1.5 / module.weight[0].numel()), generator)
        elif name.endswith("query_position_embeddings"):  # what tells DETR's queries apart
            spread(module.weight, 2, generator)
        for part in module.parameters(recurse=False):
            if part.dim() > 1 and not part.any():  # YOLOS's queries and places
                spread(part, 1, generator)

    spread_layers(model, generator, own)
