"""Openverse: openly licensed images of many collections (Flickr, museums, Wikimedia Commons, …).

The API: https://api.openverse.org/v1/ · its documentation: https://docs.openverse.org/api/ · its source:
https://github.com/WordPress/openverse/tree/main/api (``serializers/media_serializers.py``,
``utils/throttle.py``, ``utils/pagination.py``).
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.candidates import Candidate, Fetched, pixels, plain_text, web_address
from boxdrop.retrieve.licenses import CREATIVE_COMMONS, LicenseFilter, read_license
from boxdrop.retrieve.web import Answer, Web

URL: Final = "https://api.openverse.org"
CLIENT_ID: Final = "OPENVERSE_CLIENT_ID"
CLIENT_SECRET: Final = "OPENVERSE_CLIENT_SECRET"  # noqa: S105 — the variable's name

ANONYMOUS_PAGE: Final = 20
"""Results per page; more is refused with 401 without credentials."""
PAGE: Final = 50
"""Results per page with credentials. Depending on its version, the API allows 500 or 50."""
MAX_QUERY: Final = 200
"""Characters of a query; the API truncates longer ones."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An application registered at ``/v1/auth_tokens/register/``: 100 requests per minute instead of a few
    per hour."""

    client_id: str
    client_secret: str


class Openverse:
    """Images that Openverse finds for a caption; see `boxdrop.retrieve.candidates.CandidateSource`.

    Args:
        web: sends the requests.
        caption: what to search for.
        licenses: the accepted ones; Openverse filters by them.
        credentials: of a registered application; None: anonymous.
        sources: collections to search (``flickr``, ``met``, …); empty: all.
        extensions: ``jpg``, ``png``, …; empty: all.
        sizes: ``small``, ``medium``, ``large``; empty: all.
        url: of the API.
        clock: monotonic seconds.
    """

    name = "Openverse"

    def __init__(
        self,
        web: Web,
        caption: str,
        licenses: LicenseFilter = LicenseFilter(),  # noqa: B008 — frozen
        *,
        credentials: Credentials | None = None,
        sources: Sequence[str] = (),
        extensions: Sequence[str] = (),
        sizes: Sequence[str] = (),
        url: str = URL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._web = web
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._token: str | None = None
        self._rates = _Rates(clock)
        self._query = {"q": " ".join(caption.split())[:MAX_QUERY], **_license_query(licenses)}
        for key, values in (("source", sources), ("extension", extensions), ("size", sizes)):
            if values:
                self._query[key] = ",".join(values)

    def candidates(self) -> Iterator[Candidate]:
        """See `CandidateSource`. It never requests pages beyond `page_count`, which the API would refuse."""
        size = PAGE if self._credentials else ANONYMOUS_PAGE
        page, last = 1, 1
        while page <= last:
            content = self._ask(page, size)
            results = content.get("results")
            if not isinstance(results, list):
                raise BoxdropError(
                    f"{self.name}: an answer without `results`; is {self._url} the URL of Openverse's API?"
                )
            yield from filter(None, map(_candidate, results))
            last = pixels(content.get("page_count")) or page
            page += 1

    def fetch(self, candidate: Candidate) -> Fetched:
        """See `CandidateSource`."""
        return self._web.download(candidate.url)

    def _ask(self, page: int, size: int) -> Mapping[str, Any]:
        params = {**self._query, "page": str(page), "page_size": str(size)}
        for renewed in (False, True):
            wait = self._rates.wait_s()
            if wait:
                self._web.pauses.wait(wait, f"{self.name}: its rate limit ({self._rates.limit})")
            headers = {"Authorization": f"Bearer {self._log_in(renewed)}"} if self._credentials else None
            self._rates.count()
            answer = self._web.ask(self.name, f"{self._url}/v1/images/", params=params, headers=headers)
            self._rates.learn(answer.headers)
            if answer.status == 401 and self._credentials and not renewed:
                continue  # the token expired
            if answer.status != 200 or not isinstance(answer.content, dict):
                raise BoxdropError(f"{self.name} refuses the search ({answer.status}): {_detail(answer)}")
            return answer.content
        raise AssertionError("unreachable")

    def _log_in(self, renew: bool) -> str:
        if self._token is None or renew:
            assert self._credentials is not None
            form = {
                "client_id": self._credentials.client_id,
                "client_secret": self._credentials.client_secret,
                "grant_type": "client_credentials",
            }
            answer = self._web.ask(self.name, f"{self._url}/v1/auth_tokens/token/", form=form)
            token = answer.content.get("access_token") if isinstance(answer.content, dict) else None
            if answer.status != 200 or not isinstance(token, str) or not token:
                raise BoxdropError(
                    f"{self.name} refuses the log-in ({answer.status}): {_detail(answer)}; check {CLIENT_ID} "
                    f"and {CLIENT_SECRET}, or unset both to ask anonymously"
                )
            self._token = token
        return self._token


def _license_query(licenses: LicenseFilter) -> dict[str, str]:
    codes = licenses.codes & CREATIVE_COMMONS
    if not codes:
        raise BoxdropError(
            "Openverse has only Creative Commons licences and public domain; give --license open, or …"
        )
    query = {"license": ",".join(sorted(codes))}
    types = [
        name
        for name, excluded in (("commercial", "nc"), ("modification", "nd"))
        if not any(excluded in code.split("-") for code in codes)
    ]
    return query | ({"license_type": ",".join(types)} if types else {})


def _candidate(entry: object) -> Candidate | None:
    """An entry of ``results``; None for one without an address. Any field may be null or missing."""
    if not isinstance(entry, dict) or not (url := web_address(entry.get("url"))):
        return None
    source = plain_text(entry.get("source")) or plain_text(entry.get("provider"))
    return Candidate(
        url=url,
        source=f"openverse/{source}" if source else "openverse",
        license=read_license(
            plain_text(entry.get("license")),
            plain_text(entry.get("license_version")),
            web_address(entry.get("license_url")),
        ),
        title=plain_text(entry.get("title")),
        creator=plain_text(entry.get("creator")),
        creator_url=web_address(entry.get("creator_url")),
        landing_page=web_address(entry.get("foreign_landing_url")),
        attribution=plain_text(entry.get("attribution")),
        width=pixels(entry.get("width")),
        height=pixels(entry.get("height")),
    )


def _detail(answer: Answer) -> str:
    detail = (
        answer.content.get("detail", answer.content) if isinstance(answer.content, dict) else answer.content
    )
    return str(detail)[:300]


_RATE: Final = re.compile(r"(?P<number>\d+)/(?P<period>[smhd])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Rates:
    """Obeys ``X-RateLimit-Limit-SCOPE: 20/min`` and ``X-RateLimit-Available-SCOPE: 3``, for several scopes at
    once.

    The limits are sliding windows (Django REST framework's): if nothing is available, the next request is
    allowed one period after the oldest one in the window. Requests by others from the same address are
    unknown to us; then the server responds with 429.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked: deque[float] = deque(maxlen=1000)
        self._free_at = 0.0
        self.limit = ""

    def count(self) -> None:
        """Record that a request is made now."""
        self._asked.append(self._clock())

    def wait_s(self) -> float:
        """Seconds until the next request is allowed."""
        return max(0.0, self._free_at - self._clock())

    def learn(self, headers: Mapping[str, str]) -> None:
        """Read the headers of a response."""
        self._free_at = 0.0
        for key, value in headers.items():
            scope = key.lower().removeprefix("x-ratelimit-limit-")
            match = _RATE.match(value) if scope != key.lower() else None
            if match is None or headers.get(f"x-ratelimit-available-{scope}", "").strip() not in ("0", "-1"):
                continue
            number, period = int(match["number"]), _SECONDS[match["period"]]
            within = list(self._asked)[-number:] if number else []
            oldest = within[0] if len(within) == number else self._clock() - period + period / max(1, number)
            if oldest + period > self._free_at:
                self._free_at, self.limit = oldest + period, f"{scope} {value}"
