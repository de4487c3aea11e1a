"""Bundles in the data bucket, against a real HTTP endpoint: the demo detector there and back."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from boxdrop.aws.s3 import Bucket
from boxdrop.cli import boxdrop
from boxdrop.demo import BUNDLE
from boxdrop.detect import Bundle
from boxdrop.domain.errors import BoxdropError, BundleError
from boxdrop.store import bundles
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint"]


@pytest.fixture
def s3(aws: MakeClient) -> Any:
    return aws("s3")


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> Bucket:
    name = f"bundles-{abs(hash(request.node.nodeid)):x}"
    s3.create_bucket(Bucket=name)
    return Bucket(name, client=s3)


def variant(folder: Path, **changes: Any) -> Path:
    """A copy of the demo bundle whose bundle.json says something else."""
    shutil.copytree(BUNDLE, folder)
    card = json.loads((folder / "bundle.json").read_text())
    for key, value in changes.items():
        if isinstance(value, dict):
            card[key].update(value)
        else:
            card[key] = value
    (folder / "bundle.json").write_text(json.dumps(card))
    return folder


def test_a_pushed_bundle_is_found_by_name_by_digest_and_as_default(bucket: Bucket) -> None:
    pushed = bundles.push(bucket, BUNDLE)
    demo = Bundle.load(BUNDLE)
    assert (pushed.name, pushed.digest, pushed.family) == (demo.name, demo.digest, demo.family)
    assert (pushed.floor, pushed.threshold) == (demo.defaults.floor, demo.defaults.threshold)
    assert pushed.prefix == f"bundles/{demo.name}/{demo.digest[:16]}/"
    assert bundles.resolve(bucket, None) == pushed
    assert bundles.resolve(bucket, demo.name) == pushed
    assert bundles.resolve(bucket, f"{demo.name}@{demo.digest[:16]}") == pushed
    assert bundles.describe(bucket, demo.name, demo.digest) == pushed


def test_a_fetched_bundle_is_the_pushed_one_and_stays_in_the_cache(
    bucket: Bucket, s3: Any, tmp_path: Path
) -> None:
    ref = bundles.push(bucket, BUNDLE)
    fetched = bundles.fetch(bucket, ref, tmp_path)
    assert fetched.digest == Bundle.load(BUNDLE).digest
    assert fetched.path == tmp_path / ref.name / ref.digest[:16]
    for listed in bucket.list(ref.prefix):
        s3.delete_object(Bucket=bucket.name, Key=listed.key)
    assert bundles.fetch(bucket, ref, tmp_path).path == fetched.path
    assert [path.name for path in fetched.path.parent.iterdir()] == [ref.digest[:16]]


def test_a_file_that_was_altered_in_the_bucket_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    ref = bundles.push(bucket, BUNDLE)
    graph = bytearray((BUNDLE / "image.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    bucket.put(ref.prefix + "image.onnx", bytes(graph))
    with pytest.raises(BundleError, match=r"image\.onnx: was altered"):
        bundles.fetch(bucket, ref, tmp_path)
    assert not list((tmp_path / ref.name).iterdir())


def test_a_bundle_in_the_place_of_another_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    """Files and bundle.json agree with each other, but they are not what the run was pinned to."""
    ref = bundles.push(bucket, BUNDLE)
    card = json.loads((BUNDLE / "bundle.json").read_text())
    card["defaults"]["floor"] /= 2
    bucket.put(ref.prefix + "bundle.json", json.dumps(card).encode())
    with pytest.raises(BundleError, match="push it again"):
        bundles.fetch(bucket, ref, tmp_path)
    with pytest.raises(BundleError, match="was altered"):
        bundles.describe(bucket, ref.name, ref.digest)


def test_a_damaged_cached_copy_is_fetched_again(bucket: Bucket, tmp_path: Path) -> None:
    ref = bundles.push(bucket, BUNDLE)
    cached = bundles.fetch(bucket, ref, tmp_path).path / "image.onnx"
    with cached.open("r+b") as file:
        file.truncate(1000)
    bundles.fetch(bucket, ref, tmp_path).verify()


def test_a_file_that_is_missing_in_the_bucket_is_an_error_that_names_it(
    bucket: Bucket, s3: Any, tmp_path: Path
) -> None:
    ref = bundles.push(bucket, BUNDLE)
    s3.delete_object(Bucket=bucket.name, Key=ref.prefix + "text.onnx")
    with pytest.raises(BoxdropError, match=r"text\.onnx cannot be read"):
        bundles.fetch(bucket, ref, tmp_path)


def test_a_name_means_what_was_pushed_last_until_use_goes_back(bucket: Bucket, tmp_path: Path) -> None:
    first = bundles.push(bucket, BUNDLE)
    floor = first.floor / 2
    second = bundles.push(bucket, variant(tmp_path / "lower", defaults={"floor": floor}))
    assert second.digest != first.digest
    assert bundles.resolve(bucket, first.name) == second
    assert bundles.use(bucket, f"{first.name}@{first.digest[:16]}") == first
    assert bundles.resolve(bucket, first.name) == first
    assert bundles.resolve(bucket, f"{first.name}@{second.digest}") == second


def test_the_first_bundle_is_the_default_until_use_changes_it(bucket: Bucket, tmp_path: Path) -> None:
    first = bundles.push(bucket, BUNDLE)
    other = bundles.push(bucket, variant(tmp_path / "other", name="other"))
    assert bundles.resolve(bucket, None) == first
    bundles.use(bucket, "other")
    assert bundles.resolve(bucket, None) == other
    marks = {listed.bundle.name: (listed.latest, listed.default) for listed in bundles.list_bundles(bucket)}
    assert marks == {first.name: (True, False), "other": (True, True)}


def test_pushing_twice_changes_nothing_and_other_defaults_need_another_name(
    bucket: Bucket, tmp_path: Path
) -> None:
    ref = bundles.push(bucket, BUNDLE)
    assert bundles.push(bucket, BUNDLE) == ref
    louder = variant(tmp_path / "louder", defaults={"threshold": 0.9})
    with pytest.raises(BundleError, match="another --name"):
        bundles.push(bucket, louder)
    assert bundles.resolve(bucket, ref.name) == ref


def test_a_push_that_was_interrupted_is_not_there_yet(bucket: Bucket) -> None:
    bundle = Bundle.load(BUNDLE)
    bucket.upload(f"bundles/{bundle.name}/{bundle.digest[:16]}/image.onnx", BUNDLE / "image.onnx")
    assert list(bundles.list_bundles(bucket)) == []
    with pytest.raises(BundleError, match="no detector"):
        bundles.resolve(bucket, bundle.name)
    bundles.push(bucket, BUNDLE)
    assert [listed.bundle.digest for listed in bundles.list_bundles(bucket)] == [bundle.digest]


@pytest.mark.parametrize("detector", ["../default", "demo@xyz", "a/b", ""])
def test_what_cannot_be_a_name_is_refused(bucket: Bucket, detector: str) -> None:
    with pytest.raises(BundleError, match=r"write (the name of a bundle|one name)"):
        bundles.resolve(bucket, detector)


def test_the_commands_push_list_and_use(
    bucket: Bucket, endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "BOXDROP_DATA_BUCKET": bucket.name,
    }.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(boxdrop, ["bundle", *arguments])
        return f"{result.exit_code}: {result.output}"

    demo = Bundle.load(BUNDLE)
    assert "No detector yet" in run("list")
    assert f"{demo.name}@{demo.digest[:16]}" in run("push", str(BUNDLE))
    run("push", str(variant(tmp_path / "other", name="other")))
    assert "0: other@" in run("use", "other")
    listed = run("list")
    assert f"{demo.name}@{demo.digest[:16]}" in listed
    assert "default" in next(line for line in listed.splitlines() if "other@" in line)
    assert run("use", "nothing").startswith("1: boxdrop: s3://")
    assert "has no bundle.json" in run("push", str(tmp_path))
