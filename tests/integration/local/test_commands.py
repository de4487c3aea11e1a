"""`boxdrop new`, `drop` and `backfill`, as a user calls them, against MiniStack."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boxdrop.cli import boxdrop
from boxdrop.domain.identity import image_id
from boxdrop.domain.labels import LabelSet
from boxdrop.ledger import Ledger, State
from boxdrop.local.aws import REGION, Server
from boxdrop.local.resources import client, create
from boxdrop.local.stack import push_demo_detector
from boxdrop.pipeline.labels import apply_labels
from boxdrop.services import Services
from boxdrop.system import System
from tests.aws_server import aws_server

__all__ = ["aws_server"]


@pytest.fixture(scope="module")
def system(aws_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system without functions: what commands leave in it stays as it is."""
    home = tmp_path_factory.mktemp("boxdrop-home")
    made = create(
        aws_server.url,
        REGION,
        label_studio_url="http://127.0.0.1:9",
        label_studio_token="none",
        webhook_secret="secret",
        browser_origins=("http://127.0.0.1:9",),
    )
    push_demo_detector(made)
    (home / "system.json").write_text(made.to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOXDROP_HOME", str(home))
        patch.delenv("BOXDROP_SYSTEM", raising=False)
        for name, value in made.environment().items():
            patch.setenv(name, value)
        yield made


@pytest.fixture
def s3(system: System) -> Any:
    assert system.endpoint_url
    return client("s3", system.endpoint_url, REGION)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is, with three images below ``photos``."""
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    (photos / "2026 é").mkdir(parents=True)
    for name in ("a.jpg", "b+%25.png", "2026 é/c.JPG"):
        (photos / name).write_bytes(f"image {name}".encode())
    (photos / "notes.txt").write_text("no image")
    (photos / ".hidden.jpg").write_bytes(b"not this")
    return photos


def call(*arguments: str, code: int = 0) -> Result:
    environment = {"COLUMNS": "160", "AWS_PROFILE": "of another account, and not there"}
    result: Result = CliRunner().invoke(boxdrop, arguments, env=environment)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def keys(s3: Any, prefix: str) -> dict[str, str]:
    """Keys below a prefix, each with the time of its last change."""
    listed = s3.list_objects_v2(Bucket="images", Prefix=prefix).get("Contents", [])
    return {each["Key"]: str(each["LastModified"]) for each in listed}


def test_new_makes_labels_here_and_in_the_bucket(system: System, s3: Any, folder: Path) -> None:
    said = call("new", "pets/home", "--labels", "dog, guinea pig", "--caption", "pets: at home").output
    text = Path("pets/home/labels.yaml").read_text()
    assert text == "caption: 'pets: at home'\nlabels:\n- dog\n- guinea pig\n"
    assert s3.get_object(Bucket="images", Key="pets/home/labels.yaml")["Body"].read() == text.encode()
    assert "boxdrop drop pets/home pets/home" in said
    call("new", "pets/home", "--labels", "dog, guinea pig", "--caption", "pets: at home")


def test_new_leaves_a_project_alone_that_is_there_with_other_labels(
    system: System, s3: Any, folder: Path
) -> None:
    call("new", "taken", "--labels", "dog")
    said = call("new", "taken", "--labels", "cat", "--dir", "elsewhere", code=1).output
    assert "the project taken exists already, with other labels" in said
    assert not Path("elsewhere").exists()
    assert s3.get_object(Bucket="images", Key="taken/labels.yaml")["Body"].read() == b"labels:\n- dog\n"


@pytest.mark.parametrize(
    "name", ["", "/", "a//b", "a/", "../x", "a#b", " a", "a/.b", "a?b", "a\nb", "\udc80", "a" * 513]
)
def test_new_refuses_names_that_cannot_be_folders(system: System, folder: Path, name: str) -> None:
    said = call("new", name, "--labels", "dog", code=1).output
    assert "cannot be a project's name" in said or "a project's name has at most 512 bytes" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("apply", "\udc80"),
        ("credits", "\udc80"),
        ("dataset", "list", "\udc80"),
        ("backfill", "s3://images/\udc80"),
        ("backfill", "s3://images/", "--start-after", "\udc80"),
    ],
)
def test_an_argument_that_is_not_utf_8_is_one_sentence(
    system: System, folder: Path, arguments: tuple[str, ...]
) -> None:
    assert "is not UTF-8" in call(*arguments, code=1).output


def test_drop_uploads_images_under_their_exact_names_and_nothing_else(
    system: System, s3: Any, folder: Path
) -> None:
    said = call("drop", "photos", "exact", "--labels", "dog, cat").output
    assert "3 uploaded" in said
    assert (
        "left out 2: 1 hidden file, 1 text file\n  .hidden.jpg: hidden file\n  notes.txt: text file" in said
    )
    assert set(keys(s3, "exact/")) == {
        "exact/labels.yaml",
        "exact/a.jpg",
        "exact/b+%25.png",
        "exact/2026 é/c.JPG",
    }
    answer = s3.get_object(Bucket="images", Key="exact/2026 é/c.JPG")
    assert answer["Body"].read() == "image 2026 é/c.JPG".encode()
    assert answer["ContentType"] == "image/jpeg"


def test_a_second_drop_uploads_only_what_is_new_or_changed(system: System, s3: Any, folder: Path) -> None:
    call("drop", "photos", "again", "--labels", "dog")
    before = keys(s3, "again/")
    (folder / "a.jpg").write_bytes(b"another image")
    (folder / "d.jpg").write_bytes(b"a new one")
    said = call("drop", "photos", "again").output
    assert "2 uploaded; 2 there already" in said
    after = keys(s3, "again/")
    assert after["again/b+%25.png"] == before["again/b+%25.png"]
    assert s3.get_object(Bucket="images", Key="again/a.jpg")["Body"].read() == b"another image"


def test_drop_recognises_its_files_even_if_etags_are_not_md5(system: System, s3: Any, folder: Path) -> None:
    call("drop", "photos", "kms", "--labels", "dog")
    key = "kms/a.jpg"  # as S3 with KMS keys: the etag says nothing
    upload = s3.create_multipart_upload(
        Bucket="images", Key=key, Metadata=s3.head_object(Bucket="images", Key=key)["Metadata"]
    )["UploadId"]
    part = s3.upload_part(Bucket="images", Key=key, UploadId=upload, PartNumber=1, Body=b"image a.jpg")
    done = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket="images", Key=key, UploadId=upload, MultipartUpload=done)
    assert s3.head_object(Bucket="images", Key=key)["ETag"].endswith('-1"')
    assert "0 uploaded; 3 there already" in call("drop", "photos", "kms").output


def test_drop_checks_labels_before_any_image_goes_up(system: System, s3: Any, folder: Path) -> None:
    (folder / "labels.yaml").write_text("labels:\n- dog\n- dog\n")
    said = call("drop", "photos", "checked", code=1).output
    assert "labels.yaml: line 3: label 'dog' occurs twice" in said
    assert keys(s3, "checked/") == {}


def test_drop_asks_for_labels_unless_images_may_wait(system: System, s3: Any, folder: Path) -> None:
    said = call("drop", "photos", "unlabelled", code=1).output
    assert "has no labels.yaml" in said
    assert "--without-labels" in said
    assert keys(s3, "unlabelled/") == {}
    assert "3 uploaded" in call("drop", "photos", "unlabelled", "--without-labels").output


def test_drop_takes_the_labels_of_the_folder_and_never_replaces_those_of_the_bucket(
    system: System, s3: Any, folder: Path
) -> None:
    (folder / "labels.yaml").write_text("labels: [dog]\n")
    call("drop", "photos", "kept")
    (folder / "labels.yaml").write_text("labels: [dog, cat]\n")
    assert "it stays as it is" in call("drop", "photos", "kept").output
    assert s3.get_object(Bucket="images", Key="kept/labels.yaml")["Body"].read() == b"labels: [dog]\n"


def test_a_file_that_cannot_be_read_fails_alone(system: System, s3: Any, folder: Path) -> None:
    (folder / "broken.jpg").symlink_to(folder / "a.jpg")
    (folder / "huge.jpg").touch()
    with (folder / "huge.jpg").open("r+b") as file:
        file.truncate(2_000_000_000)
    said = call("drop", "photos", "some", "--labels", "dog", code=1).output
    assert "4 uploaded; 1 failed" in said
    assert "huge.jpg: the file has 2,000,000,000 bytes" in said


def test_drop_appends_the_extension_of_the_content_and_says_so(system: System, s3: Any, folder: Path) -> None:
    (folder / "scan").write_bytes(b"\x89PNG\r\n\x1a\n")
    said = call("drop", "photos", "scans", "--labels", "dog").output
    assert "1 image stored with the extension of the content:\n  scan → scans/scan.png" in said
    assert s3.get_object(Bucket="images", Key="scans/scan.png")["ContentType"] == "image/png"
    printed = json.loads(call("drop", "photos", "scans", "--json").stdout)
    assert printed == {
        "uploaded": 0,
        "same": 4,
        "renamed": {"scan": "scans/scan.png"},
        "left_out": [{"name": ".hidden.jpg", "reason": "hidden"}, {"name": "notes.txt", "reason": "text"}],
        "failed": {},
    }


def test_drop_of_a_folder_without_images_says_what_is_in_it(system: System, folder: Path) -> None:
    Path("raw").mkdir()
    Path("raw/a.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0")
    said = call("drop", "raw", "none", "--labels", "dog", code=1).output
    assert "no images here" in said
    assert "left out 1: 1 camera raw file" in said


def test_backfill_imports_existing_images_with_the_labels_of_their_folder(
    system: System, s3: Any, folder: Path
) -> None:
    for number in range(30):
        s3.put_object(Bucket="images", Key=f"old/x/{number:02}.jpg", Body=b"image")
    s3.put_object(Bucket="images", Key="old/x/readme.txt", Body=b"no image")
    s3.put_object(Bucket="images", Key="old/labels.yaml", Body=b"labels: [dog]\n")
    said = call("backfill", "s3://images/old/").output
    assert "32 objects: 30 images wanted in 1 project, 1 known or boxdrop's own" in said
    assert "left out 1: 1 text file" in said
    ledger = Ledger(system.table)
    row = ledger.image(image_id("images", "old/x/07.jpg"))
    assert row is not None
    assert (row.project, row.key) == ("old", "old/x/07.jpg")
    apply_labels(Services.of_system(system), "old", limit=None)
    ledger.want_older("old", 1)
    assert ledger.count_images("old")[State.WANTED] == 30
    assert "0 images wanted" in call("backfill", "s3://images/old/").output


def test_an_interrupted_backfill_continues_after_its_cursor(system: System, s3: Any, folder: Path) -> None:
    for number in range(5):
        s3.put_object(Bucket="images", Key=f"rest/{number}.jpg", Body=b"image")
    said = call("backfill", "s3://images/rest/", "--start-after", "rest/2.jpg").output
    assert "2 objects: 2 images wanted" in said


def test_backfill_of_a_bucket_with_versions_names_them_as_events_do(
    system: System, s3: Any, folder: Path
) -> None:
    s3.put_bucket_versioning(Bucket="images", VersioningConfiguration={"Status": "Enabled"})
    try:
        s3.put_object(Bucket="images", Key="versions/a.jpg", Body=b"old")
        version = s3.put_object(Bucket="images", Key="versions/a.jpg", Body=b"new")["VersionId"]
        s3.put_object(Bucket="images", Key="versions/b.jpg", Body=b"deleted")
        s3.delete_object(Bucket="images", Key="versions/b.jpg")
        assert "1 object: 1 image wanted" in call("backfill", "s3://images/versions/").output
    finally:
        s3.put_bucket_versioning(Bucket="images", VersioningConfiguration={"Status": "Suspended"})
    row = Ledger(system.table).image(image_id("images", "versions/a.jpg"))
    assert row is not None
    assert row.version == version


def test_backfill_of_another_bucket_is_one_sentence(system: System, folder: Path) -> None:
    said = call("backfill", "s3://elsewhere/x", code=1).output
    assert "the system local takes its images from s3://images/" in said


def test_a_system_that_is_not_there_is_one_sentence(
    system: System, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOXDROP_HOME", str(folder))
    assert "Start one on this machine with `boxdrop local up`" in call("drop", "photos", "x", code=1).output
    assert "is not running; start it with" in call("drop", "photos", "x", "--system", "local", code=1).output


def test_status_says_that_nothing_delivers_events(system: System, folder: Path) -> None:
    call("new", "idle", "--labels", "dog")
    call("drop", "photos", "idle")
    call("backfill", "s3://images/idle/")
    said = call("status", "idle").output
    assert "Nothing delivers events on this machine" in said
    assert "boxdrop local up" in said


def test_new_and_drop_name_labels_that_the_detector_does_not_know(system: System, folder: Path) -> None:
    said = call("new", "odd", "--labels", "dog, forklift").output
    assert "the detector demo does not know forklift and will find none of them" in said
    assert "does not know forklift" in call("drop", "photos", "odd").output


def test_hints_quote_names_with_spaces(system: System, folder: Path) -> None:
    said = call("new", "my pets", "--labels", "dog", "--dir", "my photos").output
    assert "boxdrop drop 'my photos' 'my pets'" in said
    assert "boxdrop status 'my pets'" in call("drop", "photos", "my pets").output


def test_new_keeps_the_tiling_and_colours_of_a_file(system: System, folder: Path) -> None:
    Path("labels.yaml").write_text("tiling: auto\nlabels: [{name: dog, color: '#112233'}]\n")
    call("new", "tiled", "--labels", "labels.yaml")
    assert LabelSet.from_file(Path("tiled/labels.yaml")) == LabelSet.from_file(Path("labels.yaml"))
