"""Images that a browser would show differently: the job writes an upright copy once, and records its name."""

from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image

from boxdrop.domain.images import decode
from boxdrop.domain.predictions import Failure, Prediction
from tests.integration.job.conftest import SCENE, System, records_of


def encoded(form: str, orientation: int = 1, **options: Any) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    PIL.Image.open(BytesIO(SCENE)).resize((160, 120)).save(file, form, exif=exif, **options)
    return file.getvalue()


def records(system: System, files: dict[str, bytes]) -> dict[str, Prediction | Failure]:
    run_id = system.plan([system.put(f"fruit/{name}", body) for name, body in files.items()])
    system.job().work(run_id)
    return {record.image.rpartition("/")[2]: record for record in records_of(system, run_id)}


def test_only_what_a_browser_shows_differently_gets_a_copy(system: System) -> None:
    files = {
        "turned.jpg": encoded("JPEG", 6),
        "turned.webp": encoded("WEBP", 2, lossless=True),
        "scan.tif": encoded("TIFF"),
        "plain.webp": encoded("WEBP"),
    }
    found = records(system, files)
    assert {listed.key for listed in system.data.list("display/")} == {
        record.display for record in found.values() if isinstance(record, Prediction) and record.display
    }
    for name, body in files.items():
        record = found[name]
        assert isinstance(record, Prediction)
        if name in ("turned.jpg", "plain.webp"):
            assert record.display is None
            continue
        assert record.display is not None
        assert record.display.startswith(f"display/fruit/{record.image_id}-")
        copy = system.s3.get_object(Bucket=system.data.name, Key=record.display)
        assert copy["ContentType"] == "image/jpeg"
        shown, seen = decode(copy["Body"].read()).pixels.astype(int), decode(body).pixels
        assert shown.shape == (record.height, record.width, 3)
        assert np.abs(shown - seen).mean() < 1.5
        assert np.abs(shown - seen).max() < 40


def test_the_next_run_takes_the_same_copy_and_an_overwritten_image_gets_its_own(system: System) -> None:
    first = records(system, {"scan.tif": encoded("TIFF")})["scan.tif"]
    system.gate.forget()
    again = records(system, {"scan.tif": encoded("TIFF")})["scan.tif"]
    assert not system.gate.paths("PUT", "/display/")
    newer = records(system, {"scan.tif": encoded("TIFF", compression="tiff_lzw")})["scan.tif"]
    for record in (first, again, newer):
        assert isinstance(record, Prediction)
    assert first.display == again.display != newer.display  # type: ignore[union-attr]
    assert len(list(system.data.list("display/"))) == 2


def test_an_image_too_long_for_a_copy_fails_with_a_reason_and_the_others_go_on(system: System) -> None:
    file = BytesIO()
    PIL.Image.new("RGB", (65_536, 1)).save(file, "TIFF")
    found = records(system, {"ribbon.tif": file.getvalue(), "scan.tif": encoded("TIFF")})
    ribbon = found["ribbon.tif"]
    assert isinstance(ribbon, Failure)
    assert (ribbon.reason, ribbon.width) == ("unsupported", 65_536)
    assert "no browser shows this file" in ribbon.message
    assert isinstance(found["scan.tif"], Prediction)
