"""The keys of the data bucket: each is made in one place, and read back."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boxdrop.store import layout
from boxdrop.store.layout import PartName, display_key, run_of_summary_key, summary_key
from tests.imports import ROOT

RUN = "20261124T215700Z-0123abcd"
PRODUCT = ("boxdrop", "functions", "infra", "model_export", "benchmarks", "scripts", "examples")
FOLDERS = (
    "labelsets|lessons|runs|predictions|display|boxes|annotations|reviews|tracked|bundles|datasets|places"
)


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
        assert re.fullmatch(r"display/fruit!-ü/0{32}-[0-9a-f]{16}\.jpg", key)


NAMES = st.lists(
    st.text("ab!-_ %/.ü\udcff", min_size=1, max_size=6).filter(lambda name: "/" not in name),
    min_size=1,
    max_size=4,
).map("/".join)


@given(NAMES, NAMES)
@example("a", "a/b")
@example("a", "a!-b")
@example("a/b", "a!-b")
@example("a/b", "a%2Fb")
@example("a", "a b")
@example("a/b", "a!_-b")
@example("a", "a/annotation-")
def test_no_projects_keys_begin_with_anothers(one: str, other: str) -> None:
    assert layout.project_of_folder(layout.project_folder(one)) == one
    prefixes = (
        layout.predictions_prefix,
        layout.display_prefix,
        layout.boxes_prefix,
        layout.annotations_prefix,
        layout.reviews_prefix,
        layout.datasets_prefix,
        layout.trainings_prefix,
    )
    for prefix in prefixes:
        assert one == other or not prefix(other).startswith(prefix(one))


def test_the_keys_of_a_project_without_levels_are_what_they_were() -> None:
    for project in ("fruit", "a b", "a%2Fb", "annotation-", "ü", "n" * 900):
        assert layout.annotations_prefix(project) == f"annotations/{project}/"
        assert layout.earlier_key(layout.annotation_key(project, "0" * 32), project) is None


def test_a_nested_project_has_a_folder_of_its_own_and_an_earlier_one() -> None:
    key = layout.annotation_key("nest/sub", "0" * 32)
    assert key == f"annotations/nest!-sub/{'0' * 32}.json"
    assert layout.earlier_key(key, "nest/sub") == f"annotations/nest/sub/{'0' * 32}.json"
    assert layout.prefixes_of(layout.boxes_prefix("wow!"), "wow!") == ("boxes/wow!_/", "boxes/wow!/")


def test_a_name_that_is_the_folder_of_another_project_has_no_earlier_form() -> None:
    assert layout.project_folder("nest!-sub") == "nest!_-sub"
    assert layout.earlier_folder("nest!-sub") is None


@given(NAMES)
@example("nest/sub")
@example(f"nest/{RUN}")
@example("wow!")
def test_a_parts_earlier_key_is_read_back(project: str) -> None:
    now = PartName(project, RUN, 0, 128)
    earlier = layout.earlier_key(now.key, project)
    if earlier is not None:
        read = PartName.from_key(earlier)
        assert read == now
        assert read.key == earlier


def test_the_longest_names_keep_within_what_s3_allows() -> None:
    deep = "/".join("a" * 9 for _ in range(94))
    assert len(deep) == 939
    for project in ("n" * 940, deep):
        assert len(PartName(project, RUN, 0, 128).key.encode()) <= 1024
