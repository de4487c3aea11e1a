"""The Wikimedia Commons client against a server that speaks as MediaWiki documents it."""

from typing import Any

import pytest

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.commons import WikimediaCommons
from boxdrop.retrieve.web import Web
from tests.collection_servers import CommonsServer, file_page, served
from tests.integration.retrieve.conftest import Clock

CC0_URL = "http://creativecommons.org/publicdomain/zero/1.0/deed.en"
GFDL_URL = "http://www.gnu.org/old-licenses/fdl-1.2.html"
NOTHING = {"License": None, "LicenseShortName": None, "LicenseUrl": None}


def _pages(count: int) -> list[dict[str, Any]]:
    return [file_page(f"https://upload.example/{number}.jpg", number) for number in range(count)]


def _search(web: Web, server: CommonsServer) -> WikimediaCommons:
    return WikimediaCommons(web, "fruit baskets", contact="tests@example.org", url=f"{server.url}/w/api.php")


def test_all_batches_are_read_by_rank_one_request_after_the_other(web: Web) -> None:
    server = CommonsServer(_pages(120))
    with served(server):
        found = list(_search(web, server).candidates())

    assert [candidate.title for candidate in found] == [f"Fruit basket {number}" for number in range(120)]
    assert [request.query.get("gsroffset") for request in server.requests] == [None, "50", "100"]
    assert server.most_at_once == 1
    assert server.requests[0].query["gsrsearch"] == "fruit baskets filetype:bitmap"


def test_a_batch_that_comes_in_two_answers_is_put_together(web: Web) -> None:
    server = CommonsServer(_pages(70), split=13)
    with served(server):
        found = list(_search(web, server).candidates())

    assert [candidate.title for candidate in found] == [f"Fruit basket {number}" for number in range(70)]


def test_requests_say_who_asks_and_how_to_reach_them(web: Web) -> None:
    server = CommonsServer(_pages(1))
    with served(server):
        list(_search(web, server).candidates())

    agent = server.requests[0].headers["user-agent"]
    assert agent.startswith("boxdrop/")
    assert "tests@example.org" in agent
    assert server.requests[0].query["maxlag"] == "5"


def test_without_a_contact_nothing_is_asked(web: Web) -> None:
    with pytest.raises(BoxdropError, match="--contact"):
        WikimediaCommons(web, "fruit", contact="")


def test_a_candidate_has_the_data_of_the_files_page(web: Web) -> None:
    server = CommonsServer([file_page("https://upload.example/1.jpg", 1)])
    with served(server):
        (candidate,) = _search(web, server).candidates()

    assert candidate.creator == "Jane & friends"
    assert (candidate.license.code, candidate.license.version) == ("by-sa", "3.0")
    assert candidate.landing_page == "https://commons.wikimedia.org/wiki/File:Fruit_basket_1.jpg"
    assert (candidate.width, candidate.height) == (4000, 3000)
    assert candidate.source == "wikimedia-commons"


def test_a_large_file_is_fetched_smaller(web: Web) -> None:
    server = CommonsServer(
        [file_page("https://upload.example/1.jpg", 1, thumb="https://upload.example/thumb/1.jpg")]
    )
    with served(server):
        (candidate,) = _search(web, server).candidates()

    assert candidate.url == "https://upload.example/thumb/1.jpg"
    assert (candidate.width, candidate.height) == (1920, 1440)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"License": "pd", "LicenseShortName": "Public domain", "LicenseUrl": None}, "pdm"),
        ({"License": "cc0", "LicenseShortName": "CC0", "LicenseUrl": CC0_URL}, "cc0"),
        ({"License": None, "LicenseShortName": "GFDL 1.2", "LicenseUrl": GFDL_URL}, "gfdl"),
        ({"License": "cc-by-sa-4.0", "LicenseShortName": "see below", "LicenseUrl": None}, "by-sa"),
        ({"License": "cc-by-4.0", "LicenseShortName": "CC BY-SA 4.0", "LicenseUrl": None}, "unknown"),
        ({"NonFree": "true"}, "unknown"),
        ({**NOTHING, "UsageTerms": None}, "unknown"),
        ({**NOTHING, "UsageTerms": "<p>ask me</p>"}, "unknown"),
    ],
)  # fmt: skip
def test_odd_licences_are_read_or_unknown(web: Web, fields: dict[str, Any], code: str) -> None:
    server = CommonsServer([file_page("https://upload.example/1.jpg", 1, **fields)])
    with served(server):
        (candidate,) = _search(web, server).candidates()

    assert candidate.license.code == code


def test_missing_fields_and_pages_without_a_file_cause_no_error(web: Web) -> None:
    bare = file_page("https://upload.example/1.jpg", 1)
    del (
        bare["imageinfo"][0]["extmetadata"],
        bare["imageinfo"][0]["descriptionurl"],
        bare["imageinfo"][0]["width"],
    )
    no_file = file_page("https://upload.example/2.jpg", 2)
    del no_file["imageinfo"]
    server = CommonsServer(
        [bare, no_file, file_page("https://upload.example/3.jpg", 3, Artist=None, ObjectName=None)]
    )
    with served(server):
        first, third = _search(web, server).candidates()

    assert (first.title, first.license.code, first.landing_page, first.width) == (
        "Fruit basket 1",
        "unknown",
        "",
        None,
    )
    assert (third.title, third.creator) == ("Fruit basket 3", "Own work")


def test_a_search_that_finds_nothing_ends(web: Web) -> None:
    server = CommonsServer([])
    with served(server):
        assert list(_search(web, server).candidates()) == []


def test_a_lagging_database_is_waited_for(web: Web, clock: Clock) -> None:
    server = CommonsServer(_pages(3), lags=[(6, 5), (7, 9)])
    with served(server):
        found = list(_search(web, server).candidates())

    assert len(found) == 3
    assert clock.waits == [5, 9]
    assert "seconds lagged" in clock.reasons[0]


def test_a_database_that_keeps_lagging_is_abandoned(web: Web) -> None:
    server = CommonsServer(_pages(3), lags=[(6, 5)] * 50)
    with served(server), pytest.raises(BoxdropError, match="maxlag"):
        list(_search(web, server).candidates())
    assert len(server.requests) == 5


def test_a_rate_limit_is_waited_for_longer_each_time(web: Web, clock: Clock) -> None:
    server = CommonsServer(_pages(3))
    server.errors.extend([{"code": "ratelimited", "info": "You've exceeded your rate limit."}] * 2)
    with served(server):
        assert len(list(_search(web, server).candidates())) == 3

    assert clock.waits == [5, 10]


def test_an_api_error_is_reported_in_its_own_words(web: Web) -> None:
    server = CommonsServer(_pages(3))
    server.errors.append({"code": "cirrussearch-too-busy-error", "info": "Search is currently too busy."})
    with (
        served(server),
        pytest.raises(BoxdropError, match=r"cirrussearch-too-busy-error\): Search is currently"),
    ):
        list(_search(web, server).candidates())
