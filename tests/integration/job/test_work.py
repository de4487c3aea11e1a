"""What a job makes of a run, and what stops it; in this process."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxdrop.detect.bundle import Contract
from boxdrop.domain.errors import BoxdropError, UnavailableError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Prediction
from boxdrop.store.bundles import push
from boxdrop.store.labelsets import write_label_set
from boxdrop.store.manifests import ManifestImage, PinnedBundle
from boxdrop.store.reports import read_summary
from tests.fixed_bundle import write_fixed_bundle
from tests.integration.job.conftest import SCENE, System, records_of, summary_of


def test_the_records_hold_what_the_detector_found(system: System) -> None:
    image = system.put("fruit/ü 100%25+.jpg", SCENE)
    run_id = system.plan([image])
    system.job().work(run_id)
    [record] = records_of(system, run_id)
    assert isinstance(record, Prediction)
    assert (record.image, record.image_id, record.version, record.model_version) == (
        f"s3://{system.images.name}/fruit/ü 100%25+.jpg",
        image.image_id,
        image.version,
        system.model_version,
    )
    assert {box.label for box in record.boxes} <= {"pineapple", "banana", "apple"}
    assert record.boxes


def test_a_detector_with_fixed_classes_works_like_any_other(system: System, tmp_path: Path) -> None:
    outputs = {"boxes": np.array([[8, 8, 32, 48]], np.float32), "scores": np.array([[0.1, 0.9]], np.float32)}
    contract = Contract("images", "boxes", "scores", "xyxy", "pixel", "probability")
    folder = write_fixed_bundle(tmp_path / "fixed", outputs, contract, ("pear", "apple"))
    ref = push(system.data, folder)
    apples = LabelSet.from_short_form("apple")
    run_id = system.plan(
        [system.put("fruit/a.jpg", SCENE)],
        bundle=PinnedBundle(ref.name, ref.digest),
        labels=write_label_set(system.data, apples),
        model_version=f"fixed@{apples.digest(ref.digest)[:8]}",
    )
    system.job().work(run_id)
    [record] = records_of(system, run_id)
    assert isinstance(record, Prediction)
    [box] = record.boxes
    assert (box.label, box.prompt) == ("apple", "apple")
    assert box.score == pytest.approx(0.9, abs=1e-3)
    across, down = record.width / 64, record.height / 64
    assert box.xyxy == pytest.approx((8 * across, 8 * down, 32 * across, 48 * down), abs=0.01)


def test_in_a_bucket_with_versions_the_manifests_version_is_read(system: System) -> None:
    system.s3.put_bucket_versioning(Bucket=system.images.name, VersioningConfiguration={"Status": "Enabled"})
    image = system.put("fruit/a.jpg", SCENE)
    system.put("fruit/a.jpg", b"a newer one that is no image")
    run_id = system.plan([image])
    system.job().work(run_id)
    [record] = records_of(system, run_id)
    assert isinstance(record, Prediction)


def test_a_shard_that_is_done_loads_no_detector_and_writes_nothing(system: System) -> None:
    run_id = system.plan(system.put_scenes(3))
    reports = system.job().work(run_id)
    system.gate.forget()
    job = system.job()
    assert job.work(run_id) == reports
    assert not system.gate.paths("GET", "/bundles/")
    assert not system.gate.paths("GET", "/fruit/0")
    assert not system.gate.paths("PUT", "/")


def test_a_summary_that_was_lost_is_written_by_the_next_job(system: System) -> None:
    run_id = system.plan(system.put_scenes(3))
    system.job().work(run_id)
    system.s3.delete_object(Bucket=system.data.name, Key=f"runs/{run_id}/summary.json")
    system.job().work(run_id)
    assert summary_of(system, run_id).predicted == 3


def test_a_write_that_meets_another_one_is_tried_again(system: System) -> None:
    """S3 answers 409 while another conditional write of the key is under way, and that one may yet fail."""
    run_id = system.plan(system.put_scenes(3))
    system.gate.refuse("PUT", "/part-", 409, "ConditionalRequestConflict", times=2)
    system.job().work(run_id)
    assert summary_of(system, run_id).predicted == 3


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("bundle missing", "there is no detector"),
        ("bundle altered", "was altered"),
        ("labels missing", "there is no such label set"),
        ("labels altered", "was altered"),
        ("other detector", "jobs and functions must be of one version"),
        ("no manifest", "there is no such manifest"),
        ("images denied", "none of 3 images may be read"),
        ("data denied", "cannot be written"),
        ("no room for the bundle", "cannot be written"),
        ("cuda missing", "CUDA was requested"),
    ],
)
def test_what_every_image_would_suffer_from_ends_the_job(
    system: System, tmp_path: Path, spoil: str, reason: str
) -> None:
    images = system.put_scenes(3)
    changes: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    if spoil == "bundle missing":
        changes["bundle"] = PinnedBundle(system.pin.name, "0" * 64)
    elif spoil == "bundle altered":
        prefix = f"bundles/{system.pin.name}/{system.pin.digest[:16]}/"
        system.data.put(f"{prefix}text.onnx", b"another one")
        settings["cache"] = tmp_path
    elif spoil == "labels missing":
        changes["labels"] = "0" * 64
    elif spoil == "labels altered":
        changes["labels"] = "1" * 64
        system.data.put(f"labelsets/{changes['labels']}.yaml", b"labels: [apple]")
    elif spoil == "other detector":
        changes["model_version"] = "demo@00000000"
    elif spoil == "images denied":
        system.gate.refuse("GET", "/fruit/0", 403, "AccessDenied")
    elif spoil == "data denied":
        system.gate.refuse("PUT", "/part-", 403, "AccessDenied")
    elif spoil == "no room for the bundle":
        settings["cache"] = Path("/dev/null/cache")
    elif spoil == "cuda missing":
        settings["provider"] = "cuda"
    run_id = "20260101T000000Z-00000000" if spoil == "no manifest" else system.plan(images, **changes)
    system.gate.calls.clear()
    with pytest.raises(BoxdropError, match=reason) as caught:
        system.job(**settings).work(run_id)
    assert not isinstance(caught.value, UnavailableError)
    assert bool(system.gate.paths("GET", "/fruit/0")) == spoil.endswith("denied")
    assert system.parts(run_id) == {}
    assert read_summary(system.data, run_id) is None


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/fruit/001", 503, "SlowDown"),
        ("GET", "/fruit/001", 500, "InternalError"),
        ("GET", "/fruit/001", 400, "ExpiredToken"),
        ("PUT", "/part-", 503, "SlowDown"),
    ],
)
def test_a_temporary_fault_is_not_blamed_on_an_image(
    system: System, method: str, path: str, status: int, code: str
) -> None:
    run_id = system.plan(system.put_scenes(3))
    system.gate.refuse(method, path, status, code)
    with pytest.raises(UnavailableError, match="as the test wants"):
        system.job().work(run_id)
    assert system.parts(run_id) == {}
    system.gate.forget()
    system.job().work(run_id)
    assert summary_of(system, run_id).predicted == 3


def test_an_answer_that_breaks_off_is_asked_for_again(system: System) -> None:
    run_id = system.plan(system.put_scenes(3))
    system.gate.cut("/fruit/001", 2)
    system.job().work(run_id)
    assert summary_of(system, run_id).predicted == 3
    assert len(system.gate.paths("GET", "/fruit/001")) == 3
    again = system.plan(system.put_scenes(3))
    system.gate.cut("/fruit/001", 3)
    with pytest.raises(UnavailableError, match="cannot be read"):
        system.job().work(again)


def test_one_image_that_may_not_be_read_fails_alone(system: System) -> None:
    run_id = system.plan(system.put_scenes(3))
    system.gate.refuse("GET", "/fruit/001", 403, "AccessDenied")
    system.job().work(run_id)
    summary = summary_of(system, run_id)
    assert (summary.predicted, summary.failures_by_reason) == (2, {"denied": 1})


def test_a_run_without_any_image_left_has_a_summary(system: System) -> None:
    images = system.put_scenes(2)
    for image in images:
        system.s3.delete_object(Bucket=system.images.name, Key=image.key)
    run_id = system.plan(images)
    system.job().work(run_id)
    assert summary_of(system, run_id).gone == 2
    assert list(system.parts(run_id).values()) == [b""]


def test_the_images_of_a_manifest_may_be_anything(system: System) -> None:
    """A version-id that the bucket does not know, and keys that want escaping."""
    good = system.put("fruit/a/b'\"<&>\u2028.jpg", SCENE)
    lost = ManifestImage(good.image_id, "fruit/never there.jpg", good.version)
    run_id = system.plan([good, lost])
    system.job().work(run_id)
    summary = summary_of(system, run_id)
    assert (summary.predicted, summary.gone) == (1, 1)
