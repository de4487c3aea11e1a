"""The keys of the data bucket: each is made in one place, and read back."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxdrop.store import layout
from boxdrop.store.layout import PartName, display_key, run_of_summary_key, summary_key
from tests.imports import ROOT

RUN = "20261124T215700Z-0123abcd"
PRODUCT = ("boxdrop", "functions", "infra", "model_export", "benchmarks", "scripts", "examples")
FOLDERS = "labelsets|lessons|runs|predictions|display|boxes|annotations|reviews|tracked|bundles|datasets"


def _texts(file: Path) -> Iterator[tuple[int, str]]:
    """The string literals of a file that may hold a key, without its docstrings."""
    source = file.read_text(encoding="utf-8")
    if not re.search(rf"(?:{FOLDERS})/", source):
        return
    tree = ast.parse(source)
    sentences = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in sentences:
            yield node.lineno, node.value


def test_no_other_module_spells_a_key() -> None:
    files = [file for folder in PRODUCT for file in (ROOT / folder).rglob("*.py")]
    own = Path(layout.__file__)
    assert own in files
    spelt = [
        f"{file.relative_to(ROOT)}:{line}: {text!r}"
        for file in files
        if file != own
        for line, text in _texts(file)
        if re.match(rf"(?:{FOLDERS})/", text)
    ]
    assert spelt == []


def test_the_layout_itself_spells_every_folder() -> None:
    own = {text.rstrip("/") for _, text in _texts(Path(layout.__file__))}
    assert own >= set(FOLDERS.split("|"))


@given(
    st.text("abz/ü. -_%+", min_size=1).filter(lambda name: not {"", ".", ".."} & {*name.split("/")}),
    st.integers(0, 10**8 - 1),
    st.integers(0, 10**8 - 1),
)
def test_a_parts_key_is_read_back(project: str, first: int, last: int) -> None:
    name = PartName(project, RUN, first, last)
    assert PartName.from_key(name.key) == name


@pytest.mark.parametrize(
    "key",
    [
        f"predictions/{RUN}/part-00000000-00000001.jsonl",
        f"predictions/fruit/{RUN}/part-0-1.jsonl",
        f"predictions/fruit/{RUN}/part-00000000-00000001.jsonl.gz",
        f"runs/{RUN}/summary.json",
    ],
)
def test_other_keys_are_not_parts(key: str) -> None:
    assert PartName.from_key(key) is None


def test_a_summarys_key_names_its_run() -> None:
    assert run_of_summary_key(summary_key(RUN)) == RUN
    assert run_of_summary_key(f"runs/{RUN}/shards/00000.json") is None


def test_each_version_of_an_image_has_a_display_copy_of_its_own() -> None:
    keys = {display_key("fruit/ü", "0" * 32, version) for version in ("v1", "v2", '"etag"-12/\udcff')}
    assert len(keys) == 3
    for key in keys:
        assert re.fullmatch(r"display/fruit/ü/0{32}-[0-9a-f]{16}\.jpg", key)
