"""The Openverse client against a server that speaks as Openverse documents it."""

import httpx
import pytest

from boxdrop.domain.errors import BoxdropError
from boxdrop.retrieve.licenses import LicenseFilter
from boxdrop.retrieve.openverse import Credentials, Openverse
from boxdrop.retrieve.web import Web
from tests.collection_servers import MISSING, OpenverseServer, Reply, entry, served
from tests.integration.retrieve.conftest import Clock


def _results(count: int) -> list[dict[str, object]]:
    return [entry(f"https://images.example/{number}.jpg", number) for number in range(count)]


def test_all_pages_are_read_in_order_and_none_beyond_the_last(web: Web) -> None:
    server = OpenverseServer(_results(45))
    with served(server):
        found = list(Openverse(web, "fruit baskets", url=server.url).candidates())

    assert [candidate.title for candidate in found] == [f"Fruit basket {number}" for number in range(45)]
    assert [request.query["page"] for request in server.requests] == ["1", "2", "3"]
    assert {request.query["page_size"] for request in server.requests} == {"20"}
    assert {request.query["q"] for request in server.requests} == {"fruit baskets"}


def test_the_depth_limit_is_respected(web: Web) -> None:
    server = OpenverseServer(_results(100), depth=3)
    with served(server):
        found = list(Openverse(web, "fruit", url=server.url).candidates())

    assert len(found) == 60
    assert len(server.requests) == 3


def test_a_candidate_has_the_collections_data(web: Web) -> None:
    server = OpenverseServer([entry("https://images.example/1.jpg", 1)])
    with served(server):
        (candidate,) = Openverse(web, "fruit", url=server.url).candidates()

    assert candidate.url == "https://images.example/1.jpg"
    assert candidate.source == "openverse/stocksnap"
    assert (candidate.license.code, candidate.license.version) == ("by", "2.0")
    assert candidate.license.name == "CC BY 2.0"
    assert candidate.creator == "Tim Sullivan"
    assert candidate.landing_page == "https://stocksnap.example/photo/1"
    assert candidate.credit() == '"Fruit basket 1" by Tim Sullivan is licensed under CC BY 2.0.'
    assert (candidate.width, candidate.height) == (6016, 4016)


def test_missing_and_odd_fields_cause_no_error(web: Web) -> None:
    server = OpenverseServer(
        [
            entry(MISSING),
            entry("https://images.example/1.jpg", title=None, creator=None, creator_url=None, width=None),
            entry("https://images.example/2.jpg", license=MISSING, license_url=None, license_version=None),
            entry(
                "https://images.example/3.jpg",
                license="BY",
                attribution=None,
                foreign_landing_url="javascript:x",
            ),
            entry("https://images.example/4.jpg", height="big", title="<b>Basket</b>\n", source=None),
            entry("file:///etc/passwd"),
        ]
    )
    with served(server):
        first, second, third, fourth = Openverse(
            web, "fruit", LicenseFilter.read(["any"]), url=server.url
        ).candidates()

    assert (first.title, first.creator, first.width) == ("", "", None)
    assert second.license.code == "unknown"
    assert third.license.code == "by"
    assert third.landing_page == ""
    assert third.credit().startswith("“Fruit basket 0” by Tim Sullivan, CC BY 2.0")
    assert (fourth.title, fourth.height, fourth.source) == ("Basket", None, "openverse/stocksnap")


def test_only_wanted_licences_are_asked_for(web: Web) -> None:
    server = OpenverseServer([entry("https://images.example/1.jpg", license="by-nc")])
    with served(server):
        assert list(Openverse(web, "fruit", url=server.url).candidates()) == []
        with_nc = Openverse(web, "fruit", LicenseFilter.read(["open", "by-nc", "gfdl"]), url=server.url)
        assert len(list(with_nc.candidates())) == 1

    default, asked = (request.query for request in server.requests)
    assert default["license"] == "by,by-sa,cc0,pdm"
    assert default["license_type"] == "commercial,modification"
    assert asked["license"] == "by,by-nc,by-sa,cc0,pdm"
    assert asked["license_type"] == "modification"


def test_collections_extensions_and_sizes_are_passed_on(web: Web) -> None:
    server = OpenverseServer(_results(1))
    with served(server):
        search = Openverse(
            web,
            "fruit",
            sources=["flickr", "met"],
            extensions=["jpg", "png"],
            sizes=["large"],
            url=server.url,
        )
        list(search.candidates())

    query = server.requests[0].query
    assert (query["source"], query["extension"], query["size"]) == ("flickr,met", "jpg,png", "large")


def test_a_long_caption_is_cut_to_what_openverse_takes(web: Web) -> None:
    server = OpenverseServer(_results(1))
    with served(server):
        assert len(list(Openverse(web, "many fruits " * 50, url=server.url).candidates())) == 1


def test_the_rate_limit_is_kept_before_the_server_has_to_say_no(web: Web, clock: Clock) -> None:
    server = OpenverseServer(_results(100), burst=2, clock=clock)
    with served(server):
        found = list(Openverse(web, "fruit", url=server.url, clock=clock).candidates())

    assert len(found) == 100
    assert len(server.requests) == 5  # none was answered 429
    times = [request.at for request in server.requests]
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[2:], strict=False))
    assert clock.reasons[0].startswith("Openverse: its rate limit (anon_burst 2/min): waiting")


def test_after_too_many_requests_it_waits_as_long_as_the_server_asks(web: Web, clock: Clock) -> None:
    server = OpenverseServer(_results(30), burst=3, clock=clock)
    with served(server):
        for _ in range(3):  # somebody else, from the same address
            httpx.get(f"{server.url}/v1/images/", params={"q": "x"}, trust_env=False)
        found = list(Openverse(web, "fruit", url=server.url, clock=clock).candidates())

    assert len(found) == 30
    assert clock.waits[0] == 60
    assert "too many requests" in clock.reasons[0]


def test_a_day_s_limit_ends_the_search_with_the_way_out(web: Web, clock: Clock) -> None:
    server = OpenverseServer(_results(100), daily=2, clock=clock)
    with served(server):
        search = Openverse(web, "fruit", url=server.url, clock=clock).candidates()
        found = [next(search) for _ in range(40)]
        with pytest.raises(
            BoxdropError, match=r"anon_sustained 2/day.*asks to wait 24 h; run the same command again"
        ):
            next(search)

    assert len(found) == 40


def test_an_application_logs_in_and_gets_larger_pages(web: Web) -> None:
    server = OpenverseServer(_results(60))
    with served(server):
        found = list(
            Openverse(web, "fruit", credentials=Credentials("id", "secret"), url=server.url).candidates()
        )

    assert len(found) == 60
    assert [request.path for request in server.requests] == [
        "/v1/auth_tokens/token/",
        "/v1/images/",
        "/v1/images/",
    ]


def test_a_token_that_runs_out_is_renewed(web: Web) -> None:
    server = OpenverseServer(_results(150), token_uses=2)
    with served(server):
        found = list(
            Openverse(web, "fruit", credentials=Credentials("id", "secret"), url=server.url).candidates()
        )

    assert len(found) == 150
    assert server.count()["/v1/auth_tokens/token/"] == 2


def test_a_refused_log_in_names_the_variables(web: Web) -> None:
    server = OpenverseServer([])
    with served(server), pytest.raises(BoxdropError, match=r"invalid_client.*OPENVERSE_CLIENT_ID"):
        list(Openverse(web, "fruit", credentials=Credentials("id", "wrong"), url=server.url).candidates())


def test_an_api_error_is_reported_in_its_own_words(web: Web) -> None:
    server = OpenverseServer([])
    server.LICENSES = frozenset()
    with served(server), pytest.raises(BoxdropError, match="License 'by' does not exist"):
        list(Openverse(web, "fruit", url=server.url).candidates())


def test_a_server_that_fails_is_asked_again(web: Web, clock: Clock) -> None:
    server = OpenverseServer(_results(2))
    answer, failures = (
        server.answer,
        [Reply(b"<html>oops</html>", 502), Reply(b"", 503, {"Retry-After": "7"})],
    )
    server.answer = lambda request: failures.pop(0) if failures else answer(request)  # type: ignore[method-assign]
    with served(server):
        found = list(Openverse(web, "fruit", url=server.url).candidates())

    assert len(found) == 2
    assert clock.waits == [1.0, 7.0]


def test_a_server_that_keeps_failing_is_abandoned_with_the_way_out(web: Web) -> None:
    server = OpenverseServer([])
    server.answer = lambda request: Reply(b"", 500)  # type: ignore[method-assign]
    with (
        served(server),
        pytest.raises(BoxdropError, match=r"Openverse does not answer.*run the same command again"),
    ):
        list(Openverse(web, "fruit", url=server.url).candidates())


@pytest.mark.parametrize(
    "body", [b"<html>maintenance</html>", b"", b"[]", b'{"detail": "ok"}', b'{"results": 7}']
)
def test_an_answer_that_is_none_of_openverse_s_is_an_error(web: Web, body: bytes) -> None:
    server = OpenverseServer([])
    server.answer = lambda request: Reply(body)  # type: ignore[method-assign]
    with served(server), pytest.raises(BoxdropError, match="Openverse"):
        list(Openverse(web, "fruit", url=server.url).candidates())
