"""Whatever users' text holds, it reaches the terminal as text."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from boxdrop.cli import boxdrop
from boxdrop.cli.console import Console
from boxdrop.cli.local import readable
from boxdrop.cli.terminal import counted, printable
from tests.imports import ROOT

anything = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
HOSTILE = [
    "[/x]",
    "[bold]x[/bold]",
    "x[/y]",
    ":smile:",
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "a\udcffb",
    "\u202egnp.exe",
    "a\0b",
]


def shown(*renderables: object) -> str:
    """What a console prints."""
    out = io.StringIO()
    Console(file=out, width=400).print(*renderables)
    return out.getvalue()


@given(anything)
def test_printable_text_keeps_its_length_and_has_no_control_characters(text: str) -> None:
    safe = printable(text)
    assert len(safe) == len(text)
    safe.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", safe)
    assert printable(safe) == safe


@given(anything.filter(lambda text: "\n" not in text and "\t" not in text and "\r" not in text))
def test_the_console_shows_text_as_it_is(text: str) -> None:
    table = Table("label", text, box=None)
    table.add_row(text, Text(text))
    for printed in (shown(text), shown(Text(text)), shown(table)):
        assert "\x1b" not in printed
        printed.encode("utf-8")
    assert shown(text).strip("\n") == printable(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_spinner_takes_any_text(text: str) -> None:
    out = io.StringIO()
    with Console(file=out).working(text) as spinner:
        spinner.update(text)


def test_no_command_prints_past_the_terminal_module() -> None:
    past = re.compile(r"click\.echo\(|rich\.console import .*\bConsole\b|(?<![\w.])print\(|\.status\(f?\"")
    found = [
        f"{file.name}: {line.strip()}"
        for file in (ROOT / "boxdrop" / "cli").glob("*.py")
        if file.name not in ("terminal.py", "console.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if past.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("name", ["x[/y]", "we+ird #1 100%", "[bold]", "caf\u00e9 \N{BANANA}"])
def test_annotate_takes_any_folder_label_and_output(name: str, tmp_path: Path) -> None:
    from boxdrop.demo import SCENES

    folder = tmp_path / name
    folder.mkdir(parents=True)
    scene = next(iter(sorted(SCENES.glob("*.jpg"))))
    (folder / f"{name}.jpg".replace("/", "-")).write_bytes(scene.read_bytes())
    done = CliRunner().invoke(
        boxdrop,
        ["annotate", str(folder), "--labels", f"banana, {name}", "--out", str(tmp_path / f"o {name}")],
    )
    assert done.exit_code == 0, done.output
    assert f"banana, {name}" in done.output


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "1.5"])
def test_a_score_is_a_number_between_0_and_1(value: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(boxdrop, ["annotate", str(tmp_path), "--labels", "a", "--threshold", value])
    assert done.exit_code == 2
    assert "--threshold" in done.output


def test_an_error_reaches_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    folder = tmp_path / "caf\u00e9 \x1b[31m"
    done = subprocess.run(
        [sys.executable, "-m", "boxdrop", "annotate", str(folder), "--labels", "\N{BANANA}"],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr
    assert b"no such file or folder" in done.stderr


def test_things_are_counted_in_english() -> None:
    assert counted(1, "image") == "1 image"
    assert counted(2_000, "image") == "2,000 images"
    assert counted(0, "box", "boxes") == "0 boxes"


@pytest.mark.parametrize(
    ("line", "shown_as"),
    [
        (
            '{"timestamp": "2026-11-28T07:12:01+00:00", "service": "publish", "level": "WARNING", '
            '"message": "will be tried again", "reason": "no server answers", "location": "handler:3"}\n',
            "07:12:01 publish   WARNING: will be tried again reason=no server answers\n",
        ),
        ("plain text of a server\n", "plain text of a server\n"),
        ('{"_aws": {"Timestamp": 1}, "ImagesIn": 3}\n', ""),
        ('["a list"]\n', '["a list"]\n'),
    ],
)
def test_a_log_line_for_machines_is_shown_for_people(line: str, shown_as: str) -> None:
    assert "".join(text for text, _ in readable(line)) == shown_as


LINE = (
    '{"timestamp": "2026-11-28T07:12:01+00:00", "service": "job", "level": "ERROR", "message": "failed", '
    '"exception": "Traceback\\n  File x\\nValueError: no", "exception_name": "ValueError", "project": null}\n'
)


def test_a_log_in_a_pipe_has_no_colours_and_json_prints_it_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    (tmp_path / "pump.log").write_text(LINE + "not \x1b[31mJSON\n" + "an unfinished line")
    people, programs = (
        CliRunner().invoke(boxdrop, ["local", "logs", *options], color=False) for options in ([], ["--json"])
    )
    rest = "not \N{REPLACEMENT CHARACTER}[31mJSON\nan unfinished line"
    assert people.output == "07:12:01 job       ERROR: failed exception=ValueError: no\n" + rest
    assert programs.output == LINE + rest


def test_a_log_in_a_terminal_has_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOXDROP_HOME", str(tmp_path))
    (tmp_path / "pump.log").write_text(LINE)
    shown = CliRunner().invoke(boxdrop, ["local", "logs"], color=True).output
    assert "\x1b[31mERROR: failed\x1b[0m" in shown
