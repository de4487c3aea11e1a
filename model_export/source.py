"""The source of a model: a local folder or an id on the Hugging Face hub, pinned to one revision."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from boxdrop.detect.bundle import digest_of
from model_export.errors import ExportError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HUB_ANSWERS_S = 10.0
_WEIGHTS = ("*.safetensors", "*.bin")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt")
WITHOUT_WORDS: Final = (
    *("rt_detr", "rt_detr_v2", "d_fine", "deimv2", "lw_detr", "rf_detr"),
    *("deformable_detr", "detr", "yolos"),
)
"""Model types with fixed classes, which have no tokenizer."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A resolved source.

    Attributes:
        location: for ``from_pretrained``.
        id: for people: the hub id, or the folder's name.
        revision: the hub's commit, or ``sha256:…`` of a folder's weights.
        commit: the hub's commit, None for a folder.
        model_type: of its ``config.json``.
        licence: from its model card's front matter; None if it has none.
    """

    location: str
    id: str
    revision: str
    commit: str | None
    model_type: str
    licence: str | None


def resolve(source: str, revision: str | None = None) -> Origin:
    """Find a model and pin its revision, so that all its files are of one commit.

    Args:
        source: a folder that ``save_pretrained`` wrote, or an id on the hub.
        revision: branch, tag or commit on the hub; None: its main branch.

    Raises:
        ExportError: there is no such model, or it cannot be reached.
    """
    folder = Path(source).expanduser()
    if folder.exists() or _looks_like_a_folder(source, folder):
        return _folder(source, folder, revision)
    return _hub(source, revision)


def _looks_like_a_folder(source: str, folder: Path) -> bool:
    """Whether a source that does not exist is a mistyped folder rather than a model's id (OWNER/NAME)."""
    if source.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(source):
        return True
    return folder.parent != Path() and folder.parent.is_dir()


def _folder(source: str, folder: Path, revision: str | None) -> Origin:
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "does not exist"
        raise ExportError(
            f"{source}: {what}; give a folder that save_pretrained wrote, or a hub id such as "
            "google/owlv2-base-patch16-ensemble"
        )
    if revision is not None:
        raise ExportError(f"--revision {revision}: a folder has no revisions; leave it out")
    weights = sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))
    if not (folder / "config.json").is_file() or not weights:
        missing = "config.json" if not (folder / "config.json").is_file() else "weights (model.safetensors)"
        raise ExportError(
            f"{source}: has no {missing}; write it with model.save_pretrained() and "
            "processor.save_pretrained()"
        )
    model_type = _config(str(folder), source, None).model_type
    if model_type not in WITHOUT_WORDS and not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ExportError(
            f"{source}: has no tokenizer ({' or '.join(_TOKENIZERS)}); write it with "
            "processor.save_pretrained(), or copy it from the model that this one was made from"
        )
    joined = hashlib.sha256("".join(digest_of(file).sha256 for file in weights).encode()).hexdigest()
    card = folder / "README.md"
    return Origin(
        location=str(folder),
        id=folder.resolve().name,
        revision=f"sha256:{joined[:16]}",
        commit=None,
        model_type=model_type,
        licence=_licence(card) if card.is_file() else None,
    )


def _hub(source: str, revision: str | None) -> Origin:
    _ask_hub(source, revision)
    config = _config(source, source, revision)
    commit = _commit(source, revision)
    return Origin(source, source, commit, commit, config.model_type, _hub_licence(source, commit))


def check_download(origin: Origin) -> None:
    """Compare what was downloaded with the hub's sha256: its client compares sizes only.

    The client names a large file in its cache after the sha256 that the hub states.

    Raises:
        ExportError: a file differs; it is removed, so that the next attempt downloads it again.
    """
    if origin.commit is None:
        return
    from huggingface_hub import hf_hub_download

    config = hf_hub_download(origin.id, "config.json", revision=origin.commit, local_files_only=True)
    for file in sorted(Path(config).parent.rglob("*")):
        stored = file.resolve()
        if not _SHA256.fullmatch(stored.name) or digest_of(stored).sha256 == stored.name:
            continue
        file.unlink()
        stored.unlink(missing_ok=True)
        raise ExportError(
            f"{origin.id}: {file.name} is damaged: its sha256 is not the one that the hub states; it was "
            "removed: run the command again, and with another mirror (HF_ENDPOINT) if this happens twice"
        )


def _commit(source: str, revision: str | None) -> str:
    """The commit of the downloaded config.json: the name of its folder in the client's cache. transformers 5
    does not report it."""
    from huggingface_hub import hf_hub_download

    commit = Path(hf_hub_download(source, "config.json", revision=revision)).parent.name
    if not _COMMIT.fullmatch(commit):
        raise ExportError(f"{source}: the hub did not report the commit; give one with --revision")
    return commit


def _ask_hub(source: str, revision: str | None) -> None:
    """Ask the hub once whether it has a model: transformers would retry an unreachable hub for 45 seconds."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return  # only earlier downloads; transformers responds at once
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(source, revision=revision, timeout=_HUB_ANSWERS_S)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status not in (401, 403, 404):
            return  # not decisive: loading gives a better error
        raise ExportError(
            f"{source}: there is no such folder, and the hub gave no such model (it answered {status}); "
            "check the spelling and, for a gated model, accept its terms and set HF_TOKEN"
        ) from None
    except Exception as error:  # from the HTTP library that huggingface_hub uses
        raise ExportError(
            f"{source}: there is no such folder, and the hub gave no such model: it cannot be reached "
            f"({_first_line(error)}); check the network and the proxy, set HF_ENDPOINT to a mirror, or give "
            "a folder"
        ) from None


def _config(location: str, source: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(location, revision=revision or "main")
    except (OSError, ValueError, KeyError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE") == "1"
        if Path(location).is_dir():
            raise ExportError(f"{source}: its config.json cannot be read: {_first_line(error)}") from None
        reach = "HF_HUB_OFFLINE=1 forbids downloads" if offline else _first_line(error)
        raise ExportError(
            f"{source}: there is no such folder, and the hub gave no such model ({reach}); "
            "check the spelling, the network and, for a gated model, HF_TOKEN"
        ) from None


def _hub_licence(source: str, commit: str) -> str | None:
    from huggingface_hub import hf_hub_download

    try:
        return _licence(Path(hf_hub_download(source, "README.md", revision=commit)))
    except OSError:  # a model may have no card
        return None


def _licence(card: Path) -> str | None:
    """The ``license:`` of a model card's YAML front matter."""
    text = card.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return None
    try:
        front = yaml.safe_load(text.split("---", 2)[1])
    except yaml.YAMLError:
        return None
    licence = front.get("license") if isinstance(front, dict) else None
    return str(licence) if licence else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
