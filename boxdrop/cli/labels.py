"""``boxdrop labels``: show and change the labels.yaml of a project."""

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import say
from boxdrop.domain.errors import BoxdropError


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--edit", is_flag=True, help="Open it in $EDITOR, then upload what you saved.")
@click.option(
    "--file", "given", metavar="LABELS", help="Replace it with this labels.yaml, or 'pineapple, banana'."
)
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="OLD=NEW",
    help="Rename a label; it keeps its id, its prompts and its verified boxes.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@system_option
def labels(
    project: str, edit: bool, given: str | None, renames: tuple[str, ...], yes: bool, system: str | None
) -> None:
    """Show the labels.yaml of PROJECT, or change it.

    \b
      boxdrop labels fruit                       print it
      boxdrop labels fruit --edit                change it in an editor
      boxdrop labels fruit --file labels.yaml    replace it
      boxdrop labels fruit --rename apple=apfel  rename a label and its boxes

    Before anything changes, the command shows which images run again, and asks.
    """
    if sum((edit, given is not None, bool(renames))) > 1:
        raise BoxdropError("give one of --edit, --file and --rename")
    from boxdrop.cli.labels_file import LabelsFile, text_of

    chosen = open_system(system)
    file = LabelsFile(chosen, project)
    if edit:
        file.edit(yes)
    elif given is not None:
        file.put(text_of(given), yes)
    elif renames:
        file.rename([_pair(each) for each in renames], yes)
    else:
        say(file.text.rstrip("\n"))


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = (part.strip() for part in text.partition("="))
    if not (old and equals and new):
        raise BoxdropError(f"--rename {text!r}: write OLD=NEW, for example apple=apfel")
    return old, new
