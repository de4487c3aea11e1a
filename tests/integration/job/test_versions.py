"""The same object has the same identity, whoever looks at it: the job, or `annotate` and what it shares."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boxdrop.annotate.run import AnnotateRun
from boxdrop.aws.s3 import Bucket
from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector
from boxdrop.domain.errors import ImageError
from boxdrop.domain.identity import image_id
from boxdrop.domain.images import DEFAULT_LIMITS
from boxdrop.domain.predictions import Prediction, read_jsonl, to_json
from boxdrop.sources import BucketImages, S3Source
from boxdrop.store.manifests import ManifestImage
from tests.gated_aws import GatedAws
from tests.integration.job.conftest import FRUIT, SCENE, SCENE_FILES, System, records_of


def set_versioning(system: System, status: str) -> None:
    system.s3.put_bucket_versioning(Bucket=system.images.name, VersioningConfiguration={"Status": status})


@pytest.fixture(params=["versioned", "unversioned", "suspended"])
def manifest(request: pytest.FixtureRequest, system: System) -> list[ManifestImage]:
    """Three images as events report them; the first one is older than the bucket's versioning."""
    images = [system.put("fruit/0.jpg", SCENE_FILES[0].read_bytes())]
    if request.param != "unversioned":
        set_versioning(system, "Enabled")
        system.put("fruit/2.jpg", SCENE)  # an older version, of another content
    images += [system.put(f"fruit/{n}.jpg", SCENE_FILES[n].read_bytes()) for n in (1, 2)]
    if request.param == "suspended":
        set_versioning(system, "Suspended")
    return images


@pytest.fixture
def source(system: System, gate: GatedAws, monkeypatch: pytest.MonkeyPatch) -> S3Source:
    for name, value in system.environment.items():
        monkeypatch.setenv(name, value)
    return S3Source(f"s3://{system.images.name}/fruit/")


def annotate(source: S3Source, out: Path) -> list[Prediction]:
    AnnotateRun(source, FRUIT, Detector.load(BUNDLE, threads=1), out).run()
    records = list(read_jsonl(out / "predictions.jsonl"))
    assert all(isinstance(record, Prediction) for record in records)
    return [record for record in records if isinstance(record, Prediction)]


def test_annotate_and_the_job_make_the_same_records(
    system: System, source: S3Source, manifest: list[ManifestImage], tmp_path: Path
) -> None:
    run_id = system.plan(manifest)
    system.job().work(run_id)
    by_job = records_of(system, run_id)
    by_hand = annotate(source, tmp_path / "out")
    assert [image.version for image in manifest] == [record.version for record in by_hand]
    assert [record.prediction_id for record in by_hand] == [record.prediction_id for record in by_job]
    assert by_hand == by_job


def test_a_run_of_before_version_ids_resumes_without_the_detector(
    system: System, source: S3Source, tmp_path: Path
) -> None:
    """`annotate` named the content of versioned buckets by etag and size until version 0.1."""
    set_versioning(system, "Enabled")
    image = system.put("fruit/0.jpg", SCENE)
    out = tmp_path / "out"
    [record] = annotate(source, out)
    former = next(source.images()).former_version
    assert former not in (None, image.version)
    assert former is not None
    old = replace(record, version=former)
    (out / "predictions.jsonl").write_text(to_json(old) + "\n", encoding="utf-8")

    run = AnnotateRun(source, FRUIT, Detector.load(BUNDLE, threads=1), out)
    summary = run.run()
    assert (summary.computed, summary.resumed) == (0, 1)
    assert list(run.records()) == [record]


class Restricted:
    """An S3 client whose credentials lack some rights."""

    def __init__(self, client: Any, denied: set[str]) -> None:
        self._client = client
        self._denied = denied

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if name not in ("get_bucket_versioning", "get_object"):
            return call

        def checked(**arguments: Any) -> Any:
            right = "get_version" if "VersionId" in arguments else name
            if right in self._denied:
                answer = {
                    "Error": {"Code": "AccessDenied", "Message": "not allowed"},
                    "ResponseMetadata": {"HTTPStatusCode": 403},
                }
                raise self._client.exceptions.ClientError(answer, name)
            return call(**arguments)

        return checked


def test_credentials_that_may_only_list_and_read_see_the_same_versions(
    system: System, manifest: list[ManifestImage]
) -> None:
    client = Restricted(system.s3, {"get_bucket_versioning", "get_version"})
    images = BucketImages(Bucket(system.images.name, client=client))
    listed = [images.image(each.key, each.version) for each in images.bucket.list_current("fruit/")]
    assert [each.version for each in listed] == [image.version for image in manifest]
    assert [each.image_id for each in listed] == [image_id(system.images.name, each.key) for each in listed]
    for image, file in zip(listed, SCENE_FILES, strict=False):
        assert images.fetch(image, DEFAULT_LIMITS) == file.read_bytes()


def test_an_overwritten_version_is_changed_for_credentials_that_cannot_read_it(system: System) -> None:
    set_versioning(system, "Enabled")
    line = system.put("fruit/0.jpg", SCENE)
    system.put("fruit/0.jpg", SCENE_FILES[1].read_bytes())
    images = BucketImages(Bucket(system.images.name, client=Restricted(system.s3, {"get_version"})))
    with pytest.raises(ImageError, match="overwritten") as caught:
        images.fetch(images.image(line.key, line.version), DEFAULT_LIMITS)
    assert caught.value.reason == "changed"
