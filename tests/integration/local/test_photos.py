"""The photographs of `make demo`: from an installed scikit-image, from its package, and without both."""

import importlib.util
import zipfile
from pathlib import Path

import pytest

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.images import Limits, decode
from boxdrop.local.photos import PHOTOS, find_photos
from boxdrop.retrieve.provenance import SOURCES, read_sources


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scikit-image keeps them; boxdrop's home is empty, and pip finds packages in ``packages`` only."""
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    (tmp_path / "packages").mkdir()
    skimage = pytest.importorskip("skimage")
    return Path(skimage.__file__).parent / "data"


def write_package(folder: Path, photos: dict[str, bytes]) -> None:
    with zipfile.ZipFile(folder / "scikit_image-0.26.0-py3-none-any.whl", "w") as wheel:
        for name, body in photos.items():
            wheel.writestr(f"skimage/data/{name}", body)
        about = "scikit_image-0.26.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: scikit-image\nVersion: 0.26.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


def without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


def test_an_installed_scikit_image_has_them_and_each_is_credited(installed: Path) -> None:
    folder = find_photos()
    records = {record.file: record for record in read_sources(folder / SOURCES)}
    assert {*records} == {photo.name for photo in PHOTOS}
    for photo in PHOTOS:
        body = (folder / photo.name).read_bytes()
        image = decode(body, Limits())
        assert (image.width, image.height) == photo.size
        record = records[photo.name]
        assert (record.size, record.fingerprint.sha256) == (len(body), photo.sha256)
        assert record.candidate.license.code in ("cc0", "pdm")
        assert photo.creator in record.candidate.credit()


def test_pip_downloads_them_where_scikit_image_is_not_installed(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path / "packages", {each.name: (installed / each.name).read_bytes() for each in PHOTOS})
    without_scikit_image(monkeypatch)
    steps: list[str] = []
    folder = find_photos(steps.append)
    assert {file.name for file in folder.iterdir()} == {SOURCES, *(photo.name for photo in PHOTOS)}
    assert steps == ["downloading scikit-image==0.26.0: 14 MB, of which the photographs are used"]
    find_photos(steps.append)
    assert len(steps) == 1  # they stay


def test_without_a_network_one_sentence_says_so(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_scikit_image(monkeypatch)
    with pytest.raises(BoxdropError, match=r"pip cannot download scikit-image==0.26.0 \(.*scikit-image"):
        find_photos()
    write_package(tmp_path / "packages", {each.name: b"other" for each in PHOTOS})
    with pytest.raises(BoxdropError, match=r"astronaut.png is not the expected file"):
        find_photos()
