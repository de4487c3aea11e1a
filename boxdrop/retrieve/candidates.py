"""Candidates: images that a collection offers, before they are fetched."""

from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final, Protocol
from urllib.parse import urlsplit

from boxdrop.retrieve.licenses import License

MAX_TEXT: Final = 500
"""Titles and names are cut to this many characters; some collections put whole stories into them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that a collection offers. Texts are plain, on one line; unknown values are empty or None.

    Attributes:
        url: of its bytes: http(s), ``s3://bucket/key``, or the path of a local file.
        source: the collection: ``openverse/flickr``, ``wikimedia-commons``, …
        title, creator: as shown to people.
        creator_url, landing_page: pages for people.
        attribution: the collection's own wording of the credit; empty if it has none.
        width, height: in pixels, according to the collection.
        score: how well it matches the caption, 0 to 1, if it was ranked.
    """

    url: str
    source: str
    license: License
    title: str = ""
    creator: str = ""
    creator_url: str = ""
    landing_page: str = ""
    attribution: str = ""
    width: int | None = None
    height: int | None = None
    score: float | None = None

    def credit(self) -> str:
        """The credit line: title, creator, licence and source.

        https://wiki.creativecommons.org/wiki/Recommended_practices_for_attribution
        """
        if self.attribution:
            return self.attribution
        work = f"“{self.title}”" if self.title else "Untitled"
        by = f" by {self.creator}" if self.creator else ""
        terms = f", {self.license.name}" if self.license.name else ""
        terms += f" ({self.license.url})" if self.license.url else ""
        via = f", via {self.landing_page}" if self.landing_page else ""
        return f"{work}{by}{terms}{via}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of a candidate, and their final URL after redirects."""

    data: bytes
    url: str


class CandidateSource(Protocol):
    """A collection: offers candidates, best first, and fetches the bytes of one."""

    @property
    def name(self) -> str:
        """The collection's name, for messages."""

    def candidates(self) -> Iterator[Candidate]:
        """Stream candidates, in a stable order if the collection has one.

        Raises:
            BoxdropError: the collection fails; the message says what to do.
        """

    def fetch(self, candidate: Candidate) -> Fetched:
        """Fetch the bytes of one; called from several threads.

        Raises:
            FetchError, ImageError: why it cannot be fetched.
            Busy: try again later.
        """


def plain_text(value: object) -> str:
    """Turn a collection's text into one plain line: strip tags and repeated blanks, decode entities."""
    if not isinstance(value, str):
        return ""
    if "<" in value or "&" in value:
        reader = _TextReader()
        reader.feed(value)
        reader.close()
        value = "".join(reader.parts)
    text = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1].rstrip()}…"


def web_address(value: object) -> str:
    """An http(s) URL that is safe to show; empty for anything else (``javascript:``, a number, …)."""
    if not isinstance(value, str):
        return ""
    address = value.strip()
    if address.startswith("//"):
        address = f"https:{address}"
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    usable = (
        parts.scheme in ("http", "https") and parts.hostname and address.isprintable() and " " not in address
    )
    return address if usable and len(address) <= 2048 else ""


def pixels(value: object) -> int | None:
    """A width or height from a collection; None if it is invalid."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


class _TextReader(HTMLParser):
    """Collects the text of an HTML fragment, without scripts and styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in ("script", "style")
        if tag in ("br", "p", "div", "li", "td"):
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style") and self._silent > 0

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)
