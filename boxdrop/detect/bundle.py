"""A bundle: a folder with an exported detector and ``bundle.json``, which describes it.

``bundle.json`` (format ``boxdrop-bundle/1``)::

    {"format": "boxdrop-bundle/1", "name": "owlv2-base-patch16", "family": "owlv2", "precision": "fp32",
     "source": {"id": "google/owlv2-base-patch16", "revision": "4a2f…", "licence": "apache-2.0",
                "transformers": "5.23.0", "torch": "2.13.0"},
     "preprocess": {"height": 960, "width": 960, "resize": "pad-square", "mean": […3], "std": […3]},
     "text": {"max_length": 16, "pad_id": 0, "template": "a photo of a {}"},
     "defaults": {"threshold": 0.1, "floor": 0.02}, "runtime": "1.32.0",
     "files": {"image.onnx": {"sha256": "…", "bytes": 1}, "text.onnx": …, "tokenizer.json": …},
     "parity": {…}}

Other files that ``files`` does not list (a model card, ``README.md``) are allowed; the detector does not read
them.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from boxdrop.domain.errors import BundleError

FORMAT: Final = "boxdrop-bundle/1"
CARD: Final = "bundle.json"
IMAGE_GRAPH: Final = "image.onnx"
TEXT_GRAPH: Final = "text.onnx"
TOKENIZER: Final = "tokenizer.json"


def cpu_graph(name: str) -> str:
    """Name of the graph that ONNX Runtime has already optimised for the CPU: ``image.cpu.onnx``."""
    return name.removesuffix(".onnx") + ".cpu.onnx"


RESIZES: Final = ("bicubic", "bilinear", "pad-square", "short-edge")
"""Ways to resize to the model's size, see `boxdrop.detect.preprocess`."""

_HASHED_ON_LOAD = 32 * 2**20  # bytes; hashing 32 MiB takes 20 ms, hashing OWLv2's 600 MB half a second
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights come from.

    Attributes:
        id: the id on the Hugging Face hub, or the name of the local folder.
        revision: the hub's commit; for a folder ``sha256:…`` of its weights.
        transformers, torch: versions that exported it.
        licence: from the source's model card; None if it states none.
    """

    id: str
    revision: str
    transformers: str
    torch: str
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image becomes the model's input.

    Attributes:
        height, width: of the input in pixels. For ``short-edge``, which keeps the image's aspect ratio: the
            shorter side, and the maximum of the longer side.
        resize: one of `RESIZES`.
        mean, std: per channel, red green blue, of values scaled to 0 to 1.
    """

    height: int
    width: int
    resize: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Text:
    """How prompts are tokenised.

    Attributes:
        max_length: tokens of a prompt, including begin and end; shorter ones are padded.
        pad_id: the padding token.
        template: the sentence around a prompt, which replaces ``{}``; ``"{}"`` leaves prompts unchanged.
    """

    max_length: int
    pad_id: int
    template: str

    def fill(self, prompt: str) -> str:
        """Put a prompt into the template, unless it already begins like the template.

        OWL's authors query with "a photo of a dog", and the model's scores are calibrated to such sentences,
        but users write "dog". If a user writes "a photo of a red dog", it stays unchanged.
        """
        opening = self.template.split("{}")[0].strip()
        if opening and prompt.lower().startswith(opening.lower()):
            return prompt
        return self.template.replace("{}", prompt)


@dataclass(frozen=True, slots=True)
class Defaults:
    """Scores, 0 < floor <= threshold <= 1.

    Attributes:
        threshold: lowest score that is shown, for labels that set none.
        floor: lowest score that is kept.
    """

    threshold: float
    floor: float


@dataclass(frozen=True, slots=True)
class FileDigest:
    """The expected size and hash of a file."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """An exported detector on disk; see the module's description for the fields.

    Attributes:
        path: the folder.
        files: all files that the detector reads, by name.
        parity: the comparison with the source model at export; for a reduced precision also its ``drift``.
        runtime: version of ONNX Runtime that optimised the graphs of `cpu_graph`; None if there are none.
    """

    path: Path
    name: str
    family: str
    precision: str
    source: Source
    preprocess: Preprocess
    text: Text
    defaults: Defaults
    files: Mapping[str, FileDigest]
    parity: Mapping[str, Any] = field(default_factory=dict, compare=False)
    runtime: str | None = None

    @classmethod
    def load(cls, path: str | Path, verify: bool = False) -> "Bundle":
        """Read ``bundle.json`` and check its files.

        It always checks presence and size, and the sha256 of files up to 32 MiB: this is cheap, and finds the
        usual damage from copying folders.

        Args:
            path: the folder.
            verify: check sha256 of the large files too.

        Raises:
            BundleError: there is no bundle, its format is unknown, a field is wrong, or a file is missing or
                altered.
        """
        folder = Path(path)
        card = folder / CARD
        try:
            text = card.read_bytes()
        except FileNotFoundError:
            raise BundleError(_no_bundle(folder)) from None
        except NotADirectoryError:
            raise BundleError(f"{folder}: a bundle is a folder that holds {CARD}; this is a file") from None
        except OSError as error:
            raise BundleError(f"{card}: cannot be read: {error.strerror}") from None
        bundle = cls.parse(text, folder)
        bundle.verify(largest=None if verify else _HASHED_ON_LOAD)
        return bundle

    @classmethod
    def parse(cls, text: bytes, folder: Path, where: str | None = None) -> "Bundle":
        """Read the text of a ``bundle.json``; its files need not exist.

        Args:
            text: UTF-8.
            folder: where the files are, or will be.
            where: the text's name in messages.

        Raises:
            BundleError: another format, or a wrong field.
        """
        card = where or str(folder / CARD)
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise BundleError(
                f"{card}: this is not JSON ({error}); export or fetch the bundle again"
            ) from None
        return _Reader(card, folder).bundle(fields)

    @property
    def digest(self) -> str:
        """Hash of everything that determines the detector's output: files, preprocessing, text, floor. 64
        hexadecimal digits.

        It excludes the name, the source, the parity report, the default threshold and the model card.
        """
        content = {
            "family": self.family,
            "precision": self.precision,
            "preprocess": asdict(self.preprocess),
            "text": asdict(self.text),
            "floor": self.defaults.floor,
            "files": {name: entry.sha256 for name, entry in self.files.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def verify(self, largest: int | None = None) -> None:
        """Check the files against ``bundle.json``.

        Args:
            largest: hash only files up to this many bytes; None hashes all. Sizes are always compared.

        Raises:
            BundleError: naming the file that is missing or altered.
        """
        for name, expected in self.files.items():
            file = self.path / name
            try:
                size = file.stat().st_size
            except OSError:
                raise BundleError(
                    f"{file}: this file of the bundle is missing; export or fetch the bundle again"
                ) from None
            if size != expected.bytes:
                raise BundleError(
                    f"{file}: has {size} bytes, but {CARD} says {expected.bytes}: it is incomplete or was "
                    "altered; "
                    "export or fetch the bundle again"
                )
            if (largest is None or size <= largest) and digest_of(file).sha256 != expected.sha256:
                raise BundleError(
                    f"{file}: was altered (its sha256 is not the one in {CARD}); export or fetch the "
                    "bundle again"
                )

    def to_json(self) -> str:
        """The text of ``bundle.json``."""
        fields = {
            "format": FORMAT,
            "name": self.name,
            "family": self.family,
            "precision": self.precision,
            "source": {key: value for key, value in asdict(self.source).items() if value is not None},
            "preprocess": asdict(self.preprocess),
            "text": asdict(self.text),
            "defaults": asdict(self.defaults),
            **({"runtime": self.runtime} if self.runtime is not None else {}),
            "files": {name: asdict(self.files[name]) for name in sorted(self.files)},
            "parity": dict(self.parity),
        }
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def digest_of(file: Path) -> FileDigest:
    """Hash a file in constant memory."""
    with file.open("rb") as stream:
        return FileDigest(hashlib.file_digest(stream, "sha256").hexdigest(), file.stat().st_size)


def is_valid_name(name: str) -> bool:
    """Whether a bundle may have this name, which becomes part of model_version, file names and S3 keys."""
    return _NAME.fullmatch(name) is not None


def _no_bundle(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: there is no such folder; give the folder of a bundle (one that holds {CARD})"
    if (folder / "config.json").exists():
        return (
            f"{folder}: this is a transformers model, not a bundle; "
            f"export it first: python -m model_export {folder} --out BUNDLE"
        )
    make_one = "make one with: python -m model_export SOURCE --out BUNDLE"
    return f"{folder}: has no {CARD}, so it is not a bundle; {make_one}"


class _Reader:
    """Checks the decoded ``bundle.json`` field by field."""

    def __init__(self, card: str, folder: Path) -> None:
        self.card = card
        self.folder = folder

    def error(self, message: str) -> BundleError:
        return BundleError(f"{self.card}: {message}")

    def bundle(self, fields: Any) -> Bundle:
        if not isinstance(fields, dict):
            raise self.error("must be a JSON object; export or fetch the bundle again")
        if fields.get("format") != FORMAT:
            raise self.error(
                f"its format is {fields.get('format')!r}, this boxdrop reads {FORMAT!r}; "
                "update boxdrop or export the model again"
            )
        name = self._string(fields, "name")
        if not is_valid_name(name):
            raise self.error(
                f"`name` is {name!r}; use letters, digits, dots and dashes, beginning with a letter or digit"
            )
        source = self._object(fields, "source")
        licence = source.get("licence")
        return Bundle(
            path=self.folder,
            name=name,
            family=self._string(fields, "family"),
            precision=self._string(fields, "precision"),
            source=Source(
                id=self._string(source, "id", "source"),
                revision=self._string(source, "revision", "source"),
                transformers=self._string(source, "transformers", "source"),
                torch=self._string(source, "torch", "source"),
                licence=licence if isinstance(licence, str) else None,
            ),
            preprocess=self._preprocess(self._object(fields, "preprocess")),
            text=self._text(self._object(fields, "text")),
            defaults=self._defaults(self._object(fields, "defaults")),
            files=self._files(self._object(fields, "files")),
            parity=self._object(fields, "parity"),
            runtime=self._string(fields, "runtime") if "runtime" in fields else None,
        )

    def _preprocess(self, fields: dict[str, Any]) -> Preprocess:
        resize = self._string(fields, "resize", "preprocess")
        if resize not in RESIZES:
            raise self.error(
                f"`preprocess.resize` is {resize!r}, this boxdrop knows {', '.join(RESIZES)}; update boxdrop"
            )
        height = self._whole(fields, "height", "preprocess")
        width = self._whole(fields, "width", "preprocess")
        if resize == "pad-square" and height != width:
            raise self.error(f"`preprocess` pads to a square but its size is {width}×{height}")
        std = self._colour(fields, "std")
        if min(std) <= 0:
            raise self.error("`preprocess.std` must be above 0")
        return Preprocess(height, width, resize, self._colour(fields, "mean"), std)

    def _text(self, fields: dict[str, Any]) -> Text:
        template = self._string(fields, "template", "text")
        if template.count("{}") != 1:
            raise self.error(
                f"`text.template` is {template!r}; it must hold {{}} once, where the prompt goes"
            )
        length = self._whole(fields, "max_length", "text")
        return Text(length, self._whole(fields, "pad_id", "text", least=0), template)

    def _defaults(self, fields: dict[str, Any]) -> Defaults:
        threshold, floor = (self._number(fields, key, "defaults") for key in ("threshold", "floor"))
        if not 0 < floor <= threshold <= 1:
            raise self.error(f"`defaults` must have 0 < floor ({floor}) <= threshold ({threshold}) <= 1")
        return Defaults(threshold, floor)

    def _files(self, entries: dict[str, Any]) -> dict[str, FileDigest]:
        files = {}
        for name, entry in entries.items():
            # The names are untrusted input: they must not point outside the folder.
            if not is_valid_name(name):
                raise self.error(f"`files` names {name!r}, which is not a plain file name")
            if not isinstance(entry, dict):
                raise self.error(f"`files.{name}` must hold sha256 and bytes")
            what = f"files.{name}"
            files[name] = FileDigest(
                self._string(entry, "sha256", what), self._whole(entry, "bytes", what, least=0)
            )
        missing = [name for name in (IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER) if name not in files]
        if missing:
            raise self.error(f"`files` does not name {', '.join(missing)}; export the model again")
        return files

    def _object(self, fields: dict[str, Any], key: str) -> dict[str, Any]:
        value = fields.get(key)
        if not isinstance(value, dict):
            raise self.error(f"`{key}` must be an object, not {value!r}")
        return value

    def _string(self, fields: dict[str, Any], key: str, inside: str = "") -> str:
        value = fields.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(f"`{_dotted(inside, key)}` must be text, not {value!r}")
        return value

    def _whole(self, fields: dict[str, Any], key: str, inside: str, least: int = 1) -> int:
        value = fields.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(f"`{_dotted(inside, key)}` must be a whole number from {least}, not {value!r}")
        return value

    def _number(self, fields: dict[str, Any], key: str, inside: str) -> float:
        return self._finite(fields.get(key), _dotted(inside, key))

    def _finite(self, value: Any, what: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self.error(f"`{what}` must be a number, not {value!r}")
        return float(value)

    def _colour(self, fields: dict[str, Any], key: str) -> tuple[float, float, float]:
        value = fields.get(key)
        if not isinstance(value, list) or len(value) != 3:
            raise self.error(f"`preprocess.{key}` must be three numbers, not {value!r}")
        red, green, blue = (self._finite(number, f"preprocess.{key}") for number in value)
        return red, green, blue


def _dotted(inside: str, key: str) -> str:
    return f"{inside}.{key}" if inside else key
