"""Wikimedia Commons: the free media of Wikipedia and its sister projects.

The API is MediaWiki's: https://www.mediawiki.org/wiki/API:Search as a generator, with
https://www.mediawiki.org/wiki/API:Imageinfo and the fields of
https://www.mediawiki.org/wiki/Extension:CommonsMetadata. Etiquette:
https://www.mediawiki.org/wiki/API:Etiquette (one request after the other),
https://www.mediawiki.org/wiki/Manual:Maxlag_parameter,
https://foundation.wikimedia.org/wiki/Policy:Wikimedia_Foundation_User-Agent_Policy (identify yourself, with a
contact).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.candidates import Candidate, Fetched, pixels, plain_text, web_address
from boxdrop.retrieve.licenses import License, read_license
from boxdrop.retrieve.web import Web

URL: Final = "https://commons.wikimedia.org/w/api.php"

_FILES: Final = "6"  # the namespace
_PAGE: Final = "50"
_WIDTH: Final = "1920"
"""Wider images are fetched at this width, since originals have up to 100 megapixels. It is one of the widths
that Wikimedia caches: https://www.mediawiki.org/wiki/Common_thumbnail_sizes"""
_MAX_LAG_S: Final = 5
_TRIES: Final = 5
_FIELDS: Final = (
    "License|LicenseShortName|LicenseUrl|UsageTerms|Artist|Credit|Attribution|ObjectName|NonFree|Restrictions"
)


class WikimediaCommons:
    """Images that Wikimedia Commons finds for a caption; see `boxdrop.retrieve.candidates.CandidateSource`.

    Args:
        web: sends the requests.
        caption: what to search for.
        contact: how to reach the user; Wikimedia requires it.
        url: of the API: Commons', or another MediaWiki's.

    Raises:
        BoxdropError: no contact is given.
    """

    name = "Wikimedia Commons"

    def __init__(self, web: Web, caption: str, *, contact: str, url: str = URL) -> None:
        if not contact:
            raise BoxdropError(
                "Wikimedia requires programs to name a contact: give --contact with an email address or a "
                "web page, or set BOXDROP_CONTACT"
            )
        self._web = web
        self._url = url
        self._query = {
            "action": "query",
            "format": "json",
            "formatversion": "2",
            "maxlag": str(_MAX_LAG_S),
            "generator": "search",
            # Bitmap images only, no videos, sounds or documents.
            "gsrsearch": f"{' '.join(caption.split())[:290]} filetype:bitmap",
            "gsrnamespace": _FILES,
            "gsrlimit": _PAGE,
            "prop": "imageinfo",
            "iiprop": "url|size|mime|extmetadata",
            "iiurlwidth": _WIDTH,
            "iiextmetadatafilter": _FIELDS,
            "iiextmetadatalanguage": "en",
        }

    def candidates(self) -> Iterator[Candidate]:
        """See `CandidateSource`.

        A response may contain only part of a batch (the ``imageinfo`` of some pages follows in the next one),
        so pages are merged until the API reports ``batchcomplete``. Within a batch they are unordered, but
        have an `index`.
        """
        going_on: Mapping[str, str] = {}
        batch: dict[Any, dict[str, Any]] = {}
        while True:
            content = self._ask(going_on)
            for page in (content.get("query") or {}).get("pages") or []:
                if isinstance(page, dict):
                    batch.setdefault(page.get("pageid"), {}).update(page)
            more = content.get("continue")
            if content.get("batchcomplete") or not isinstance(more, dict):
                yield from filter(None, map(_candidate, sorted(batch.values(), key=_rank)))
                batch = {}
            if not isinstance(more, dict):
                return
            going_on = {str(key): str(value) for key, value in more.items()}

    def fetch(self, candidate: Candidate) -> Fetched:
        """See `CandidateSource`."""
        return self._web.download(candidate.url)

    def _ask(self, going_on: Mapping[str, str]) -> Mapping[str, Any]:
        for attempt in range(1, _TRIES + 1):
            answer = self._web.ask(self.name, self._url, params={**self._query, **going_on})
            if not isinstance(answer.content, dict):
                raise BoxdropError(
                    f"{self.name}: its answer is not a JSON object; is {self._url} the URL of a MediaWiki "
                    "API?"
                )
            error = answer.content.get("error")
            if not isinstance(error, dict):
                return answer.content
            code, said = str(error.get("code", "")), plain_text(error.get("info"))
            # Errors have status 200. A lagging database asks for a pause of at least 5 seconds.
            if code not in ("maxlag", "ratelimited") or attempt == _TRIES:
                raise BoxdropError(f"{self.name} refuses the search ({code}): {said}")
            pause = answer.retry_after_s or 0.0
            self._web.pauses.wait(
                max(_MAX_LAG_S, pause) * (1 if pause else attempt), f"{self.name}: {said or code}"
            )
        raise AssertionError("unreachable")


def _rank(page: Mapping[str, Any]) -> int:
    index = page.get("index")
    return index if isinstance(index, int) else 1 << 30


def _candidate(page: Mapping[str, Any]) -> Candidate | None:
    """A page of the response; None for one without an image."""
    listed = page.get("imageinfo")
    info = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    url = web_address(info.get("thumburl")) or web_address(info.get("url"))
    if not url:
        return None
    smaller = url == web_address(info.get("thumburl"))
    title = str(page.get("title", "")).partition(":")[2].rpartition(".")[0]
    artist = _field(info, "Artist") or _field(info, "Credit")
    return Candidate(
        url=url,
        source="wikimedia-commons",
        license=_license(info),
        title=_field(info, "ObjectName") or plain_text(title),
        creator=artist,
        landing_page=web_address(info.get("descriptionurl")),
        attribution=_field(info, "Attribution"),
        width=pixels(info.get("thumbwidth" if smaller else "width")),
        height=pixels(info.get("thumbheight" if smaller else "height")),
    )


def _license(info: Mapping[str, Any]) -> License:
    """The licence of a file, from its machine-readable code, else from its short name. Non-free files count
    as unlicensed."""
    url = web_address(_field(info, "LicenseUrl"))
    name = _field(info, "LicenseShortName") or _field(info, "UsageTerms")
    if _field(info, "NonFree"):
        return License("unknown", "", url, name or "non-free")
    by_name, by_code = read_license(name, url=url), read_license(_field(info, "License"), url=url)
    if "unknown" not in (by_name.code, by_code.code) and by_name.code != by_code.code:
        return License("unknown", "", url, f"{by_name.name} or {by_code.name}")
    return by_name if by_name.code != "unknown" else by_code


def _field(info: Mapping[str, Any], name: str) -> str:
    """A field of ``extmetadata``, whose values are HTML, as plain text."""
    fields = info.get("extmetadata")
    entry = fields.get(name) if isinstance(fields, dict) else None
    value = entry.get("value") if isinstance(entry, dict) else None
    return plain_text(value)
