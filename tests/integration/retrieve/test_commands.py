"""``boxdrop retrieve`` and ``boxdrop credits``, as users run them."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from boxdrop.cli import boxdrop
from boxdrop.demo import SCENES
from tests.collection_servers import CommonsServer, OpenverseServer, entry, file_page, image, picture, served

ALLOW = ["--allow-network", "127.0.0.0/8", "--pause", "0"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "OPENVERSE_CLIENT_ID",
        "OPENVERSE_CLIENT_SECRET",
        "BOXDROP_CONTACT",
        "BOXDROP_ALLOW_NETWORKS",
    ):
        monkeypatch.delenv(name, raising=False)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(boxdrop, arguments)


def _openverse(count: int) -> OpenverseServer:
    server = OpenverseServer([])
    server.results = [entry(server.serve(f"/{n}.jpg", image(picture(n))), n) for n in range(count)]
    return server


def test_a_caption_becomes_a_folder_and_a_page_of_credits(monkeypatch: pytest.MonkeyPatch) -> None:
    server = _openverse(5)
    monkeypatch.setenv("BOXDROP_OPENVERSE_URL", server.url)
    with served(server):
        done = _run("retrieve", "Fruit baskets", "-n", "3", *ALLOW)

    assert done.exit_code == 0, done.output
    assert "3 new images" in done.output
    assert len(list(Path("fruit-baskets").glob("*.jpg"))) == 3
    page = _run("credits", "fruit-baskets")
    assert page.output.startswith("# Credits: fruit-baskets\n\n3 images: 3 CC BY 2.0.")
    assert _run("credits", "fruit-baskets", "--out", "credits.html").exit_code == 0
    assert Path("credits.html").read_text().startswith("<!doctype html>")


def test_the_summary_says_what_was_left_out_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    server = _openverse(2)
    server.results.append(entry(server.serve("/copy.jpg", image(picture(0)))))
    server.results.append(entry(server.serve("/gone.jpg", lambda _: image(b""))))
    server.results.append(entry("http://10.0.0.7/a.jpg"))
    monkeypatch.setenv("BOXDROP_OPENVERSE_URL", server.url)
    with served(server):
        done = _run("retrieve", "fruit", "-n", "9", *ALLOW)

    assert done.exit_code == 0
    assert "1 duplicates" in done.output
    assert "1 not usable: empty" in done.output
    assert "1 not usable: forbidden_address" in done.output
    assert "The collection has no more: 2 of 9 wanted." in done.output


def test_wikimedia_commons_is_asked_with_a_contact(monkeypatch: pytest.MonkeyPatch) -> None:
    server = CommonsServer([])
    server.pages = [file_page(server.serve(f"/{n}.jpg", image(picture(n))), n) for n in range(3)]
    monkeypatch.setenv("BOXDROP_COMMONS_URL", f"{server.url}/w/api.php")
    with served(server):
        refused = _run("retrieve", "fruit", "--from", "commons", *ALLOW)
        done = _run("retrieve", "fruit", "--from", "commons", "--contact", "me@example.org", *ALLOW)

    assert refused.exit_code == 1
    assert "--contact" in refused.output
    assert done.exit_code == 0, done.output
    assert len(list(Path("fruit").glob("*.jpg"))) == 3


def test_an_own_archive_is_ranked_and_its_best_are_copied() -> None:
    done = _run("retrieve", "pineapple", "--from", str(SCENES), "--into", "picked", "-n", "2")

    assert done.exit_code == 0, done.output
    assert len(list(Path("picked").glob("*.jpg"))) == 2


def test_a_list_without_licences_is_taken_only_where_asked() -> None:
    server = _openverse(0)
    Path("mine.txt").write_text(server.serve("/a.jpg", image(picture(1))) + "\n")
    with served(server):
        default = _run("retrieve", "--from", "mine.txt", *ALLOW)
        asked = _run("retrieve", "--from", "mine.txt", "--license", "unknown", *ALLOW)

    assert "1 under other licences (not stated 1); --license accepts them" in default.output
    assert "1 new images" in asked.output


def test_loopback_is_refused_without_the_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    server = _openverse(1)
    monkeypatch.setenv("BOXDROP_OPENVERSE_URL", server.url)
    with served(server):
        done = _run("retrieve", "fruit")

    assert done.exit_code == 1
    assert "--allow-network 127.0.0.1/32" in done.output
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retrieve", "--from", "commons"], "what should the images show?"),
        (["retrieve", "fruit", "--license", "free"], "--license free: no such licence"),
        (["retrieve", "fruit", "--from", "nowhere"], "--from nowhere: give openverse, commons"),
        (["retrieve", "fruit", "--into", "s3://bucket"], "name a bucket and a folder in it"),
        (["retrieve", "fruit", "--into", "x", "--project", "y"], "give --into or --project"),
        (["credits", "."], "no sources.jsonl here"),
    ],
)
def test_mistakes_are_reported_with_the_way_out(arguments: list[str], said: str) -> None:
    done = _run(*arguments)

    assert done.exit_code == 1
    assert said in done.output
