"""A system is found by its name, and says what is wrong in one sentence."""

import os
import socket
from pathlib import Path

import pytest

from boxdrop.domain.errors import BoxdropError
from boxdrop.system import System, find_system, from_json, local_system_with

SYSTEM = System("local", "eu-north-1", "ledger", "images", "data", {"uploads": "http://q/u"}, window_s=0.2)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    monkeypatch.delenv("BOXDROP_SYSTEM", raising=False)
    return tmp_path


def test_a_description_comes_back_as_it_was() -> None:
    assert from_json(SYSTEM.to_json(), "here") == SYSTEM


def test_a_newer_description_is_read_and_what_is_not_known_left_out() -> None:
    text = SYSTEM.to_json().replace('"region"', '"a_new_field": 1,\n "region"')
    assert from_json(text, "here") == SYSTEM


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "local"}'])
def test_an_invalid_description_names_the_place(text: str) -> None:
    with pytest.raises(BoxdropError, match=r"system\.json does not describe a boxdrop system"):
        from_json(text, "system.json")


def test_a_queue_that_an_older_system_lacks_names_the_way_out() -> None:
    assert SYSTEM.queue("uploads") == "http://q/u"
    with pytest.raises(BoxdropError, match=r"no queue 'parts'.*run `boxdrop local up`"):
        SYSTEM.queue("parts")


def test_without_a_name_the_local_system_is_meant_if_it_is_up(home: Path) -> None:
    with pytest.raises(BoxdropError, match="which system"):
        find_system()
    with pytest.raises(BoxdropError, match="is not running; start it with: boxdrop local up"):
        find_system("local")
    (home / "system.json").write_text(
        System("local", "r", "t", "i", "d", endpoint_url="http://127.0.0.1:9").to_json()
    )
    for name in (None, "local"):
        with pytest.raises(BoxdropError, match=r"does not answer at http://127\.0\.0\.1:9"):
            find_system(name)


def test_entering_a_local_system_leaves_no_profile_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "theirs")
    for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "")
    System("local", "r", "t", "i", "d", endpoint_url="http://127.0.0.1:9").enter()
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    assert (os.environ["AWS_REGION"], os.environ["AWS_ACCESS_KEY_ID"]) == ("r", "boxdrop")
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & os.environ.keys()


def test_entering_a_deployed_system_keeps_what_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "")
    SYSTEM.enter()
    assert (os.environ["AWS_PROFILE"], os.environ["AWS_REGION"]) == ("work", "eu-west-1")
    assert os.environ["AWS_DEFAULT_REGION"] == "eu-north-1"


@pytest.mark.parametrize(
    "torn",
    [
        b"",
        b'{"name": "local", "reg',
        b"\xff\xfe",
        b"[" * 100_000,
        SYSTEM.to_json().replace('"http://q/u"', "3").replace('"queues": {', '"queues": 5, "x": {').encode(),
        SYSTEM.to_json().replace('"endpoint_url": null', '"endpoint_url": 5').encode(),
        SYSTEM.to_json().replace('"endpoint_url": null', '"endpoint_url": "http://127.0.0.1:x"').encode(),
        SYSTEM.to_json().replace('"ledger"', "null").encode(),
    ],
)
def test_a_torn_description_is_one_sentence_with_the_way_out(home: Path, torn: bytes) -> None:
    (home / "system.json").write_bytes(torn)
    for name in (None, "local"):
        with pytest.raises(BoxdropError, match=r"system\.json does not describe.*`boxdrop local up`"):
            find_system(name)


def test_the_local_system_is_found_by_its_buckets(home: Path) -> None:
    assert local_system_with("images") is None
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        system = System("local", "r", "t", "images", "data", endpoint_url=url)
        (home / "system.json").write_text(system.to_json())
        assert local_system_with("images") == local_system_with("data") == system
        assert local_system_with("elsewhere") is None
