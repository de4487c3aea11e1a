"""The command line: help that teaches, one sentence for a mistake, no traceback."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop
from boxdrop.cli.numbers import MOST


@pytest.mark.parametrize("arguments", [["--help"], ["annotate", "--help"], ["local", "--help"], ["annotate"]])
def test_help_shows_a_command_to_copy(arguments: list[str]) -> None:
    result = CliRunner().invoke(boxdrop, arguments)
    assert "boxdrop " in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["annotate", "nowhere", "--labels", "a"], "nowhere: no such file or folder"),
        (["annotate", "."], "name the labels to detect"),
        (["annotate", ".", "--labels", "a,,b"], "--labels: a label's name is empty"),
        (["annotate", ".", "--labels", "a", "--labels-file", "b.yaml"], "not both"),
        (["annotate", ".", "--labels-file", "b.yaml"], "b.yaml: no such file"),
        (["annotate", ".", "--project", "b.yaml"], "--project is now --labels-file"),
        (["annotate", ".", "--labels", "a", "--detector", "nowhere"], "nowhere"),
        (["annotate", ".", "--labels", "a", "--detector", ""], "a name is missing; write one name"),
        (["annotate", "", "--labels", "a"], "name a folder, a file or s3://bucket/prefix"),
        (["annotate", "x" * 5000, "--labels", "a"], "File name too long"),
        (["annotate", ".", "--labels", "a", "--out", "x" * 300], "File name too long"),
        (["annotate", ".", "--labels", "a", "--out", "."], "--out .: this is the folder of the images"),
        (["annotate", "https://example.org/a.jpg", "--labels", "a"], "for a bucket, write s3://"),
        (["annotate", "s3://my bucket/x", "--labels", "a"], "cannot be a bucket's name"),
        (["annotate", "/dev/zero", "--labels", "a"], "neither a file nor a folder"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(boxdrop, arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output


def every_command() -> list[tuple[str, ...]]:
    """All commands, and the commands of groups."""
    found: list[tuple[str, ...]] = [()]
    context = click.Context(boxdrop)
    for name in boxdrop.list_commands(context):
        command = boxdrop.get_command(context, name)
        assert command is not None
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, each) for each in command.commands]
    return found


def every_number() -> list[tuple[str, click.Option]]:
    """All options that take a number, with the name of the command."""
    found = []
    for path in every_command():
        command: click.Command = boxdrop
        for name in path:
            assert isinstance(command, click.Group)
            child = command.get_command(click.Context(command), name)
            assert child is not None
            command = child
        for option in command.params:
            numbers = click.types.IntParamType | click.types.FloatParamType
            if isinstance(option, click.Option) and isinstance(option.type, numbers):
                found.append((" ".join(path), option))
    return found


@pytest.mark.parametrize(
    "text", ["9" * 30, "9" * 5000, "-" + "9" * 30, "nan", "inf", "-inf", "1e400", "0x10", "", " ", "1_0"]
)
def test_no_number_is_taken_that_the_program_cannot_hold(text: str) -> None:
    for command, option in every_number():
        try:
            number = option.type.convert(text, option, click.Context(boxdrop))
        except click.BadParameter:
            continue
        assert abs(number) <= MOST, (command, option.name)


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_help_fits_into_80_columns(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(boxdrop, [*command, "--help"], env={"COLUMNS": "80"}, terminal_width=80)
    assert result.exit_code == 0
    assert [line for line in result.output.splitlines() if len(line) > 80] == []
    listed = result.output.partition("Commands:")[2]
    assert "..." not in listed, "a command's first sentence is too long for the list"
