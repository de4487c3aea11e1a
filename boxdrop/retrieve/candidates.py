"""Candidates: images that a collection offers, before anybody fetched them."""

from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final, Protocol
from urllib.parse import urlsplit

from boxdrop.retrieve.licenses import License

MAX_TEXT: Final = 500
"""Characters of a title or a name that are kept; collections hold whole stories in them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that a collection offers. Texts are plain, of one line; what is not known is empty or None.

    Attributes:
        url: where its bytes are: http(s), ``s3://bucket/key``, or the path of a file of this machine.
        source: the collection: ``openverse/flickr``, ``wikimedia-commons``, …
        title, creator: as people read them.
        creator_url, landing_page: for people to look at.
        attribution: the credit as the collection words it; empty where it gives none.
        width, height: in pixels, as the collection says.
        score: how well it fits the caption, 0 to 1, where somebody measured it.
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
        """The line that is owed to the creator: title, creator, licence and where it is from.

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
    """The bytes of a candidate, and the address that gave them in the end."""

    data: bytes
    url: str


class CandidateSource(Protocol):
    """A collection: offers candidates, best first, and fetches the bytes of one."""

    @property
    def name(self) -> str:
        """The collection in a few words, for messages."""

    def candidates(self) -> Iterator[Candidate]:
        """Offer candidates as a stream, in the same order every time as far as the collection keeps it.

        Raises:
            BoxdropError: the collection cannot be asked; says how to go on.
        """

    def fetch(self, candidate: Candidate) -> Fetched:
        """Get the bytes of one; called from several threads.

        Raises:
            FetchError, ImageError: there are none, and why.
            Busy: not now.
        """


def plain_text(value: object) -> str:
    """Make one line of plain text from what a collection sent: tags and doubled blanks go, entities are
    read."""
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
    """An http(s) address that people may be shown; empty for anything else (``javascript:``, a number, …)."""
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
    """A width or height that a collection stated; None for anything that cannot be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


class _TextReader(HTMLParser):
    """Collects the text of a fragment of HTML; what scripts and styles hold is no text."""

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
