"""Uploads to a real server: the browser gets the image, once uploaded for ever."""

from collections.abc import Callable
from io import BytesIO

import pytest
import requests
from PIL import Image

from boxdrop.domain.errors import ImageError
from boxdrop.domain.predictions import Prediction
from boxdrop.labelstudio import uploads as module
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.publishing import publish
from boxdrop.labelstudio.uploads import Uploads

from .conftest import FRUIT, MakeProject, prediction, tasks_of


def image(form: str = "JPEG", shade: int = 0) -> bytes:
    file = BytesIO()
    Image.new("RGB", (640, 480), (200, shade % 256, 40)).save(file, form)
    return file.getvalue()


def served(connection: Connection, path: str, token: str | None) -> requests.Response:
    headers = {"Authorization": f"Token {token}"} if token else {}
    return requests.get(connection.url + path, headers=headers, timeout=30)


class Reader:
    """Gives each image its own bytes and counts what was asked for."""

    def __init__(self, content: Callable[[Prediction], bytes]) -> None:
        self.content = content
        self.read: list[str] = []

    def __call__(self, prediction: Prediction) -> bytes:
        self.read.append(prediction.image)
        return self.content(prediction)


def test_an_uploaded_image_is_served_byte_for_byte_to_who_may_see_it(
    connection: Connection, server: object, make_project: MakeProject
) -> None:
    project = make_project()
    reader = Reader(lambda p: image(shade=int(p.image.split()[1][0])))
    uploads = Uploads(connection, project, reader)
    summary = publish(connection, project, [prediction(n) for n in range(3)], FRUIT, uploads.urls)
    assert summary.created == 3
    token = server.token  # type: ignore[attr-defined]
    for number, task in enumerate(tasks_of(connection, project)):
        response = served(connection, task.data["image"], token)
        assert response.content == image(shade=number)
        assert response.headers["Content-Type"] == "image/jpeg"
    assert served(connection, task.data["image"], None).status_code == 401


def test_a_later_run_uploads_nothing_again(connection: Connection, make_project: MakeProject) -> None:
    project = make_project()
    records = [prediction(n) for n in range(3)]
    first = Uploads(connection, project, Reader(lambda _: image())).urls(records)
    reader = Reader(lambda _: image())
    assert Uploads(connection, project, reader).urls([*records, prediction(3)])[:3] == first
    assert reader.read == ["basket 3.jpg"]


def test_a_new_version_of_an_image_is_uploaded_beside_the_old_one(
    connection: Connection, make_project: MakeProject
) -> None:
    uploads = Uploads(connection, make_project(), Reader(lambda _: image()))
    (first,) = uploads.urls([prediction(version="v1")])
    (second,) = uploads.urls([prediction(version="v2")])
    assert first != second


def test_many_images_go_in_several_requests(
    connection: Connection, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FILES_AT_ONCE", 4)
    monkeypatch.setattr(module, "_BYTES_AT_ONCE", 3 * len(image()))
    project = make_project()
    urls = Uploads(connection, project, Reader(lambda _: image())).urls([prediction(n) for n in range(10)])
    assert len(set(urls)) == 10


@pytest.mark.parametrize("form", ["TIFF", "AVIF", "GIF"])
def test_what_a_browser_does_not_show_arrives_as_jpeg(
    connection: Connection, server: object, make_project: MakeProject, form: str
) -> None:
    uploads = Uploads(connection, make_project(), Reader(lambda _: image(form)))
    (path,) = uploads.urls([prediction()])
    assert isinstance(path, str)
    response = served(connection, path, server.token)  # type: ignore[attr-defined]
    shown = Image.open(BytesIO(response.content))
    assert (shown.format, shown.size) == ("JPEG", (640, 480))


def test_one_image_that_is_gone_does_not_hold_up_the_others(
    connection: Connection, make_project: MakeProject
) -> None:
    def content(each: Prediction) -> bytes:
        if each.image == "basket 1.jpg":
            raise ImageError("gone", "the file is gone")
        return image()

    urls = Uploads(connection, make_project(), content).urls([prediction(n) for n in range(3)])
    assert [str(url) for url in urls if isinstance(url, ImageError)] == ["the file is gone"]
    assert sum(isinstance(url, str) for url in urls) == 2
