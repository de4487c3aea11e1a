"""A Label Studio that a reverse proxy serves to people on other machines, who reach nothing else."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from boxdrop.domain.errors import LocalError
from boxdrop.labelstudio.connection import connect
from boxdrop.labelstudio.project import connect_bucket, ensure_project
from boxdrop.local.aws import REGION
from boxdrop.local.aws import Server as AwsServer
from boxdrop.local.label_studio import LabelStudio, Server, check_public_url
from boxdrop.local.resources import PRESIGN
from boxdrop.system import System
from tests.aws_server import aws_server, client_of
from tests.integration.labelstudio.conftest import FRUIT
from tests.label_studio_server import quiet, with_empty_database
from tests.ports import free_port

__all__ = ["aws_server"]

PUBLIC = "https://labels.example.com"
THROUGH_PROXY = {
    "Host": "labels.example.com",
    "X-Forwarded-Proto": "https",
    "Origin": PUBLIC,
    "Referer": PUBLIC,
}
BODY = bytes(range(256)) * 40_000  # 10 MB


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    made = with_empty_database(tmp_path_factory.mktemp("public") / "label-studio")
    yield made
    made.down(quiet)


@pytest.fixture(scope="module")
def server(studio: LabelStudio) -> Server:
    return studio.up(free_port(), quiet, f"{PUBLIC}/")


def test_people_log_in_through_the_proxy(server: Server) -> None:
    assert (server.page_url, server.url.startswith("http://127.0.0.1")) == (PUBLIC, True)
    page = requests.get(f"{server.url}/user/login/", headers=THROUGH_PROXY, timeout=30)
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert found is not None
    fields = {"csrfmiddlewaretoken": found[1], "email": server.email, "password": server.password}
    cookie = {"Cookie": f"csrftoken={page.cookies['csrftoken']}"}
    answer = requests.post(
        f"{server.url}/user/login/", fields, headers=THROUGH_PROXY | cookie, timeout=30, allow_redirects=False
    )
    assert answer.status_code == 302
    assert "Secure" in answer.headers["Set-Cookie"]
    stranger = THROUGH_PROXY | {"Host": "elsewhere.example.com"}
    assert requests.get(f"{server.url}/user/login/", headers=stranger, timeout=30).status_code == 400


def test_their_browsers_get_images_from_label_studio_itself(
    server: Server, aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3: Any = client_of(aws_server, "s3")
    s3.create_bucket(Bucket="images")
    s3.put_object(Bucket="images", Key="fruit/a b.png", Body=BODY, ContentType="image/png")
    system = System(
        "local", REGION, "t", "images", "data", endpoint_url=aws_server.url, public_url=server.public_url
    )
    for name, value in {**system.environment(), **PRESIGN}.items():
        monkeypatch.setenv(name, value)
    connection = connect(server.url, server.token)
    project = ensure_project(connection, FRUIT, "fruit", "s3://images/fruit/")
    connect_bucket(connection, project, "images")
    task = connection.sdk.tasks.create(project=project.id, data={"image": "s3://images/fruit/a b.png"})
    shown = connection.request("task", "GET", f"/api/tasks/{task.id}/")["data"]["image"]
    assert shown.startswith(f"{PUBLIC}/")
    shown = shown.removeprefix(PUBLIC)  # as the proxy does
    headers = THROUGH_PROXY | {"Authorization": f"Token {server.token}"}
    answer = requests.get(f"{server.url}{shown}", headers=headers, timeout=60, allow_redirects=False)
    assert answer.status_code == 200
    assert answer.content == BODY
    monkeypatch.delenv("BOXDROP_LABEL_STUDIO_PASSES_IMAGES_ON")
    connect_bucket(connection, project, "images")
    answer = requests.get(f"{server.url}{shown}", headers=headers, timeout=60, allow_redirects=False)
    assert answer.status_code in (302, 303)
    assert answer.headers["Location"].startswith(aws_server.url)


def test_the_address_is_kept_and_changed_only_while_it_is_down(studio: LabelStudio, server: Server) -> None:
    assert studio.up(say=quiet).public_url == PUBLIC
    assert studio.up(say=quiet, public_url=PUBLIC).public_url == PUBLIC
    with pytest.raises(LocalError, match="run `boxdrop local down` and then"):
        studio.up(say=quiet, public_url="")


@pytest.mark.parametrize(
    "url", ["labels.example.com", "ftp://x", "https://x/path", "https://x:port", "https://"]
)
def test_what_is_no_public_address_is_one_sentence(url: str) -> None:
    with pytest.raises(LocalError, match="give the public address as https://HOST, without a path"):
        check_public_url(url)
