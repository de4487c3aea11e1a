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

A detector with fixed classes has the format ``boxdrop-bundle/2``: no text graph and no tokenizer, and in the
place of ``text`` its ``classes``, a list of names, and its ``contract`` (`boxdrop.detect.contract`). One that
`boxdrop train` made also has ``trained``, which names its data set.

Other files that ``files`` does not list (a model card, ``README.md``) are allowed; the detector does not read
them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from boxdrop.detect.bundle_reader import (
    FIXED_FORMAT,
    FORMAT,
    IMAGE_GRAPH,
    TEXT_GRAPH,
    TOKENIZER,
    BundleReader,
    is_valid_name,
)
from boxdrop.detect.contract import Contract
from boxdrop.detect.settings import RESIZES, Defaults, FileDigest, Preprocess, Source, Text, Trained
from boxdrop.domain.errors import BundleError

__all__ = [
    "CARD",
    "FIXED_FORMAT",
    "FORMAT",
    "IMAGE_GRAPH",
    "RESIZES",
    "TEXT_GRAPH",
    "TOKENIZER",
    "Bundle",
    "Contract",
    "Defaults",
    "FileDigest",
    "Preprocess",
    "Source",
    "Text",
    "Trained",
    "cpu_graph",
    "digest_of",
    "is_valid_name",
]

CARD: Final = "bundle.json"

_HASHED_ON_LOAD = 32 * 2**20  # bytes; hashing 32 MiB takes 20 ms, hashing OWLv2's 600 MB half a second


def cpu_graph(name: str) -> str:
    """Name of the graph that ONNX Runtime has already optimised for the CPU: ``image.cpu.onnx``."""
    return name.removesuffix(".onnx") + ".cpu.onnx"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An exported detector on disk; see the module's description for the fields.

    Attributes:
        path: the folder.
        files: all files that the detector reads, by name.
        parity: the comparison with the source model at export; for a reduced precision also its ``drift``.
        runtime: version of ONNX Runtime that optimised the graphs of `cpu_graph`; None if there are none.
        text: how prompts are tokenised; None for fixed classes.
        classes: names of fixed classes, in the order of the graph's scores; "" for a class without a name.
            Empty for a detector that finds any words.
        contract: what the graph of fixed classes takes and gives; None for words.
        trained: what `boxdrop train` trained it on; None for other detectors.
    """

    path: Path
    name: str
    family: str
    precision: str
    source: Source
    preprocess: Preprocess
    text: Text | None
    defaults: Defaults
    files: Mapping[str, FileDigest]
    parity: Mapping[str, Any] = field(default_factory=dict, compare=False)
    runtime: str | None = None
    classes: tuple[str, ...] = ()
    contract: Contract | None = None
    trained: Trained | None = field(default=None, compare=False)

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
        reader = BundleReader(card, fields)
        return cls(
            path=folder,
            name=reader.name(),
            family=reader.string("family"),
            precision=reader.string("precision"),
            source=reader.source(),
            preprocess=reader.preprocess(),
            text=reader.text(),
            defaults=reader.defaults(),
            files=reader.files(),
            parity=reader.parity(),
            runtime=reader.string("runtime") if "runtime" in reader.fields else None,
            classes=reader.classes(),
            contract=reader.contract(),
            trained=reader.trained(),
        )

    @property
    def digest(self) -> str:
        """Hash of everything that determines the detector's output: files, preprocessing, text or classes,
        floor. 64 hexadecimal digits.

        It excludes the name, the source, the parity report, the default threshold, what it was trained on and
        the model card.
        """
        content = {
            "family": self.family,
            "precision": self.precision,
            "preprocess": self.preprocess.settings(),
            **self._vocabulary(),
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
                    "altered; export or fetch the bundle again"
                )
            if (largest is None or size <= largest) and digest_of(file).sha256 != expected.sha256:
                raise BundleError(
                    f"{file}: was altered (its sha256 is not the one in {CARD}); export or fetch the "
                    "bundle again"
                )

    def to_json(self) -> str:
        """The text of ``bundle.json``."""
        fields = {
            "format": FORMAT if self.contract is None else FIXED_FORMAT,
            "name": self.name,
            "family": self.family,
            "precision": self.precision,
            "source": {key: value for key, value in asdict(self.source).items() if value is not None},
            "preprocess": self.preprocess.settings(),
            **self._vocabulary(),
            "defaults": asdict(self.defaults),
            **({"runtime": self.runtime} if self.runtime is not None else {}),
            "files": {name: asdict(self.files[name]) for name in sorted(self.files)},
            "parity": dict(self.parity),
            **({"trained": asdict(self.trained)} if self.trained is not None else {}),
        }
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def _vocabulary(self) -> dict[str, Any]:
        if self.text is not None:
            return {"text": asdict(self.text)}
        assert self.contract is not None
        return {"classes": list(self.classes), "contract": self.contract.settings()}


def digest_of(file: Path) -> FileDigest:
    """Hash a file in constant memory."""
    with file.open("rb") as stream:
        return FileDigest(hashlib.file_digest(stream, "sha256").hexdigest(), file.stat().st_size)


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
