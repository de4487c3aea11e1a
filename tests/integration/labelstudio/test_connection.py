"""Access to a real server: both kinds of token, and what is said where one is not accepted."""

import re

import pytest
import requests

from boxdrop.domain.errors import LabelStudioError
from boxdrop.labelstudio.connection import TOKEN_VARIABLE, connect
from boxdrop.labelstudio.project import ensure_project
from boxdrop.labelstudio.publishing import publish
from boxdrop.local.label_studio import Server

from .conftest import FRUIT, prediction, somewhere


@pytest.fixture(scope="module")
def personal_token(server: Server) -> str:
    """What Account & Settings gives a person who has logged in."""
    browser = requests.Session()
    form = browser.get(f"{server.url}/user/login/", timeout=30).text
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    assert found
    login = {"csrfmiddlewaretoken": found[1], "email": server.email, "password": server.password}
    browser.post(f"{server.url}/user/login/", data=login, timeout=30)
    headers = {"X-CSRFToken": browser.cookies.get("csrftoken", "")}
    answer = browser.post(f"{server.url}/api/token/", headers=headers, timeout=30)
    answer.raise_for_status()
    return str(answer.json()["token"])


def test_a_personal_access_token_works_for_everything(server: Server, personal_token: str) -> None:
    connection = connect(server.url, personal_token)
    project = ensure_project(connection, FRUIT, "personal", key="personal")
    assert publish(connection, project, [prediction()], FRUIT, somewhere).created == 1
    assert connection.request("read", "GET", f"/api/projects/{project.id}/summary")["project"] == project.id


def test_the_token_is_read_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, server.token)
    assert connect(server.url).version == "1.23.0"


def test_a_wrong_token_is_one_sentence(server: Server) -> None:
    with pytest.raises(LabelStudioError, match=f"does not accept the access token: .*{TOKEN_VARIABLE}$"):
        connect(server.url, "0" * 40)


def test_a_personal_token_that_was_tampered_with_is_one_sentence(server: Server, personal_token: str) -> None:
    with pytest.raises(LabelStudioError, match="does not accept the access token"):
        connect(server.url, personal_token[:-4] + "AAAA")


def test_a_page_of_a_project_is_address_enough(server: Server) -> None:
    assert connect(f"{server.url}/projects/1/data?tab=2", server.token).url == server.url
