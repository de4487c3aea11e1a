"""What is published: the wheel and the source distribution, and a program installed from the wheel."""

import os
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.infra.conftest import REPOSITORY


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, which is built from the source distribution, as a release is."""
    folder = tmp_path_factory.mktemp("dist")
    command = [find_uv_bin(), "build", "--no-build-isolation", "--python", sys.executable]
    done = subprocess.run(
        [*command, "--out-dir", str(folder), str(REPOSITORY)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_has_no_top_level_name_that_could_collide(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {
        "boxdrop",
        "model_export",
    }
    assert "boxdrop/deployables/functions/dispatch/handler.py" in names
    assert "boxdrop/deployables/functions/job/__main__.py" in names
    assert "boxdrop/demo/bundle/bundle.json" in names
    assert "model_export/training/drawn-s/model.safetensors" in names, "train --from drawn-s"
    assert "boxdrop/py.typed" in names


def test_the_source_distribution_holds_tests_documentation_and_changelog(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    for wanted in (
        *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "docs/architecture.md", "mkdocs.yml"),
        *("tests/conftest.py", "tests/data/hostile.py", "functions/dispatch/handler.py", "infra/app.py"),
        *("requirements/test.txt", "setup.py", "examples/README.md"),
    ):
        assert wanted in names, wanted
    assert not [name for name in names if "__pycache__" in name or name.startswith(".boxdrop")]


@pytest.fixture(scope="module")
def without_extras(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `boxdrop`, installed from the wheel without any extra."""
    venv = tmp_path_factory.mktemp("without-extras") / "venv"
    (wheel,) = built.glob("*.whl")
    for command in (
        ["venv", "--quiet", "--python", sys.executable, str(venv)],
        ["pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), str(wheel)],
    ):
        done = subprocess.run([find_uv_bin(), *command], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    return venv / "bin" / "boxdrop"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("doctor", "functions"),
        ("local up", "functions"),
        ("drop images fruit", "functions"),
        ("backfill s3://images/", "functions"),
        ("apply fruit", "functions"),
        ("retry fruit", "functions"),
        ("sync fruit", "functions"),
        ("retrieve apples --into images", "retrieve"),
        ("track sync", "tracking"),
        ("track dashboard", "tracking"),
        ("runs", "s3"),
        ("bundle list", "s3"),
        ("annotate s3://images/ --labels apple", "s3"),
    ],
)
def test_a_missing_package_names_the_right_extra_in_one_line(
    without_extras: Path, tmp_path: Path, command: str, extra: str
) -> None:
    (tmp_path / "images").mkdir()
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "BOXDROP_HOME": str(tmp_path / "home")}
    variables |= {"BOXDROP_TABLE": "boxdrop", "BOXDROP_DATA_BUCKET": "data", "COLUMNS": "80"}
    done = subprocess.run(
        [without_extras, *command.split()],
        cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith(f"pip install 'boxdrop[{extra}]'"), line
    assert not (tmp_path / "home").exists(), "nothing was installed or started"


@pytest.mark.slow
def test_a_program_installed_from_the_wheel_finds_boxes_and_its_functions(
    built: Path, tmp_path: Path
) -> None:
    (wheel,) = built.glob("*.whl")
    python = tmp_path / "venv" / "bin" / "python"
    for command in (
        ["venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")],
        ["pip", "install", "--quiet", "--python", str(python), f"boxdrop[functions] @ {wheel.as_uri()}"],
    ):
        done = subprocess.run([find_uv_bin(), *command], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    scenes = REPOSITORY / "boxdrop" / "demo" / "scenes"
    out = tmp_path / "out"
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = partial(subprocess.run, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, timeout=300)
    done = run([python.with_name("boxdrop"), "annotate", scenes, "--labels", "banana", "--out", out])
    assert done.returncode == 0, done.stderr
    assert (out / "predictions.jsonl").read_text().count("\n") == len(list(scenes.glob("*.jpg")))
    done = run([python, "-c", "from boxdrop.local.stack import _source_folder; print(_source_folder())"])
    folder = Path(done.stdout.strip())
    assert folder.name == "deployables", done.stderr
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import functions.dispatch.handler"
    done = run([python, "-c", code])
    assert done.returncode == 0, done.stderr
