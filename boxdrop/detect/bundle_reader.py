"""Reading ``bundle.json``, which other people may have written: every field is checked."""

import math
import re
from typing import Any, Final

from boxdrop.detect.contract import Contract
from boxdrop.detect.settings import CHANNELS, RESIZES, Defaults, FileDigest, Preprocess, Source, Text, Trained
from boxdrop.documents import DocumentError, from_fields
from boxdrop.domain.errors import BundleError

FORMAT: Final = "boxdrop-bundle/1"
FIXED_FORMAT: Final = "boxdrop-bundle/2"
"""Of bundles with fixed classes. Earlier versions of boxdrop cannot read them, and say so."""

IMAGE_GRAPH: Final = "image.onnx"
TEXT_GRAPH: Final = "text.onnx"
TOKENIZER: Final = "tokenizer.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def is_valid_name(name: str) -> bool:
    """Whether a bundle may have this name, which becomes part of model_version, file names and S3 keys."""
    return _NAME.fullmatch(name) is not None


class BundleReader:
    """Checks the decoded ``bundle.json`` field by field.

    Args:
        card: its name in messages.
        fields: what it holds.

    All methods raise `BundleError`, naming the field and the way out.
    """

    def __init__(self, card: str, fields: Any) -> None:
        self.card = card
        if not isinstance(fields, dict):
            raise self.error("must be a JSON object; export or fetch the bundle again")
        if fields.get("format") not in (FORMAT, FIXED_FORMAT):
            raise self.error(
                f"its format is {fields.get('format')!r}, this boxdrop reads {FORMAT!r} and "
                f"{FIXED_FORMAT!r}; update boxdrop or export the model again"
            )
        self.fields: dict[str, Any] = fields
        self.is_fixed = fields["format"] == FIXED_FORMAT

    def error(self, message: str) -> BundleError:
        return BundleError(f"{self.card}: {message}")

    def name(self) -> str:
        """The bundle's name."""
        name = self.string("name")
        if not is_valid_name(name):
            raise self.error(
                f"`name` is {name!r}; use letters, digits, dots and dashes, beginning with a letter or digit"
            )
        return name

    def string(self, key: str) -> str:
        """A text, not empty."""
        return self._string(self.fields, key)

    def parity(self) -> dict[str, Any]:
        """The report of the export."""
        return self._object(self.fields, "parity")

    def source(self) -> Source:
        """Where the weights come from."""
        source = self._object(self.fields, "source")
        licence = source.get("licence")
        return Source(
            id=self._string(source, "id", "source"),
            revision=self._string(source, "revision", "source"),
            transformers=self._string(source, "transformers", "source"),
            torch=self._string(source, "torch", "source"),
            licence=licence if isinstance(licence, str) else None,
        )

    def preprocess(self) -> Preprocess:
        """How images are prepared."""
        fields = self._object(self.fields, "preprocess")
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
        channels = fields.get("channels", "rgb")
        if channels not in CHANNELS:
            raise self.error(f"`preprocess.channels` is {channels!r}; use one of {', '.join(CHANNELS)}")
        fill = self._whole(fields, "fill", "preprocess", least=0) if "fill" in fields else 0
        if fill > 255:
            raise self.error(f"`preprocess.fill` is {fill}; it must be a level from 0 to 255")
        multiple = self._whole(fields, "multiple", "preprocess") if "multiple" in fields else 1
        mean = self._colour(fields, "mean")
        return Preprocess(height, width, resize, mean, std, channels, fill, multiple)

    def text(self) -> Text | None:
        """How prompts are tokenised; None for fixed classes."""
        if self.is_fixed:
            return None
        fields = self._object(self.fields, "text")
        template = self._string(fields, "template", "text")
        if template.count("{}") != 1:
            raise self.error(
                f"`text.template` is {template!r}; it must hold {{}} once, where the prompt goes"
            )
        length = self._whole(fields, "max_length", "text")
        return Text(length, self._whole(fields, "pad_id", "text", least=0), template)

    def classes(self) -> tuple[str, ...]:
        """The names of fixed classes, in the order of the scores; empty for words."""
        if not self.is_fixed:
            return ()
        names = self.fields.get("classes")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise self.error("`classes` must be a list of names, empty for a class without one")
        return tuple(names)

    def contract(self) -> Contract | None:
        """What the graph of a detector with fixed classes takes and gives; None for words."""
        if not self.is_fixed:
            return None
        try:
            return from_fields(Contract, self._object(self.fields, "contract"), "contract")
        except DocumentError as error:
            raise self.error(f"{error}; update boxdrop or wrap the model again") from None

    def trained(self) -> Trained | None:
        """What a detector of one's own was trained on; None for others."""
        if "trained" not in self.fields:
            return None
        try:
            return from_fields(Trained, self._object(self.fields, "trained"), "trained")
        except DocumentError as error:
            raise self.error(f"{error}; update boxdrop or train again") from None

    def defaults(self) -> Defaults:
        """The scores."""
        fields = self._object(self.fields, "defaults")
        threshold, floor = (self._number(fields, key, "defaults") for key in ("threshold", "floor"))
        if not 0 < floor <= threshold <= 1:
            raise self.error(f"`defaults` must have 0 < floor ({floor}) <= threshold ({threshold}) <= 1")
        return Defaults(threshold, floor)

    def files(self) -> dict[str, FileDigest]:
        """The expected sizes and hashes."""
        files = {}
        for name, entry in self._object(self.fields, "files").items():
            # The names are untrusted input: they must not point outside the folder.
            if not is_valid_name(name):
                raise self.error(f"`files` names {name!r}, which is not a plain file name")
            if not isinstance(entry, dict):
                raise self.error(f"`files.{name}` must hold sha256 and bytes")
            what = f"files.{name}"
            files[name] = FileDigest(
                self._string(entry, "sha256", what), self._whole(entry, "bytes", what, least=0)
            )
        needed = (IMAGE_GRAPH,) if self.is_fixed else (IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER)
        missing = [name for name in needed if name not in files]
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
