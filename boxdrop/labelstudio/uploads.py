"""Local images, uploaded to Label Studio so that it can show them.

Uploading through the API works with any Label Studio, even a remote one, and needs no shared folder.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from boxdrop.domain.browsers import display_copy
from boxdrop.domain.errors import ImageError, LabelStudioError
from boxdrop.domain.images import decode
from boxdrop.domain.predictions import Prediction
from boxdrop.labelstudio.connection import IMPORT_TIMEOUT_S, Connection
from boxdrop.labelstudio.project import Project

_AS_THEY_ARE: Final = {"jpeg": "jpg", "png": "png", "webp": "webp", "bmp": "bmp"}
"""Formats that both Label Studio (``SUPPORTED_EXTENSIONS``) and every browser accept, with their file
extension. A file of another format, or one that a browser would show differently, is converted."""

_FILES_AT_ONCE = 50  # Django refuses more than 100 files per request
_BYTES_AT_ONCE = 32 * 2**20  # Label Studio itself accepts 250 MB; proxies in front of it accept less


class Uploads:
    """Uploads images and remembers which exist. Pass `urls` to `boxdrop.labelstudio.publishing.publish`.

    Each upload is named after image and version, so a later run finds it even if the run that uploaded it was
    killed before it made a task.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: the project to upload to.
        read: returns the bytes of a prediction's image, or raises `ImageError`.
    """

    def __init__(self, connection: Connection, project: Project, read: Callable[[Prediction], bytes]) -> None:
        self._connection = connection
        self._project = project
        self._read = read
        self._paths: dict[str, str] | None = None

    def urls(self, predictions: Sequence[Prediction]) -> list[str | ImageError]:
        """Upload the images that are missing.

        Returns:
            for each prediction the path for its task, ``/data/upload/…``, or why its image cannot be shown.

        Raises:
            LabelStudioError: the server refuses uploads, or cannot be reached.
        """
        if self._paths is None:
            self._paths = self._uploaded()
        problems: dict[str, ImageError] = {}
        for batch in self._batches(predictions, problems):
            self._upload(batch)
        return [problems.get(name) or self._paths[name] for name in (_identity(each) for each in predictions)]

    def _batches(
        self, predictions: Sequence[Prediction], problems: dict[str, ImageError]
    ) -> Iterator[dict[str, tuple[str, bytes]]]:
        """Missing images as {identity: (file name, content)}, in batches that fit one request."""
        assert self._paths is not None
        batch: dict[str, tuple[str, bytes]] = {}
        size = 0
        for prediction in predictions:
            identity = _identity(prediction)
            if identity in self._paths or identity in batch:
                continue
            try:
                ending, content = _showable(self._read(prediction), prediction)
            except ImageError as error:
                problems[identity] = error
                continue
            if batch and (len(batch) == _FILES_AT_ONCE or size + len(content) > _BYTES_AT_ONCE):
                yield batch
                batch, size = {}, 0
            batch[identity] = (f"{identity}-{_stem(prediction.image)}.{ending}", content)
            size += len(content)
        if batch:
            yield batch

    def _upload(self, batch: dict[str, tuple[str, bytes]]) -> None:
        """Send files without creating tasks. The SDK cannot send files."""
        assert self._paths is not None
        total = sum(len(content) for _, content in batch.values())
        answer = self._connection.request(
            f"upload {len(batch)} images ({total / 2**20:.1f} MB)",
            "POST",
            f"/api/projects/{self._project.id}/import",
            timeout=IMPORT_TIMEOUT_S,
            params={"commit_to_project": "false"},
            files=batch,
        )
        listed = self._list({"ids": json.dumps(answer["file_upload_ids"])})
        self._paths |= listed
        missing = batch.keys() - listed.keys()
        if missing:
            raise LabelStudioError(
                f"Label Studio kept {len(batch) - len(missing)} of {len(batch)} uploaded images; check its "
                "log, then run this again"
            )

    def _uploaded(self) -> dict[str, str]:
        """The uploads of earlier runs by the same user."""
        return self._list({"all": "true"})

    def _list(self, parameters: dict[str, str]) -> dict[str, str]:
        files: list[dict[str, Any]] = self._connection.request(
            "list the uploaded images",
            "GET",
            f"/api/projects/{self._project.id}/file-uploads",
            params=parameters,
        )
        paths: dict[str, str] = {}
        for file in files:  # upload/PROJECT/RANDOM-IDENTITY-STEM.ENDING
            named = re.match(r"[0-9a-f]+-([0-9a-f]{24})-", PurePosixPath(file["file"]).name)
            if named:
                paths.setdefault(named[1], f"/data/{file['file']}")
        return paths


def _identity(prediction: Prediction) -> str:
    return hashlib.sha256(f"{prediction.image_id}\0{prediction.version}".encode()).hexdigest()[:24]


def _stem(image: str) -> str:
    """The file's name, reduced to characters that are safe everywhere; the task's data has the full name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", PurePosixPath(image).stem).strip("-")[:40] or "image"


def _showable(data: bytes, prediction: Prediction) -> tuple[str, bytes]:
    """File extension and content that a browser shows as the detector saw it: the file, or an upright copy.

    Raises:
        ImageError: the file is no longer an image, its size has changed since the boxes were found, or no
            copy can be made.
    """
    image = decode(data, reduction=lambda *_: 8)  # where a JPEG can be uploaded, its pixels do not matter
    if (image.width, image.height) != (prediction.width, prediction.height):
        raise ImageError(
            "changed",
            f"the file is {image.width}×{image.height} now, but its boxes were found in "
            f"{prediction.width}×{prediction.height}: annotate it again",
        )
    if image.shown_alike and image.format in _AS_THEY_ARE:
        return _AS_THEY_ARE[image.format], data
    return "jpg", display_copy(image.pixels)
