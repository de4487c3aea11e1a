"""``X-Robots-Tag``: what keeps an image out of machine learning."""

import pytest

from boxdrop.retrieve.web import refuses


@pytest.mark.parametrize(
    "headers",
    [
        ["noai"],
        ["noimageai"],
        ["noindex, NoAI"],
        ["noindex", "noimageai, nofollow"],
        ["boxdrop: noai"],
        ["max-snippet: 20, noai"],
        ["unavailable_after: 25 Jun 2027 15:00:00 PST", "noai"],
        ["otherbot: noindex, boxdrop: noindex, noimageai"],
        ["*: noai"],
    ],
)
def test_noai_and_noimageai_refuse(headers: list[str]) -> None:
    assert refuses(headers)


@pytest.mark.parametrize(
    "headers", [[], ["noindex, nofollow"], ["otherbot: noai, noimageai"], ["noaiplease"]]
)
def test_other_rules_and_rules_for_others_do_not(headers: list[str]) -> None:
    assert not refuses(headers)
