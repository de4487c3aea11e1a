"""The page's files: what is counted, how it is cut into scripts, and that no name can break it."""

import json
import os
import re
import tracemalloc
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from boxdrop.annotate.page import ReportWriter
from boxdrop.domain.identity import image_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Failure, Prediction, Record

LABELS = LabelSet.from_yaml(
    "caption: fruit baskets\n"
    "labels:\n- pineapple\n- name: banana\n  prompts: [banana, bunch of bananas]\n- apple\n"
)
NASTY = [
    "<script>alert(1)</script>.jpg",
    "</script><img src=x onerror=alert(1)>.jpg",
    'quote\'s "double" & <b>.jpg',
    "<!--.jpg",
    "a\u2028b\u2029c.jpg",
    "bytes that are not UTF-8 \udcff\udc80.jpg",
    "50%25 off #1?.jpg",
    "{{title}}.jpg",
    "Ananas 🍍 ünïcödé.jpg",
]


def prediction(name: str, *boxes: Box) -> Prediction:
    return Prediction(name, image_id("", name), "v1", "demo@0123", 640, 480, boxes)


def failure(name: str, message: str = "the file is empty: upload it again") -> Failure:
    return Failure(name, image_id("", name), "v1", "demo@0123", "empty", message)


def box(label: str, score: float, *also: tuple[str, float], prompt: str | None = None) -> Box:
    return Box(label, score, (1.04, 2.0, 30.25, 40.0), prompt or label, also)


def write(folder: Path, records: Iterable[Record], **options: Any) -> str:
    with ReportWriter(folder, options.pop("label_set", LABELS), **options) as page:
        for record in records:
            page.add(record)
    return (folder / "index.html").read_text(encoding="utf-8")


def meta_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="meta">(.*?)</script>', text, re.DOTALL)
    assert found
    meta: dict[str, Any] = json.loads(found[1])
    return meta


def rows_of(folder: Path, text: str) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for name in meta_of(text)["chunks"]:
        script = (folder / name).read_text(encoding="ascii")
        assert script.startswith("boxdrop.add(")
        rows += json.loads(script.removeprefix("boxdrop.add(").removesuffix(");\n"))
    return rows


def test_images_boxes_and_failures_are_counted(tmp_path: Path) -> None:
    records: list[Record] = [
        prediction("a.jpg", box("banana", 0.91), box("apple", 0.31), box("apple", 1.0)),
        prediction("b.jpg"),
        failure("c.jpg"),
    ]
    meta = meta_of(write(tmp_path, records))
    assert meta["counts"] == {"images": 3, "with_boxes": 1, "boxes": 3, "failures": 1}
    assert [label["boxes"] for label in meta["labels"]] == [0, 1, 2]
    assert meta["labels"][1]["bins"][18] == 1
    assert meta["labels"][2]["bins"][19] == 1
    assert meta["labels"][2]["bins"][6] == 1
    assert meta["lowest"] == 0.31
    assert [label["color"] for label in meta["labels"]] == [label.color for label in LABELS]


def test_an_image_is_one_row(tmp_path: Path) -> None:
    found = (
        box("banana", 0.91, ("apple", 0.4), prompt="bunch of bananas"),
        box("pineapple", 0.8),
    )
    text = write(tmp_path, [prediction("a.jpg", *found), failure("b.jpg")])
    assert rows_of(tmp_path, text) == [
        [
            *("a.jpg", image_id("", "a.jpg"), 640, 480),
            [1, 910, 1, 2, 30.2, 40, 0, 800, 1, 2, 30.2, 40],
            {"0": ["bunch of bananas", [["apple", 400]]]},
        ],
        ["b.jpg", image_id("", "b.jpg"), 0, 0, None, "empty", "the file is empty: upload it again"],
    ]


def test_a_label_that_left_the_label_set_is_still_shown(tmp_path: Path) -> None:
    text = write(tmp_path, [prediction("a.jpg", box("kiwi", 0.5))])
    assert meta_of(text)["labels"][3]["name"] == "kiwi"
    assert rows_of(tmp_path, text)[0][4][0] == 3


class Reader(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("name", NASTY)
def test_no_name_can_break_the_page(tmp_path: Path, name: str) -> None:
    records: list[Record] = [prediction(name, box("apple", 0.5)), failure(name, f"bad: {name}")]
    text = write(tmp_path, records, title=name, source=name, notice=name, model_version=name)
    plain = Reader()
    plain.feed(write(tmp_path / "plain", records[:0], title="t", source="s", notice="n"))
    reader = Reader()
    reader.feed(text)
    assert reader.tags == plain.tags
    assert name.replace("\udcff", "?").replace("\udc80", "?") in reader.words
    rows = rows_of(tmp_path, text)
    assert rows[0][0] == name
    assert rows[1][0] == name


def test_a_label_cannot_break_the_page(tmp_path: Path) -> None:
    label_set = LabelSet.from_short_form("</script><b>, <!--")
    meta = meta_of(write(tmp_path, [], label_set=label_set))
    assert [label["name"] for label in meta["labels"]] == ["</script><b>", "<!--"]


def test_nothing_is_fetched_from_the_network(tmp_path: Path) -> None:
    text = write(tmp_path, [prediction("a.jpg")])
    addresses = set(re.findall(r"""(?:https?:)?//[\w.-]+\.\w+[^\s"')]*""", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a namespace
    assert "fetch(" not in text
    assert "@import" not in text


def test_the_page_leads_to_verification_and_export(tmp_path: Path) -> None:
    text = write(tmp_path, [prediction("a.jpg")])
    assert "boxdrop drop DIR PROJECT" in text
    assert "boxdrop export PROJECT --format coco --out DIR" in text


def test_the_caption_is_the_title(tmp_path: Path) -> None:
    assert "<h1>fruit baskets</h1>" in write(tmp_path, [])
    many = LabelSet.from_short_form(", ".join(f"l{i}" for i in range(9)))
    assert "<h1>l0, l1, l2, l3, l4 and 4 more</h1>" in write(tmp_path, [], label_set=many)
    assert "<h1>mine</h1>" in write(tmp_path, [], title="mine")


def test_originals_are_reached_from_the_page(tmp_path: Path) -> None:
    photos = tmp_path / "my photos" / "50% ü"
    out = tmp_path / "out"
    meta = meta_of(write(out, [], originals=photos))
    assert meta["originals"] == "../my%20photos/50%25%20%C3%BC/"
    assert meta_of(write(out, []))["originals"] is None
    assert meta_of(write(out, [], originals=out))["originals"] == "./"


def test_bytes_that_are_not_utf8_in_the_path_of_originals_are_quoted(tmp_path: Path) -> None:
    meta = meta_of(write(tmp_path / "out", [], originals=tmp_path / os.fsdecode(b"\xff")))
    assert meta["originals"] == "../%FF/"


def test_many_images_are_cut_into_scripts(tmp_path: Path) -> None:
    text = write(tmp_path, (prediction(f"{i}.jpg", box("apple", 0.5)) for i in range(2500)))
    assert meta_of(text)["chunks"] == [f"report/data-{i:04}.js" for i in range(3)]
    assert [row[0] for row in rows_of(tmp_path, text)] == [f"{i}.jpg" for i in range(2500)]
    assert len(text) < 100_000


def test_images_with_many_boxes_are_cut_by_bytes(tmp_path: Path) -> None:
    text = write(tmp_path, (prediction(f"{i}.jpg", *[box("apple", 0.5)] * 300) for i in range(400)))
    sizes = [(tmp_path / name).stat().st_size for name in meta_of(text)["chunks"]]
    assert len(sizes) > 3
    assert max(sizes) < 500_000


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    records = (prediction(f"{i}.jpg", box("apple", 0.5)) for i in range(20_000))
    tracemalloc.start()
    write(tmp_path, records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    written = sum(path.stat().st_size for path in (tmp_path / "report").iterdir())
    assert peak < 1_000_000 < written


def test_a_page_written_again_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, (prediction(f"{i}.jpg") for i in range(1500)))
    text = write(tmp_path, [prediction("only.jpg")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "report"]
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["data-0000.js"]
    assert rows_of(tmp_path, text)[0][0] == "only.jpg"


def test_an_interrupted_run_leaves_the_old_page(tmp_path: Path) -> None:
    before = write(tmp_path, [prediction("a.jpg")])

    def interrupted() -> Iterator[Record]:
        yield prediction("b.jpg")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, interrupted())
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == before
    assert rows_of(tmp_path, before)[0][0] == "a.jpg"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "report"]


def test_the_same_records_give_the_same_page(tmp_path: Path) -> None:
    records: list[Record] = [prediction("a.jpg", box("apple", 0.5)), failure("b.jpg")]
    assert write(tmp_path / "1", records) == write(tmp_path / "2", records)
