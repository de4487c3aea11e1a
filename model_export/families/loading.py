"""Loads the parts of a model, with errors that explain what is wrong with the source."""

import errno
import os
from typing import Any

import torch
import transformers

from model_export.errors import ExportError
from model_export.source import Origin


def load_model(model_class: Any, origin: Origin) -> tuple[Any, Any]:
    """Load a model in 32 bits, in evaluation mode, and its tokenizer.

    Raises:
        ExportError: transformers cannot load it, or weights are missing.
    """
    model = load_weights(model_class, origin)
    return model, _loaded(transformers.AutoTokenizer.from_pretrained, origin)


def load_weights(model_class: Any, origin: Origin) -> Any:
    """Load a model in 32 bits, in evaluation mode.

    Raises:
        ExportError: transformers cannot load it, or weights are missing.
    """
    model, info = _loaded(model_class.from_pretrained, origin, dtype=torch.float32, output_loading_info=True)
    if info["missing_keys"]:
        # transformers would continue with random values in their place.
        some = ", ".join(sorted(info["missing_keys"])[:3])
        raise ExportError(
            f"{origin.id}: {len(info['missing_keys'])} weights are missing ({some}, …); "
            f"this is not a complete {type(model).__name__}"
        )
    return model.eval()


def _loaded(load: Any, origin: Origin, **options: Any) -> Any:
    try:
        return load(origin.location, revision=origin.commit or "main", **options)
    except ImportError as error:  # the published OmDet-Turbo has its backbone from timm
        raise ExportError(
            f"{origin.id}: {_first_line(error)}; install what it names, then export again"
        ) from None
    except Exception as error:  # safetensors and pickle have exception classes of their own for bad files
        if origin.commit is not None and _is_full_disk(error):
            raise ExportError(
                f"{origin.id}: the disk is full where the hub's files are downloaded to; free some space, or "
                "set HF_HOME to a folder on another disk, and run the command again"
            ) from None
        raise ExportError(
            f"{origin.id}: transformers {transformers.__version__} cannot load it: {_first_line(error)}; if "
            "a file is incomplete, download or copy it again"
        ) from None


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether a full disk is the reason, or the reason of the reason."""
    while error is not None:
        if isinstance(error, OSError) and (
            error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def colour(values: Any) -> tuple[float, float, float]:
    """Mean or deviation of red, green and blue."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue
