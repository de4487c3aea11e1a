"""Receiving webhooks: who sent them, and which ids are in them."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxdrop.labelstudio import webhook
from boxdrop.labelstudio.webhook import (
    ACTIONS,
    MAX_BODY_BYTES,
    ReviewEvent,
    WebhookError,
    is_authentic,
    parse,
    receive,
)

HEADERS = {"X-Boxdrop-Secret": "new", "X-Boxdrop-Project": "7", "Content-Type": "application/json"}


def body(action: str = "ANNOTATION_CREATED", **fields: Any) -> bytes:
    return json.dumps({"action": action, "project": {"id": 7, "token": "hidden"}, **fields}).encode()


SUBMITTED = body(annotation={"id": 5, "task": 3, "result": [{"text": "hidden"}]})


def test_the_ids_of_real_webhooks_are_found(events: Path) -> None:
    found = {}
    for path in sorted(events.glob("labelstudio_webhook_*_ANNOTATION_*.json")):
        event = parse(json.dumps(json.loads(path.read_text())["body"]).encode())
        found[event.action] = (event.project, event.tasks, event.annotations)
    assert found == {"ANNOTATION_CREATED": (2, (1,), (1,)), "ANNOTATION_UPDATED": (2, (1,), (1,))}


def test_only_ids_leave_a_webhook() -> None:
    event = receive(HEADERS, SUBMITTED, ["new"])
    assert asdict(event) == {
        "action": "ANNOTATION_CREATED",
        "project": 7,
        "tasks": (3,),
        "annotations": (5,),
    }


@pytest.mark.parametrize(
    ("sent", "tasks", "annotations"),
    [
        (
            body("ANNOTATIONS_CREATED", annotation=[{"id": 6, "task": 4}, {"id": 5, "task": 3}]),
            (3, 4),
            (5, 6),
        ),
        (body("ANNOTATIONS_DELETED", annotations=[{"id": 5}, {"id": 6}]), (), (5, 6)),
        (body("TASKS_DELETED", tasks=[{"id": 4}, {"id": 3}]), (3, 4), ()),
        (body("ANNOTATIONS_DELETED", annotations=[]), (), ()),
    ],
)
def test_bulk_actions_and_deletions_are_understood(
    sent: bytes, tasks: tuple[int, ...], annotations: tuple[int, ...]
) -> None:
    event = receive(HEADERS, sent, ["new"])
    assert (event.project, event.tasks, event.annotations) == (7, tasks, annotations)
    assert event.is_whole_project == (not tasks and not annotations)


def test_a_bare_action_is_about_the_project_that_the_header_names() -> None:
    assert receive(HEADERS, b'{"action": "ANNOTATIONS_DELETED"}', ["new"]) == ReviewEvent(
        "ANNOTATIONS_DELETED", 7
    )
    with pytest.raises(WebhookError, match="does not name the project"):
        parse(b'{"action": "ANNOTATIONS_DELETED"}')


def test_more_ids_than_a_queue_takes_mean_the_whole_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_MAX_IDS", 3)
    sent = body("TASKS_DELETED", tasks=[{"id": number} for number in range(1, 5)])
    assert parse(sent) == ReviewEvent("TASKS_DELETED", 7)


def test_during_rotation_both_secrets_are_valid_and_afterwards_one() -> None:
    for name in ("X-Boxdrop-Secret", "x-boxdrop-secret", "X-BOXDROP-SECRET"):
        for secret in ("new", "old"):
            assert receive({name: secret}, SUBMITTED, ["new", "old"]).tasks == (3,)
    with pytest.raises(WebhookError) as caught:
        receive({"X-Boxdrop-Secret": "old"}, SUBMITTED, ["new"])
    assert (caught.value.status, caught.value.project) == (401, None)


@pytest.mark.parametrize("given_secret", [None, "", "ne", "neww", "New", "new ", "nеw", "\udcff", "old"])
def test_a_wrong_secret_is_refused_before_anything_is_read(given_secret: str | None) -> None:
    headers = {} if given_secret is None else {"X-Boxdrop-Secret": given_secret}
    for sent in (SUBMITTED, b"{", b"x" * (MAX_BODY_BYTES + 1)):
        with pytest.raises(WebhookError) as caught:
            receive(headers, sent, ["new"])
        assert caught.value.status == 401


def test_no_secret_fits_nothing_not_even_an_empty_header() -> None:
    for secrets in ([], [""], ["", "new"]):
        assert not is_authentic("", secrets)


def test_every_secret_is_compared_also_after_one_has_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(_: bytes, secret: bytes) -> bool:
        compared.append(secret)
        return True

    monkeypatch.setattr("boxdrop.labelstudio.webhook.hmac.compare_digest", compare)
    assert is_authentic("a", ["new", "old"])
    assert compared == [b"new", b"old"]


def test_a_body_over_the_limit_is_not_parsed_and_names_its_project(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = SUBMITTED + b" " * (MAX_BODY_BYTES - len(SUBMITTED))
    assert receive(HEADERS, sent, ["new"]).tasks == (3,)
    monkeypatch.setattr("boxdrop.labelstudio.webhook.json.loads", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(WebhookError, match="1048577 bytes") as caught:
        receive(HEADERS, sent + b" ", ["new"])
    assert (caught.value.status, caught.value.project) == (413, 7)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"action": "ANNOTATION_CREATED", "project": 7}',
        b'{"action": "ANNOTATION_CREATED", "project": {"id": "x"}}',
        b'{"action": "ANNOTATION_CREATED", "project": {"id": 8}}',
        b'{"action": "PROJECT_UPDATED", "project": {"id": 7}}',
        b'{"action": ["ANNOTATION_CREATED"], "project": {"id": 7}}',
        body(annotation=[7]),
        body(annotation={"id": None, "task": 3}),
        body(annotation={"id": 5, "task": {"id": 3}}),
        body(annotation={"id": 5, "task": -3}),
        body(annotation={"id": 1 << 70, "task": 3}),
        body(annotations="5"),
    ],
)
def test_a_malformed_body_is_a_clear_error(sent: bytes) -> None:
    with pytest.raises(WebhookError, match=r"^(the body|an entry)") as caught:
        receive(HEADERS, sent, ["new"])
    assert (caught.value.status, caught.value.project) == (400, 7)
    assert "hidden" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "task", "token"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.sampled_from(ACTIONS),
    st.dictionaries(
        st.sampled_from(["project", "annotation", "annotations", "tasks", "task"]), VALUES, max_size=4
    ),
)
def test_nothing_in_a_body_makes_it_crash(action: str, fields: dict[str, Any]) -> None:
    with suppress(WebhookError):
        event = receive(HEADERS, json.dumps({"action": action, **fields}).encode(), ["new"])
        assert all(isinstance(number, int) for number in (*event.tasks, *event.annotations))


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_it_crash(sent: bytes) -> None:
    with pytest.raises(WebhookError):
        receive(HEADERS, sent, ["new"])
