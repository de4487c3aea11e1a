"""`boxdrop find` on a folder: given one box of a nameless thing, its likes come first."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from boxdrop.cli import boxdrop
from boxdrop.domain.detections import iou
from tests.shape_scenes import draw_shapes

EXAMPLE = next(seed for seed in range(100) if len(draw_shapes(seed).stars))
SEARCHED = range(200, 230)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("find")
    (made / "scenes").mkdir()
    (made / "example.jpg").write_bytes(draw_shapes(EXAMPLE).jpeg())
    for seed in SEARCHED:
        (made / "scenes" / f"{seed}.jpg").write_bytes(draw_shapes(seed).jpeg())
    return made


def find(folder: Path, box: str, *options: str, where: str | None = None) -> Result:
    arguments = ["find", str(folder / "example.jpg"), "--box", box, "--in", where or str(folder / "scenes")]
    return CliRunner().invoke(boxdrop, [*arguments, "--out", str(folder / "out"), *options])


def test_what_looks_like_the_box_comes_first(folder: Path) -> None:
    left, top, right, bottom = draw_shapes(EXAMPLE).stars[0].tolist()
    said = find(folder, f"{left},{top},{right - left},{bottom - top}", "--top", "12")
    assert said.exit_code == 0, said.output
    lines = [line.split("\t") for line in said.output.splitlines() if line.count("\t") == 2]
    assert len(lines) == 12
    scores = [float(score) for score, _, _ in lines]
    assert scores == sorted(scores, reverse=True)
    right_ones = 0
    for _, place, name in lines:
        x, y, width, height = (float(each) for each in place.split(","))
        box = np.array([x, y, x + width, y + height], np.float32)
        stars = draw_shapes(int(Path(name).stem)).stars
        right_ones += bool(len(stars) and (iou(box, stars) >= 0.5).any())
    assert right_ones >= 10
    assert (folder / "out" / "index.html").exists()


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ("1,2,3", "write left, top, width and height"),
        ("1,2,0,4", "width and height must be above 0"),
        ("1,2,nan,4", "width and height must be above 0"),
        ("0,0,2,2", "the detector draws no box near 0, 0, 2, 2"),
    ],
)
def test_a_box_that_cannot_be_searched_for_is_said(folder: Path, box: str, said: str) -> None:
    result = find(folder, box)
    assert result.exit_code == 1
    assert said in result.output
