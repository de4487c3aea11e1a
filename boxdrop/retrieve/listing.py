"""The user's own list of URLs: one per line, or a table with licences and credits."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.candidates import Candidate, Fetched, pixels, plain_text, web_address
from boxdrop.retrieve.licenses import read_license
from boxdrop.retrieve.web import Web

COLUMNS: Final = (
    *("url", "license", "license_version", "license_url", "title", "creator", "creator_url", "landing_page"),
    *("attribution", "width", "height"),
)
"""Columns of a table; only `url` is required. Others are ignored."""

_DIALECTS: Final = {".csv": ",", ".tsv": "\t"}


class Listing:
    """Images of a list; see `boxdrop.retrieve.candidates.CandidateSource`.

    Args:
        web: downloads the images.
        path: ``*.csv`` or ``*.tsv`` with a header of names from `COLUMNS`; else a text file with one URL per
            line, in which empty lines and lines that begin with ``#`` are ignored.

    Raises:
        BoxdropError: it cannot be read, or has no column `url`.
    """

    def __init__(self, web: Web, path: Path) -> None:
        self.name = path.name
        self._web = web
        self._path = path
        self._delimiter = _DIALECTS.get(path.suffix.lower())
        next(iter(self.candidates()), None)  # report an invalid file now

    def candidates(self) -> Iterator[Candidate]:
        """See `CandidateSource`; the file is read as a stream."""
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as file:
                if self._delimiter is None:
                    for number, line in enumerate(file, 1):
                        if line.strip() and not line.lstrip().startswith("#"):
                            yield self._candidate({"url": line.strip()}, number)
                    return
                table = csv.DictReader(file, delimiter=self._delimiter)
                names = [name.strip().lower() for name in table.fieldnames or ()]
                if "url" not in names:
                    raise BoxdropError(
                        f"{self._path}: line 1 has no column `url`; it may have {', '.join(COLUMNS)}"
                    )
                table.fieldnames = names
                for row in table:
                    yield self._candidate(row, table.line_num)
        except UnicodeDecodeError:
            raise BoxdropError(f"{self._path}: this is not UTF-8 text; save it as UTF-8") from None
        except (OSError, csv.Error) as error:
            raise BoxdropError(f"{self._path}: cannot be read: {error}") from None

    def fetch(self, candidate: Candidate) -> Fetched:
        """See `CandidateSource`."""
        return self._web.download(candidate.url)

    def _candidate(self, row: Mapping[str, str | None], number: int) -> Candidate:
        url = web_address(row.get("url"))
        if not url:
            raise BoxdropError(f"{self._path}: line {number}: {row.get('url')!r} is not an http(s) URL")
        return Candidate(
            url=url,
            source=f"list/{self.name}",
            license=read_license(
                plain_text(row.get("license")),
                plain_text(row.get("license_version")),
                web_address(row.get("license_url")),
            ),
            title=plain_text(row.get("title")),
            creator=plain_text(row.get("creator")),
            creator_url=web_address(row.get("creator_url")),
            landing_page=web_address(row.get("landing_page")),
            attribution=plain_text(row.get("attribution")),
            width=_number(row.get("width")),
            height=_number(row.get("height")),
        )


def _number(text: str | None) -> int | None:
    return pixels(int(text)) if text and text.strip().isdigit() and len(text) < 10 else None
