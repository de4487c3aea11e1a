"""What arrives at the webhook's address from anyone."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.judge.ring import Ring

_HEADER = "X-Boxdrop-Secret"


def _call(ring: Ring, body: bytes, secret: str | None) -> int:
    headers = {"Content-Type": "application/json", **({} if secret is None else {_HEADER: secret})}
    try:
        return requests.post(ring.at.webhook, data=body, headers=headers, timeout=30).status_code
    except requests.ConnectionError:
        return 0  # closed while the body was on its way: refused


def _body(action: str, task: Any, project: int, annotation: int) -> bytes:
    told = {
        "action": action,
        "annotation": {"id": annotation, "task": task["id"], "result": []},
        "task": {"id": task["id"]},
        "project": {"id": project},
    }
    return json.dumps(told).encode()


def forged_and_replayed(ring: Ring) -> None:
    """Wrong secrets, a megabyte, another project's number; then 200 replays while the annotation changes."""
    (task,) = ring.drop_and_wait(1).values()
    number = ring.hands.number_of(ring.project)
    assert number is not None
    forged = _body("ANNOTATION_CREATED", task, number, 10_000)
    for secret in (None, "", "wrong", ring.at.secret[:-1], ring.at.secret + "x"):
        assert _call(ring, forged, secret) in (0, 401, 403), (
            f"a forged call with the secret {secret!r} was taken"
        )
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"1" * 1_000_000,
        b'{"action": "X"}',
        b'{"action": ' + b"[" * 9000,
    ):
        assert _call(ring, body, ring.at.secret) < 500, f"an answer of 5xx to {body[:20]!r}"
    _call(ring, _body("ANNOTATION_CREATED", task, number + 1, 1), ring.at.secret)
    _call(ring, _body("ANNOTATION_DELETED", {"id": 99_999}, number, 99_999), ring.at.secret)
    annotation = ring.hands.submit(task)
    replayed = _body("ANNOTATION_UPDATED", task, number, annotation)
    for replay in range(200):
        _call(ring, replayed, ring.at.secret)
        if replay % 50 == 25:
            ring.hands.edit(annotation, task)
    if ring.dice.random() < 0.5:
        ring.hands.remove_annotation(annotation)


def half_open_sockets(ring: Ring) -> None:
    """Connections that say nothing, or half of something, while people submit."""
    tasks = list(ring.drop_and_wait(2).values())
    where = urlsplit(ring.at.webhook)
    assert where.hostname
    assert where.port
    held = []
    try:
        for number in range(30):
            connection = socket.create_connection((where.hostname, where.port), timeout=10)
            if number % 2:
                connection.sendall(b"POST /reviews HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            held.append(connection)
        for task in tasks:
            ring.hands.submit(task)
    finally:
        for connection in held:
            connection.close()


ATTACKS = (forged_and_replayed, half_open_sockets)
