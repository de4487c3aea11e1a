"""The command line: help that teaches, one sentence for a mistake, no traceback."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from boxdrop.cli import boxdrop


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


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_help_fits_into_80_columns(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(boxdrop, [*command, "--help"], env={"COLUMNS": "80"}, terminal_width=80)
    assert result.exit_code == 0
    assert [line for line in result.output.splitlines() if len(line) > 80] == []
    listed = result.output.partition("Commands:")[2]
    assert "..." not in listed, "a command's first sentence is too long for the list"
