"""Licences of images: parsed from collections' data, normalised, and selected by the user.

A licence has one of Openverse's codes: ``by``, ``by-sa``, ``by-nc``, ``by-nd``, ``by-nc-sa``, ``by-nc-nd``,
``cc0`` and ``pdm`` (public domain); other common licences have a code of our own (``gfdl``, ``fal``, …).
Anything else is ``unknown`` and left out unless the user asks for it: a wrong guess is worse than a missed
image.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from boxdrop.domain.errors import BoxdropError

UNKNOWN: Final = "unknown"
OWN: Final = "own"
"""The code of images from the user's own archive."""

OPEN: Final = frozenset({"cc0", "pdm", "by", "by-sa"})
"""Any purpose, with changes: at most they require credit and, for `by-sa`, the same licence."""

_NON_COMMERCIAL: Final = frozenset({"by-nc", "by-nc-sa", "by-nc-nd", "nc-sampling+"})
_NO_DERIVATIVES: Final = frozenset({"by-nd", "by-nc-nd"})
_OTHER: Final = frozenset({"sampling+", "gfdl", "fal", "ogl", "odbl", "kogl", "attribution"})

CREATIVE_COMMONS: Final = OPEN | _NON_COMMERCIAL | _NO_DERIVATIVES | {"sampling+"}
"""The licences that Openverse knows and can filter by.

https://github.com/WordPress/openverse/blob/main/api/api/constants/licenses.py
"""

GROUPS: Final = {
    "open": OPEN,
    "non-commercial": _NON_COMMERCIAL,
    "no-derivatives": _NO_DERIVATIVES,
    "any": CREATIVE_COMMONS | _OTHER | {UNKNOWN},
}
"""Words for groups of codes in ``--license``."""

_CODES: Final = CREATIVE_COMMONS | _OTHER | {UNKNOWN}


@dataclass(frozen=True, slots=True)
class License:
    """The licence of an image.

    Attributes:
        code: see the module.
        version: ``4.0``, or empty.
        url: of the terms, or empty.
        name: for people: ``CC BY-SA 4.0``; for an unknown licence, the collection's text.
    """

    code: str
    version: str = ""
    url: str = ""
    name: str = ""


def read_license(text: str, version: str = "", url: str = "") -> License:
    """Parse a collection's licence data for an image.

    If the name, the version and the URL of the terms contradict each other, the licence is unknown.

    Args:
        text: a code (``by-sa``), a name (``CC BY-SA 3.0 de``, ``Public domain``), an address of terms, or
            nothing.
        version: if it is separate from the name.
        url: of the terms, or nothing.
    """
    said = " ".join(text.split())
    if not url and said.lower().startswith(("http://", "https://", "//creativecommons.org")):
        url, said = said, ""
    named, by_url = _from_name(said), _from_url(url)
    if named and by_url and named[0] != by_url[0]:
        return License(UNKNOWN, "", url, f"{said} ({url})")
    versions = {each for each in (version, named and named[1], by_url and by_url[1]) if each}
    if len(versions) > 1:  # it is unclear which terms apply
        return License(UNKNOWN, "", url, f"{said or url} ({' or '.join(sorted(versions))})")
    code, found = named or by_url or (UNKNOWN, "")
    if code == UNKNOWN:
        return License(UNKNOWN, version, url, said or url or "not stated")
    number = version or found or (by_url[1] if by_url else "")
    return License(code, number, url or _url(code, number), _name(code, number))


_CC_NAME: Final = re.compile(
    r"(?:cc|creative commons)[ -](?P<code>by(?:[ -](?:nc|nd|sa)){0,2})"
    # One or several versions; then a country's port, or the licence's origin.
    r"(?:[ -](?P<version>\d\.\d)(?:,\d\.\d)*)?(?:[ -](?:[a-z]{2,4}|igo|all|migrated(?:[ -].*)?))?"
)
_CC_CODE: Final = re.compile(r"by(?:-(?:nc|nd|sa)){0,2}|cc0|pdm|sampling\+|nc-sampling\+")
_CC_URL: Final = re.compile(
    r"(?:https?:)?//(?:www\.)?creativecommons\.org/licenses/(?P<code>[a-z+-]+)/(?P<version>\d\.\d)(?:/.*)?",
    re.IGNORECASE,
)
_PUBLIC_URL: Final = re.compile(
    r"(?:https?:)?//(?:www\.)?creativecommons\.org/publicdomain/(?P<what>zero|mark)/(?P<version>\d\.\d)(?:/.*)?",
    re.IGNORECASE,
)
_NAMES: Final = {
    re.compile(r"cc0(?:[ -](?P<version>1\.0))?|cc[ -]zero(?:[ -](?P<v>1\.0))?"): "cc0",
    re.compile(
        r"pd|pdm(?:[ -]1\.0)?|public domain(?: mark)?(?: 1\.0)?|pd-\S+"
        r"|no restrictions|no known copyright restrictions"
    ): "pdm",
    re.compile(r"gfdl(?:[ -]\S+)?|gnu free documentation license.*"): "gfdl",
    re.compile(r"fal(?:[ -]1\.\d)?|free art licen[cs]e(?: 1\.\d)?"): "fal",
    re.compile(r"ogl(?:[ -]\S+)*|open government licen[cs]e.*"): "ogl",
    re.compile(r"odbl(?:[ -]\S+)?"): "odbl",
    re.compile(r"kogl type 1"): "kogl",
    re.compile(r"attribution(?: only licen[cs]e)?|copyrighted free use"): "attribution",
}
_ORDER: Final = {"nc": 0, "nd": 1, "sa": 2}


def _from_name(said: str) -> tuple[str, str] | None:
    """Code and version from a name; None if it is empty."""
    if not said:
        return None
    lower = said.lower()
    if _CC_CODE.fullmatch(lower):
        return _ordered(lower), ""
    if match := _CC_NAME.fullmatch(lower):
        return _ordered(match["code"].replace(" ", "-")), match["version"] or ""
    for pattern, code in _NAMES.items():
        if match := pattern.fullmatch(lower):
            return code, next((group for group in match.groups() if group), "")
    return UNKNOWN, ""


def _from_url(url: str) -> tuple[str, str] | None:
    """Code and version from a Creative Commons URL; None for any other."""
    if match := _PUBLIC_URL.fullmatch(url):
        return ("cc0" if match["what"].lower() == "zero" else "pdm"), match["version"]
    if (match := _CC_URL.fullmatch(url)) and _CC_CODE.fullmatch(match["code"].lower()):
        return _ordered(match["code"].lower()), match["version"]
    return None


def _ordered(code: str) -> str:
    """``by-sa-nc``, the spelling in versions 1.0, is ``by-nc-sa``."""
    first, *terms = code.split("-")
    return code if first != "by" else "-".join([first, *sorted(set(terms), key=_ORDER.__getitem__)])


def _name(code: str, version: str) -> str:
    if code == "cc0":
        return f"CC0 {version or '1.0'}"
    if code == "pdm":
        return "Public domain"
    if code in CREATIVE_COMMONS:
        return f"CC {code.upper()} {version}".rstrip()
    names = {
        "fal": "Free Art License",
        "attribution": "Attribution only",
        "kogl": "KOGL Type 1",
        "odbl": "ODbL",
    }
    return f"{names.get(code, code.upper())} {version}".rstrip()


def _url(code: str, version: str) -> str:
    if code == "cc0":
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    if code.startswith("by") and version:
        return f"https://creativecommons.org/licenses/{code}/{version}/"
    return ""


@dataclass(frozen=True, slots=True)
class LicenseFilter:
    """The licences that the user accepts.

    Attributes:
        codes: the accepted ones.
    """

    codes: frozenset[str] = OPEN

    @classmethod
    def read(cls, wanted: Iterable[str]) -> "LicenseFilter":
        """Parse the values of ``--license``: codes and words of `GROUPS`, separated by commas.

        Raises:
            BoxdropError: one of them is unknown.
        """
        codes: set[str] = set()
        for word in (part.strip().lower() for value in wanted for part in value.split(",")):
            if word in GROUPS:
                codes |= GROUPS[word]
            elif word in _CODES:
                codes.add(word)
            elif word:
                raise BoxdropError(
                    f"--license {word}: no such licence; give {', '.join(GROUPS)}, or codes: "
                    f"{', '.join(sorted(_CODES))}"
                )
        return cls(frozenset(codes) or OPEN)

    def takes(self, license: License) -> bool:
        """Whether an image under this licence is accepted; the user's own images always are."""
        return license.code in self.codes or license.code == OWN
