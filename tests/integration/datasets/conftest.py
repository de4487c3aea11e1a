"""A project whose images people have verified, on moto; the documents are those that `collect` writes."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from boxdrop.domain.annotations import Annotation, DrawnBox, Offer, OfferedBox, Reason, Tombstone, to_json
from boxdrop.store.layout import annotation_key
from boxdrop.system import System
from tests.integration.pipeline.conftest import client, ledger, unique
from tests.integration.pipeline.world import World
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "client", "endpoint", "ledger"]

WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)


def jpeg(width: int = 64, height: int = 48, *, seed: int = 0, orientation: int | None = None) -> bytes:
    """A photo; with an EXIF orientation, `width` and `height` are those of the stored pixels."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    out = io.BytesIO()
    exif = PIL.Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    PIL.Image.fromarray(pixels).save(out, "JPEG", quality=90, exif=exif)
    return out.getvalue()


class Verified:
    """The project ``fruit``, verified image by image."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._tasks = 0
        world.dispatch(world.labels("fruit"))
        world.ledger.freeze_labels("fruit", {"pineapple": 1, "banana": 2, "apple": 3})

    def label(self, text: str) -> None:
        """Bring a labels.yaml into force."""
        self.world.dispatch(self.world.labels("fruit", text))
        project = self.world.ledger.project("fruit")
        assert project is not None
        self.world.ledger.apply_labels("fruit", project.stored_labels or "", project.detection or "d")

    def image(self, name: str, body: bytes) -> str:
        """Upload an image; returns its id."""
        self.world.dispatch(self.world.put(f"fruit/{name}", body))
        return self.world.id_of(f"fruit/{name}")

    def verify(
        self,
        name: str,
        boxes: Sequence[DrawnBox] = (),
        *,
        size: tuple[int, int] = (64, 48),
        body: bytes | None = None,
        notes: tuple[str, ...] = (),
        offered: Sequence[OfferedBox] = (),
        when: datetime = WHEN,
    ) -> str:
        """Upload an image and verify it; returns its id."""
        self._tasks += 1
        image_id = self.image(name, jpeg(*size, seed=self._tasks) if body is None else body)
        row = self.world.row(f"fruit/{name}")
        assert row.version is not None
        offer = Offer("p", "demo@3f9a1c22", tuple(offered)) if offered else None
        document = Annotation(
            image=row.key,
            image_id=image_id,
            version=row.version,
            task_id=self._tasks,
            annotation_id=self._tasks,
            order=when,
            updated_at=when,
            user=3,
            lead_time=1.0,
            width=size[0],
            height=size[1],
            boxes=tuple(boxes),
            offer=offer,
            notes=notes,
        )
        self._store(image_id, to_json(document))
        self.world.ledger.record_verified(image_id, row.version, when)
        return image_id

    def skip(self, name: str) -> None:
        """Upload an image that a person then skips."""
        self._tasks += 1
        image_id = self.image(name, jpeg(seed=self._tasks))
        self._store(image_id, to_json(Tombstone(f"fruit/{name}", image_id, 1, WHEN, Reason.SKIPPED)))

    def _store(self, image_id: str, document: str) -> None:
        self.world.data.put(annotation_key("fruit", image_id), document.encode())


def box(label: str, *xyxy: float, region: str = "r1", rotation: float = 0.0) -> DrawnBox:
    """A verified box."""
    left, top, right, bottom = xyxy
    return DrawnBox(label, (left, top, right, bottom), region, rotation)


@pytest.fixture
def fruit(aws: MakeClient, ledger: object, request: pytest.FixtureRequest) -> Verified:
    """A project without verified images so far; its bucket keeps versions."""
    return Verified(World(unique(request), aws, ledger, versioned=True, detector=False))  # type: ignore[arg-type]


@pytest.fixture
def system(fruit: Verified, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local system that is up: moto."""
    described = System(
        "local",
        "us-east-1",
        fruit.world.ledger._table.name,
        fruit.world.images.name,
        fruit.world.data.name,
        endpoint_url=endpoint,
    )
    (tmp_path / "home").mkdir()
    (tmp_path / "home/system.json").write_text(described.to_json())
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BOXDROP_SYSTEM", raising=False)
    for name, value in described.environment().items():
        monkeypatch.setenv(name, value)  # so that what the command sets is taken back
