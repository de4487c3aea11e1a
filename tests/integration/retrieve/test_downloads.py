"""Downloads over HTTP: what servers may send, and what becomes of it."""

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import Limits
from boxdrop.retrieve.addresses import AddressGuard
from boxdrop.retrieve.web import Busy, FetchError, Web
from tests.collection_servers import (
    LOOPBACK,
    Reply,
    Request,
    Server,
    endless,
    first_then,
    image,
    picture,
    redirect,
)

JPEG = picture(1)


def _refused(web: Web, url: str) -> str:
    with pytest.raises(FetchError) as caught:
        web.download(url)
    return caught.value.reason


def test_an_image_is_fetched_through_redirects(web: Web, server: Server) -> None:
    server.serve("/a", redirect("/b", 301))
    server.serve("/b", redirect(f"{server.url}/c.jpg", 307))
    server.serve("/c.jpg", image(JPEG))

    fetched = web.download(f"{server.url}/a")

    assert fetched.data == JPEG
    assert fetched.url == f"{server.url}/c.jpg"


def test_a_wrong_content_type_does_not_matter(web: Web, server: Server) -> None:
    url = server.serve("/a.txt", image(JPEG, "text/html; charset=utf-8"))

    assert web.download(url).data == JPEG


def test_a_page_in_the_place_of_an_image_is_not_read_to_its_end(web: Web, server: Server) -> None:
    url = server.serve("/a.jpg", endless(b"<!doctype html><html><body>", b"please log in " * 5000))

    with pytest.raises(ImageError) as caught:
        web.download(url)

    assert caught.value.reason == "not_an_image"


def test_an_empty_response_is_not_an_image(web: Web, server: Server) -> None:
    with pytest.raises(ImageError) as caught:
        web.download(server.serve("/a.jpg", image(b"")))

    assert caught.value.reason == "empty"


def test_an_endless_body_ends_at_the_limit(server: Server) -> None:
    web = Web(AddressGuard([LOOPBACK]), limits=Limits(max_bytes=1_000_000))
    url = server.serve("/a.jpg", endless(JPEG))

    assert _refused(web, url) == "too_many_bytes"
    web.close()


def test_a_body_whose_header_is_too_large_is_not_read(server: Server) -> None:
    web = Web(AddressGuard([LOOPBACK]), limits=Limits(max_bytes=1000))
    url = server.serve("/a.jpg", Reply(JPEG[:500], headers={}, stated_length=10**12))

    assert _refused(web, url) == "too_many_bytes"
    web.close()


def test_a_body_that_trickles_for_ever_ends_when_its_time_is_up(server: Server) -> None:
    web = Web(AddressGuard([LOOPBACK]), seconds_a_file=0.2)

    def trickle(_: Request) -> Reply:
        def parts() -> Iterator[bytes]:
            yield JPEG
            while True:
                time.sleep(0.02)
                yield b"\0"

        return Reply(stream=parts())

    assert _refused(web, server.serve("/a.jpg", trickle)) == "too_slow"
    web.close()


def test_a_body_that_breaks_off_is_tried_again_later(web: Web, server: Server) -> None:
    url = server.serve("/a.jpg", Reply(JPEG[:5000], headers={}, stated_length=len(JPEG)))

    with pytest.raises(Busy) as caught:
        web.download(url)

    assert caught.value.reason == "connection"


@pytest.mark.parametrize("status", [403, 404, 410, 451, 204, 206])
def test_an_answer_that_is_not_200_gives_no_image(web: Web, server: Server, status: int) -> None:
    url = server.serve("/a.jpg", Reply(JPEG if status != 204 else b"", status))

    assert _refused(web, url) == f"http_{status}"


def test_a_busy_server_says_when_to_retry(web: Web, server: Server) -> None:
    url = server.serve("/a.jpg", Reply(b"", 429, {"Retry-After": "17"}))

    with pytest.raises(Busy) as caught:
        web.download(url)

    assert (caught.value.reason, caught.value.wait_s) == ("http_429", 17.0)


def test_a_date_to_come_back_at_is_understood(web: Web, server: Server) -> None:
    url = server.serve("/a.jpg", Reply(b"", 503, {"Retry-After": formatdate(time.time() + 100, usegmt=True)}))

    with pytest.raises(Busy) as caught:
        web.download(url)

    assert caught.value.wait_s is not None
    assert 0 < caught.value.wait_s <= 101


def test_a_loop_of_redirects_ends(web: Web, server: Server) -> None:
    url = server.serve("/a", redirect("/a"))

    assert _refused(web, url) == "redirects"
    assert server.count()["/a"] == 6


@pytest.mark.parametrize("header", ["noai", "noindex, noimageai"])
def test_what_is_not_for_machine_learning_is_left_alone(web: Web, server: Server, header: str) -> None:
    url = server.serve("/a.jpg", image(JPEG, X_Robots_Tag=header))

    assert _refused(web, url) == "robots"


def test_a_redirect_that_is_not_for_machine_learning_is_not_followed(web: Web, server: Server) -> None:
    server.serve("/a", Reply(b"", 302, {"Location": "/b.jpg", "X-Robots-Tag": "noai"}))
    server.serve("/b.jpg", image(JPEG))

    assert _refused(web, f"{server.url}/a") == "robots"
    assert server.count()["/b.jpg"] == 0


def test_who_asks_for_it_gets_it_all_the_same(server: Server) -> None:
    web = Web(AddressGuard([LOOPBACK]), robots=False)

    assert web.download(server.serve("/a.jpg", image(JPEG, X_Robots_Tag="noai"))).data == JPEG
    web.close()


def test_loopback_is_refused_without_a_connection(server: Server) -> None:
    web = Web()
    url = server.serve("/a.jpg", image(JPEG))

    assert _refused(web, url) == "forbidden_address"
    assert server.requests == []
    web.close()


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/iam/",
        "http://10.0.0.7/a.jpg",
        "http://[::1]/a.jpg",
        "http://[::ffff:10.0.0.7]/a.jpg",
        "http://0.0.0.0/a.jpg",
        "//192.168.1.1/a.jpg",
    ],
)
def test_a_redirect_to_a_private_address_is_refused(web: Web, server: Server, target: str) -> None:
    server.serve("/a", redirect("/b"))
    server.serve("/b", redirect(target))

    assert _refused(web, f"{server.url}/a") == "forbidden_address"


def test_a_name_that_leads_to_a_private_address_is_refused(server: Server) -> None:
    guard = AddressGuard(
        [LOOPBACK], resolve=lambda host, port: ["10.0.0.7"] if host == "inside.example" else [host]
    )
    web = Web(guard)
    server.serve("/a", redirect("http://inside.example/a.jpg"))

    assert _refused(web, f"{server.url}/a") == "forbidden_address"
    web.close()


def test_a_name_that_changes_its_answer_after_the_look_gains_nothing(server: Server) -> None:
    answers = ["127.0.0.1", "10.0.0.7", "10.0.0.7"]
    guard = AddressGuard([LOOPBACK], resolve=lambda host, port: [answers.pop(0)])
    web = Web(guard)
    port = server.url.rpartition(":")[2]
    server.serve("/a.jpg", image(JPEG))

    assert web.download(f"http://rebinding.example:{port}/a.jpg").data == JPEG

    assert answers == [
        "10.0.0.7",
        "10.0.0.7",
    ]  # it was resolved once: the address that was looked at is the one asked
    assert server.requests[0].headers["host"] == f"rebinding.example:{port}"
    web.close()


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://a.example/b.jpg",
        "gopher://127.0.0.1:70/",
        "http://user:pw@a.example/",
    ],
)
def test_only_http_addresses_without_a_log_in_are_asked(web: Web, server: Server, target: str) -> None:
    server.serve("/a", redirect(target))

    assert _refused(web, f"{server.url}/a") == "bad_address"


def test_a_name_without_an_address_is_tried_again_later() -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    web = Web(AddressGuard(resolve=nowhere))
    with pytest.raises(Busy, match=r"nowhere\.example: the name cannot be resolved"):
        web.download("http://nowhere.example/a.jpg")
    web.close()


def test_nothing_is_decompressed(web: Web, server: Server) -> None:
    url = server.serve("/a.jpg", image(JPEG, Content_Encoding="gzip"))

    assert web.download(url).data == JPEG
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_cookies_are_not_kept(web: Web, server: Server) -> None:
    server.serve("/a.jpg", image(JPEG, Set_Cookie="who=you; Path=/"))

    web.download(f"{server.url}/a.jpg")
    web.download(f"{server.url}/a.jpg")

    assert "cookie" not in server.requests[1].headers


def test_many_threads_share_one_client(web: Web, server: Server) -> None:
    server.serve("/busy.jpg", first_then([image(JPEG)] * 40, image(JPEG)))
    failures: list[BaseException] = []

    def fetch() -> None:
        try:
            for _ in range(5):
                assert web.download(f"{server.url}/busy.jpg").data == JPEG
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
