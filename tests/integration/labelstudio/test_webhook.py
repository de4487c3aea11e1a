"""Webhooks of a real Label Studio server."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from boxdrop.domain.errors import LabelStudioError
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.task_data import to_task
from boxdrop.labelstudio.webhook import ACTIONS, SECRET_HEADER, WebhookError, ensure_webhook, receive
from tests.integration.labelstudio.conftest import FRUIT, MakeProject, annotate, prediction, tasks_of
from tests.webhook_receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET_HEADER) as running:
        yield running


def webhooks(connection: Connection, project: int) -> list[Any]:
    return list(connection.sdk.webhooks.list(project=str(project)))


def test_a_webhook_is_made_once_and_kept(connection: Connection, make_project: MakeProject) -> None:
    project = make_project()
    number = ensure_webhook(connection, project.id, "http://127.0.0.1:9/a", "one")
    before = webhooks(connection, project.id)
    assert ensure_webhook(connection, project.id, "http://127.0.0.1:9/a", "one") == number
    assert webhooks(connection, project.id) == before
    (made,) = before
    assert (made.id, made.is_active, made.send_for_all_actions) == (number, True, False)
    assert sorted(made.actions) == sorted(ACTIONS)
    assert made.headers == {"X-Boxdrop-Secret": "one", "X-Boxdrop-Project": str(project.id)}


def test_changed_settings_are_updated(connection: Connection, make_project: MakeProject) -> None:
    project = make_project()
    number = ensure_webhook(connection, project.id, "http://127.0.0.1:9/a", "one")
    connection.sdk.webhooks.update(number, url="http://127.0.0.1:9/a", is_active=False)
    assert ensure_webhook(connection, project.id, "http://127.0.0.1:9/b", "two") == number
    (made,) = webhooks(connection, project.id)
    assert (made.url, made.headers[SECRET_HEADER], made.is_active) == ("http://127.0.0.1:9/b", "two", True)


def test_callers_at_the_same_time_end_with_one_webhook(
    connection: Connection, make_project: MakeProject
) -> None:
    project = make_project()
    others = make_project()
    connection.sdk.webhooks.create(project=project.id, url="http://127.0.0.1:9/theirs")
    elsewhere = ensure_webhook(connection, others.id, "http://127.0.0.1:9/a", "one")
    with ThreadPoolExecutor(4) as pool:
        numbers = list(
            pool.map(
                lambda _: ensure_webhook(connection, project.id, "http://127.0.0.1:9/a", "one"), range(4)
            )
        )
    assert len({*numbers}) == 1
    assert sorted(each.url for each in webhooks(connection, project.id)) == [
        "http://127.0.0.1:9/a",
        "http://127.0.0.1:9/theirs",
    ]
    assert [each.id for each in webhooks(connection, others.id)] == [elsewhere]


def test_label_studio_sends_what_is_received_and_refused_after_rotation(
    connection: Connection, make_project: MakeProject, receiver: Receiver
) -> None:
    project = make_project()
    ensure_webhook(connection, project.id, receiver.url, "old")
    connection.sdk.projects.import_tasks(
        project.id, request=[to_task(prediction(), FRUIT, "s3://photos/a.jpg")]
    )
    (task,) = tasks_of(connection, project)
    annotate(connection, task)
    ensure_webhook(connection, project.id, receiver.url, "new")
    annotate(connection, task)
    first, second = receiver.wait(2)
    for call, valid in ((first, ["new", "old"]), (second, ["new", "old"]), (second, ["new"])):
        event = receive(call.headers, call.body, valid)
        assert (event.action, event.project, event.tasks) == ("ANNOTATION_CREATED", project.id, (task.id,))
    with pytest.raises(WebhookError, match="not a valid secret"):
        receive(first.headers, first.body, ["new"])
    assert "token" in json.loads(first.body)["project"]  # why bodies are neither kept nor logged


def test_a_secret_that_no_header_can_carry_is_refused(
    connection: Connection, make_project: MakeProject
) -> None:
    for secret in ("", " a", "a\nb", "ü"):
        with pytest.raises(ValueError, match="printable ASCII"):
            ensure_webhook(connection, 1, "http://127.0.0.1:9/a", secret)
    with pytest.raises(LabelStudioError, match="cannot create the webhook of project"):
        ensure_webhook(connection, make_project().id, "no address", "one")
