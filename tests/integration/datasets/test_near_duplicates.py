"""Images that look alike share a split, also those that come later; none that was there moves."""

import io
from pathlib import Path

import PIL.Image
import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.datasets.collection import Selection
from boxdrop.datasets.samples import verified
from boxdrop.datasets.splits import Grouping, Splits
from boxdrop.demo import SCENES

from .conftest import Verified
from .test_export import items

SPLITS = "train=50,test=50"


def photo(number: int, quality: int = 95) -> bytes:
    out = io.BytesIO()
    PIL.Image.open(SCENES / f"fruit-basket-{number:02}.jpg").save(out, "JPEG", quality=quality)
    return out.getvalue()


def verify(fruit: Verified, name: str, body: bytes) -> None:
    with PIL.Image.open(io.BytesIO(body)) as image:
        fruit.verify(name, body=body, size=image.size)


def splits_of(fruit: Verified, **options: object) -> dict[str, str]:
    selection = Selection(splits=Splits.parse(SPLITS), **options)  # type: ignore[arg-type]
    return {key.removeprefix("fruit/"): item.split for key, item in items(fruit, selection).items()}


def test_copies_share_a_split_and_later_ones_join_without_moving_any(fruit: Verified) -> None:
    for number in range(1, 4):
        for copy in range(3):
            verify(fruit, f"{number}-{copy}.jpg", photo(number, 95 - 20 * copy))
    own = splits_of(fruit, together=False)
    first = splits_of(fruit)
    for copy in range(3, 5):
        verify(fruit, f"1-{copy}.jpg", photo(1, 95 - 10 * copy))
    later = splits_of(fruit)

    assert any(len({own[f"{number}-{copy}.jpg"] for copy in range(3)}) == 2 for number in range(1, 4))
    for number in range(1, 4):
        assert len({split for name, split in later.items() if name.startswith(f"{number}-")}) == 1
    assert first.items() <= later.items()
    assert splits_of(fruit, together=False).items() >= own.items()
    assert set(later) == {
        each.item.key.removeprefix("fruit/")
        for each in verified("fruit", services=fruit.world.services, splits=SPLITS)
    }
    sides = splits_of(
        fruit, grouping=Grouping(r"-\d")
    )  # copies of the first, of the second …: all are linked
    assert len(set(sides.values())) == 1


@pytest.mark.usefixtures("system")
def test_the_command_line_can_ignore_them(fruit: Verified, tmp_path: Path) -> None:
    for copy in range(3):
        verify(fruit, f"{copy}.jpg", photo(1, 95 - 20 * copy))

    said = []

    def export(*options: str) -> set[str]:
        folder = tmp_path / "-".join(["out", *options])
        arguments = ["export", "fruit", "--format", "yolo", "--split", SPLITS, "--out", str(folder), *options]
        done = CliRunner().invoke(boxdrop, arguments)
        assert done.exit_code == 0, done.output
        said.append(done.output)
        return {path.parent.name for path in folder.glob("images/*/*.jpg")}

    assert len(export()) == 1
    assert "most look alike and stay together; --near-duplicates ignore spreads them" in said[0]
    assert len(export("--near-duplicates", "ignore")) == len(set(splits_of(fruit, together=False).values()))
