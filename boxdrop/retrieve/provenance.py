"""Provenance: each image's source, licence and credit. Stored permanently.

It is stored twice: as a line of ``sources.jsonl`` beside the images and, in S3, as each object's metadata,
which is copied with it. Label Studio shows whichever is available.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.candidates import Candidate
from boxdrop.retrieve.licenses import License

FORMAT: Final = "boxdrop-source/1"
SOURCES: Final = "sources.jsonl"

_PREFIX: Final = "boxdrop-"
_METADATA_BYTES: Final = 1900
"""S3 allows 2 KB of metadata, names and values together:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html"""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Hashes that identify an image.

    Attributes:
        sha256: of the file, in hex.
        phash: see `boxdrop.retrieve.duplicates.perceptual_hash`; None if near duplicates are not checked.
    """

    sha256: str
    phash: int | None


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A retrieved image: a line of ``sources.jsonl``.

    Attributes:
        file: its name below the destination.
        candidate: the collection's data.
        caption: the search words.
        width, height: upright pixels.
        size: bytes of the file.
        fingerprint: see `Fingerprint`.
        retrieved_at: ISO 8601, UTC.
        final_url: the URL after redirects.
    """

    file: str
    candidate: Candidate
    caption: str
    width: int
    height: int
    size: int
    fingerprint: Fingerprint
    retrieved_at: str
    final_url: str

    def to_json(self) -> str:
        """One line, without line end."""
        phash = self.fingerprint.phash
        content = {
            "format": FORMAT,
            "file": self.file,
            "credit": self.candidate.credit(),
            **asdict(self.candidate),
            "caption": self.caption,
            "image_width": self.width,
            "image_height": self.height,
            "bytes": self.size,
            "sha256": self.fingerprint.sha256,
            "phash": None if phash is None else f"{phash:016x}",
            "retrieved_at": self.retrieved_at,
            "final_url": self.final_url,
        }
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes, where: str) -> "SourceRecord":
        """Read one line.

        Raises:
            BoxdropError: boxdrop did not write it; names the place.
        """
        try:
            content = json.loads(line)
            if content["format"] != FORMAT:
                raise BoxdropError(f"{where}: the format is {content['format']!r}, not {FORMAT}")
            phash = content["phash"]
            return cls(
                file=str(content["file"]),
                candidate=Candidate(
                    license=License(**content["license"]),
                    **{key: content[key] for key in _CANDIDATE_FIELDS},
                ),
                caption=content["caption"],
                width=content["image_width"],
                height=content["image_height"],
                size=content["bytes"],
                fingerprint=Fingerprint(content["sha256"], None if phash is None else int(phash, 16)),
                retrieved_at=content["retrieved_at"],
                final_url=content["final_url"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BoxdropError(f"{where}: boxdrop did not write this line ({error!r})") from None


_CANDIDATE_FIELDS: Final = tuple(name for name in Candidate.__dataclass_fields__ if name != "license")


def read_sources(path: Path) -> Iterator[SourceRecord]:
    """Stream a ``sources.jsonl``; empty if there is no file.

    Raises:
        BoxdropError: naming the file and the line.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            yield SourceRecord.from_json(line, f"{path}: line {number}")


def to_metadata(candidate: Candidate) -> dict[str, str]:
    """Encode provenance as metadata of an S3 object: ASCII only, so texts are percent-encoded; long ones are
    truncated."""
    license = candidate.license
    wanted = {
        "license": license.name,
        "license-code": license.code,
        "license-url": license.url,
        "source": candidate.source,
        "landing-page": candidate.landing_page,
        "credit": candidate.credit(),
        "creator": candidate.creator,
        "title": candidate.title,
        "creator-url": candidate.creator_url,
        "url": candidate.url,
    }
    metadata: dict[str, str] = {}
    left = _METADATA_BYTES
    for name, text in wanted.items():  # the most important fields come first
        key = _PREFIX + name
        value = _cut(quote(text, safe=_PLAIN), left - len(key))
        if value:
            metadata[key] = value
            left -= len(key) + len(value)
    return metadata


_PLAIN: Final = " !#$&'()*+,-./:;=?@_~[]"


def _cut(encoded: str, most: int) -> str:
    """Percent-encoded text, truncated to this many bytes at a character boundary."""
    if len(encoded) <= most:
        return encoded.strip()
    cut = encoded[: max(0, most)]
    if (percent := cut.rfind("%", -2)) >= 0:
        cut = cut[:percent]
    while cut:  # a character may have up to four encoded bytes
        try:
            unquote(cut, errors="strict")
        except UnicodeDecodeError:
            cut = cut[: cut.rindex("%")]
        else:
            break
    return cut.strip()


@dataclass(frozen=True, slots=True)
class Credit:
    """The provenance shown on an image's task.

    Attributes:
        line: the credit, in one line.
        license: its name.
        license_url, landing_page: empty if there is none.
        source: the collection.
    """

    line: str
    license: str
    license_url: str
    landing_page: str
    source: str

    @classmethod
    def of(cls, candidate: Candidate) -> "Credit":
        """The credit of a candidate."""
        license = candidate.license
        return cls(candidate.credit(), license.name, license.url, candidate.landing_page, candidate.source)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "Credit | None":
        """Read the metadata of an S3 object; None if it has none from boxdrop."""

        def text(name: str) -> str:
            return unquote(metadata.get(_PREFIX + name, ""))

        if not text("source"):
            return None
        return cls(text("credit"), text("license"), text("license-url"), text("landing-page"), text("source"))

    def task_data(self) -> dict[str, Any]:
        """Fields of a task's data in Label Studio."""
        return {
            "credit": self.line,
            "license": self.license,
            "license_url": self.license_url,
            "landing_page": self.landing_page,
            "source": self.source,
        }
