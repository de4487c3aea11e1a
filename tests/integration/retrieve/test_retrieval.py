"""Retrieval from end to end, over HTTP: what is kept, what is left out, and how servers are treated."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.images import decode
from boxdrop.retrieve.candidates import Candidate, Fetched
from boxdrop.retrieve.destinations import Folder
from boxdrop.retrieve.downloads import Manners
from boxdrop.retrieve.licenses import LicenseFilter, read_license
from boxdrop.retrieve.openverse import Openverse
from boxdrop.retrieve.provenance import SourceRecord, read_sources
from boxdrop.retrieve.retrieval import Retrieval, Summary
from boxdrop.retrieve.web import Web
from tests.collection_servers import (
    OpenverseServer,
    Reply,
    Request,
    Server,
    entry,
    first_then,
    image,
    picture,
    served,
)

QUICK = Manners(pause_s=0.0)


class Offers:
    """A collection that offers these addresses."""

    name = "a collection"

    def __init__(self, web: Web, urls: list[str]) -> None:
        self._web = web
        self.urls = urls
        self.taken = 0

    def candidates(self) -> Iterator[Candidate]:
        for url in self.urls:
            self.taken += 1
            yield Candidate(url=url, source="test", license=read_license("cc0"), title=url.rpartition("/")[2])

    def fetch(self, candidate: Candidate) -> Fetched:
        return self._web.download(candidate.url)


def _retrieve(
    web: Web, urls: list[str], folder: Path, wanted: int | None = None, **options: object
) -> Summary:
    return Retrieval(Offers(web, urls), Folder(folder), manners=QUICK, **options).run(wanted)  # type: ignore[arg-type]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))


def _serve_pictures(server: Server, count: int, start: int = 0) -> list[str]:
    return [server.serve(f"/{n}.jpg", image(picture(n))) for n in range(start, start + count)]


def test_a_search_becomes_a_folder_of_credited_images(web: Web, tmp_path: Path) -> None:
    server = OpenverseServer([])
    server.results = [entry(url, number) for number, url in enumerate(_serve_pictures(server, 5))]
    with served(server):
        source = Openverse(web, "fruit baskets", url=server.url)
        summary = Retrieval(source, Folder(tmp_path), caption="fruit baskets", manners=QUICK).run(3)

    assert (summary.kept, summary.images) == (3, 3)
    records = list(read_sources(tmp_path / "sources.jsonl"))
    assert sorted(record.file for record in records) == [path.name for path in _images(tmp_path)]
    for record in records:
        data = (tmp_path / record.file).read_bytes()
        assert decode(data).width == record.width == 320
        assert record.candidate.license.name == "CC BY 2.0"
        assert record.caption == "fruit baskets"
    assert json.loads((tmp_path / "sources.jsonl").read_text().splitlines()[0])["credit"].startswith(
        '"Fruit basket'
    )


def test_no_more_is_fetched_than_is_wanted(web: Web, server: Server, tmp_path: Path) -> None:
    summary = _retrieve(web, _serve_pictures(server, 30), tmp_path, wanted=5)

    assert summary.kept == 5
    assert len(server.requests) == 5


def test_a_collection_with_too_few_images_is_reported(web: Web, server: Server, tmp_path: Path) -> None:
    summary = _retrieve(web, _serve_pictures(server, 3), tmp_path, wanted=10)

    assert (summary.kept, summary.exhausted) == (3, True)


def test_duplicates_are_dropped_and_counted(web: Web, server: Server, tmp_path: Path) -> None:
    urls = _serve_pictures(server, 4)
    urls.append(server.serve("/copy.jpg", image(picture(1))))
    urls.append(server.serve("/small.jpg", image(picture(2, (280, 280), quality=60))))
    urls.append(urls[0])  # the same address again is not even asked

    summary = _retrieve(web, urls, tmp_path)

    assert (summary.kept, summary.duplicates, summary.near_duplicates) == (4, 1, 1)
    assert len(_images(tmp_path)) == 4
    assert server.count()["/0.jpg"] == 1


def test_near_duplicates_are_kept_where_asked(web: Web, server: Server, tmp_path: Path) -> None:
    urls = [server.serve("/a.jpg", image(picture(2))), server.serve("/b.jpg", image(picture(2, (280, 280))))]

    assert _retrieve(web, urls, tmp_path, near=None).kept == 2


def test_small_images_are_left_out_by_their_real_size(web: Web, server: Server, tmp_path: Path) -> None:
    urls = [
        server.serve("/a.jpg", image(picture(1, (400, 255)))),
        server.serve("/b.jpg", image(picture(2, (400, 256)))),
    ]

    summary = _retrieve(web, urls, tmp_path)

    assert (summary.kept, summary.too_small) == (1, 1)


def test_images_that_are_listed_as_small_are_not_fetched(web: Web, tmp_path: Path) -> None:
    server = OpenverseServer([])
    server.results = [entry(server.serve("/a.jpg", image(picture(1))), width=100, height=80)]
    with served(server):
        summary = Retrieval(Openverse(web, "x", url=server.url), Folder(tmp_path)).run(5)

    assert summary.too_small == 1
    assert server.count()["/a.jpg"] == 0


def test_other_licences_are_left_out_and_named(web: Web, tmp_path: Path) -> None:
    """Also if a collection sends them unasked."""
    server = OpenverseServer([])
    urls = _serve_pictures(server, 4)
    odd = [("by", "2.0"), ("by-nc", "2.0"), ("by-nd", "4.0"), (None, None)]
    server.results = [
        entry(url, number, license=code, license_version=version, license_url=None)
        for number, (url, (code, version)) in enumerate(zip(urls, odd, strict=True))
    ]
    answer = server.answer

    def everything(request: Request) -> Reply:
        query = {key: value for key, value in request.query.items() if key != "license"}
        return answer(Request(request.method, request.path, query, request.headers, request.body, request.at))

    server.answer = everything  # type: ignore[method-assign]
    with served(server):
        summary = Retrieval(Openverse(web, "x", url=server.url), Folder(tmp_path), manners=QUICK).run(5)

    assert summary.kept == 1
    assert summary.other_licenses == {"CC BY-NC 2.0": 1, "CC BY-ND 4.0": 1, "not stated": 1}
    assert set(server.count()) == {"/v1/images/", "/0.jpg"}


def test_what_cannot_be_used_is_counted_by_reason_and_stops_nothing(
    web: Web, server: Server, tmp_path: Path
) -> None:
    urls = [
        server.serve("/gone.jpg", Reply(b"", 404)),
        server.serve("/page.jpg", image(b"<!doctype html><html>" + b"x" * 500)),
        server.serve("/cut.jpg", image(picture(1)[:4000])),
        server.serve("/noai.jpg", image(picture(2), X_Robots_Tag="noai")),
        "http://10.0.0.7/a.jpg",
        server.serve("/fine.png", image(picture(3, format="PNG"), "image/jpeg")),
    ]

    summary = _retrieve(web, urls, tmp_path)

    assert summary.kept == 1
    assert summary.failures == {
        "http_404": 1,
        "not_an_image": 1,
        "truncated": 1,
        "robots": 1,
        "forbidden_address": 1,
    }
    assert [path.suffix for path in _images(tmp_path)] == [".png"]  # by its content


def test_a_second_run_asks_for_nothing_that_is_settled(web: Web, server: Server, tmp_path: Path) -> None:
    urls = [
        *_serve_pictures(server, 3),
        server.serve("/gone.jpg", Reply(b"", 404)),
        server.serve("/c.jpg", image(picture(0))),
    ]
    _retrieve(web, urls, tmp_path)
    before = len(server.requests)

    summary = _retrieve(web, [*urls, *_serve_pictures(server, 1, 50)], tmp_path)

    assert len(server.requests) == before + 1
    assert (summary.kept, summary.images, summary.settled_before) == (1, 4, 5)


def test_images_that_the_user_deleted_are_not_fetched_again(web: Web, server: Server, tmp_path: Path) -> None:
    urls = _serve_pictures(server, 3)
    _retrieve(web, urls, tmp_path)
    _images(tmp_path)[0].unlink()

    _retrieve(web, urls, tmp_path)

    assert len(_images(tmp_path)) == 2


def test_a_server_that_fails_is_tried_again_by_the_next_run(web: Web, server: Server, tmp_path: Path) -> None:
    url = server.serve("/a.jpg", first_then([Reply(b"", 503, {"Retry-After": "0"})] * 4, image(picture(1))))

    assert _retrieve(web, [url], tmp_path).failures == {"http_503": 1}
    assert _retrieve(web, [url], tmp_path).kept == 1


def test_a_busy_server_is_retried_when_it_asks_while_others_continue(
    web: Web, server: Server, tmp_path: Path
) -> None:
    with Server("127.0.0.2") as busy:
        asked_again = threading.Event()

        def first_busy(request: Request) -> Reply:
            if len(busy.requests) == 1:
                return Reply(b"", 429, {"Retry-After": "1"})
            asked_again.set()
            return image(picture(99))

        urls = [busy.serve("/late.jpg", first_busy), *_serve_pictures(server, 20)]
        early = []

        def on_progress(summary: Summary) -> None:
            early.append((summary.kept, asked_again.is_set()))

        summary = Retrieval(Offers(web, urls), Folder(tmp_path), manners=QUICK).run(None, on_progress)

    assert summary.kept == 21
    assert early[0] == (1, False)  # others were kept while it waited


def test_no_server_is_asked_more_than_twice_at_once(web: Web, tmp_path: Path) -> None:
    with Server("127.0.0.1") as one, Server("127.0.0.2") as two:
        both = threading.Barrier(4)

        def together(request: Request) -> Reply:
            both.wait(timeout=120)  # two at each of the servers are under way at the same time
            return image(picture(int(request.path[1:-4])))

        urls = [server.serve(f"/{n}.jpg", together) for n in range(10) for server in (one, two)]
        summary = _retrieve(web, urls, tmp_path)

    assert summary.settled == 20
    assert (one.most_at_once, two.most_at_once) == (2, 2)


def test_a_server_that_is_down_is_abandoned_and_others_continue(
    web: Web, server: Server, tmp_path: Path
) -> None:
    with Server("127.0.0.3") as gone:
        dead = gone.url
    urls = [f"{dead}/{n}.jpg" for n in range(3)] + _serve_pictures(server, 5)
    source = Offers(web, urls)

    summary = Retrieval(source, Folder(tmp_path), manners=Manners(pause_s=0.0, tries=1)).run()

    assert (summary.kept, summary.failures) == (5, {"connection": 3})


def test_a_collection_that_breaks_leaves_what_was_kept(web: Web, server: Server, tmp_path: Path) -> None:
    urls = _serve_pictures(server, 3)

    class Breaking(Offers):
        def candidates(self) -> Iterator[Candidate]:
            yield from super().candidates()
            raise BoxdropError("the collection is closed; run the same command again")

    with pytest.raises(BoxdropError, match="the collection is closed"):
        Retrieval(Breaking(web, urls), Folder(tmp_path), manners=QUICK).run()

    assert _retrieve(web, urls, tmp_path).images == 3


def test_only_so_many_candidates_are_read_ahead(web: Web, server: Server, tmp_path: Path) -> None:
    source = Offers(web, _serve_pictures(server, 1) + [f"{server.url}/none/{n}.jpg" for n in range(1000)])

    Retrieval(source, Folder(tmp_path), manners=QUICK).run(1)

    assert source.taken < 200


def test_two_runs_do_not_share_a_folder(web: Web, server: Server, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.open(), pytest.raises(BoxdropError, match="another boxdrop is retrieving into"):
        _retrieve(web, _serve_pictures(server, 1), tmp_path)


@pytest.mark.parametrize("moment", ["before the line", "after the line", "a torn line"])
def test_a_kill_around_the_line_of_sources_leaves_no_image_without_its_credit(
    web: Web, server: Server, tmp_path: Path, moment: str
) -> None:
    urls = _serve_pictures(server, 2)
    _retrieve(web, urls, tmp_path)
    lines = (tmp_path / "sources.jsonl").read_bytes().splitlines(keepends=True)
    last = SourceRecord.from_json(lines[-1], "")
    arriving = tmp_path / ".retrieve-arriving"
    arriving.mkdir()
    (tmp_path / last.file).rename(arriving / last.file)
    kept = {"before the line": b"", "after the line": lines[-1], "a torn line": lines[-1][:100]}[moment]
    (tmp_path / "sources.jsonl").write_bytes(b"".join(lines[:-1]) + kept)
    before = len(server.requests)

    summary = _retrieve(web, urls, tmp_path)

    assert len(server.requests) - before == (0 if moment == "after the line" else 1)
    assert summary.images == 2
    assert {path.name for path in _images(tmp_path)} == {
        record.file for record in read_sources(tmp_path / "sources.jsonl")
    }
    assert not arriving.exists()


def test_an_error_of_the_destination_ends_the_run(web: Web, server: Server, tmp_path: Path) -> None:
    class Full(Folder):
        def place(self, record: SourceRecord, data: bytes, format: str) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(BoxdropError, match="the disk is full"):
        Retrieval(Offers(web, _serve_pictures(server, 3)), Full(tmp_path), manners=QUICK).run()


def test_a_wait_that_is_too_long_gives_the_image_up(web: Web, server: Server, tmp_path: Path) -> None:
    url = server.serve("/a.jpg", Reply(b"", 429, {"Retry-After": "86400"}))

    assert _retrieve(web, [url], tmp_path).failures == {"http_429": 1}


def test_asked_licences_are_taken(web: Web, tmp_path: Path) -> None:
    server = OpenverseServer([])
    server.results = [
        entry(url, n, license="by-nc", license_url=None) for n, url in enumerate(_serve_pictures(server, 2))
    ]
    wanted = LicenseFilter.read(["by-nc"])
    with served(server):
        source = Openverse(web, "x", wanted, url=server.url)
        summary = Retrieval(source, Folder(tmp_path), licenses=wanted, manners=QUICK).run(5)

    assert summary.kept == 2
