"""``boxdrop labels``: show and change the labels.yaml of a project."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import log_in, open_system, system_option
from boxdrop.cli.terminal import say
from boxdrop.domain.errors import BoxdropError, LabelSetError
from boxdrop.domain.labels import LabelSet

if TYPE_CHECKING:
    from boxdrop.aws.s3 import StoredObject
    from boxdrop.system import System


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--edit", is_flag=True, help="Open it in $EDITOR, then put what you saved.")
@click.option("--file", "given", metavar="LABELS", help="Put this labels.yaml, or 'pineapple, banana'.")
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="OLD=NEW",
    help="Rename a label: its id, its prompts and the boxes that people verified stay with it.",
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

    Before anything changes, you are told what runs again, and asked.
    """
    if sum((edit, given is not None, bool(renames))) > 1:
        raise BoxdropError("give one of --edit, --file and --rename")
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


def text_of(labels: str) -> str:
    """The text of a labels.yaml, given as a path or in the short form; checked.

    Raises:
        LabelSetError: it cannot be used.
    """
    from boxdrop.cli.new import labels_yaml

    label_set = LabelSet.load(labels)
    path = Path(labels)
    if path.suffix.lower() in (".yaml", ".yml") or path.is_file():
        return path.read_text(encoding="utf-8-sig")
    return labels_yaml(label_set, None)


class LabelsFile:
    """The labels.yaml of a project in the image bucket, as it was read.

    Args:
        chosen: the system.
        project: its name.
    """

    def __init__(self, chosen: "System", project: str) -> None:
        from boxdrop.cli.new import check_project
        from boxdrop.services import Services

        check_project(project)
        self._system, self._project = chosen, project
        self._services = Services.of_system(chosen)
        self._images = self._services.images
        self._key = f"{project}/labels.yaml"
        self._stored: StoredObject | None = self._images.get(self._key)

    @property
    def where(self) -> str:
        """Its address."""
        return f"s3://{self._images.name}/{self._key}"

    @property
    def text(self) -> str:
        """What it says.

        Raises:
            BoxdropError: there is none.
        """
        if self._stored is None:
            raise BoxdropError(
                f"there is no {self.where}; make one: boxdrop labels {quote(self._project)} --file "
                "'pineapple, banana'"
            )
        return self._stored.body.decode("utf-8-sig", "replace")

    def edit(self, yes: bool) -> None:
        """Open it in an editor until it is right, then put it."""
        text = self.text if self._stored is not None else "labels:\n  - banana\n"
        while True:
            edited = click.edit(text, extension=".yaml", require_save=False)
            if edited is None or edited == self.text:
                say("Nothing was changed.")
                return
            try:
                LabelSet.from_yaml(edited)
            except LabelSetError as error:
                say(str(error), err=True)
                click.confirm("Edit it again? (no gives up)", default=True, abort=True)
                text = edited
                continue
            self.put(edited, yes)
            return

    def put(self, text: str, yes: bool) -> None:
        """Say what new labels run again; after a yes, put them and bring them into force.

        Raises:
            LabelSetError, BundleError: they cannot be used.
            BoxdropError: somebody else has changed them since they were read.
        """
        from boxdrop.cli.apply import apply_stored, bring_into_force, said_of
        from boxdrop.cli.new import warn_of_labels
        from boxdrop.pipeline.labels import change_by, store_labels

        label_set = LabelSet.from_yaml(text)
        ledger = self._services.ledger
        row = ledger.project(self._project)
        if self._stored is not None and LabelSet.from_yaml(text) == self._known():
            say("The project has these labels already.", err=True)
            apply_stored(self._system, self._project, yes)
            return
        warn_of_labels(self._system.data_bucket, label_set)
        if row is not None and row.labels is not None:
            change = change_by(self._services, row, label_set, recount=True)
            if change.detects_again:
                say(said_of(ledger, row, change))
            else:
                say(f"{row.name}: thresholds, colours or the caption change; no image runs again")
            if change.images and not yes:
                click.confirm("Change the labels and run them again?", abort=True)
        self._write(text)
        store_labels(self._services, self._project)
        bring_into_force(self._services, self._project)

    def rename(self, pairs: Sequence[tuple[str, str]], yes: bool) -> None:
        """Rename labels, in Label Studio and in the ledger too."""
        from boxdrop.cli.new import labels_yaml
        from boxdrop.pipeline.renaming import rename_labels, renamed

        text = labels_yaml(renamed(LabelSet.from_yaml(self.text, self.where), dict(pairs)), None)
        ledger = self._services.ledger
        row = ledger.project(self._project)
        if row is not None and row.label_studio_id is not None:
            if not yes:
                told = ", ".join(f"{old} to {new}" for old, new in pairs)
                click.confirm(f"Rename {told}, in what people have verified, too?", abort=True)
            boxes = rename_labels(ledger, log_in(None, self._system.name), self._project, dict(pairs))
            say(f"{boxes:,} box{'' if boxes == 1 else 'es'} of people renamed in Label Studio")
        self.put(text, yes)

    def _known(self) -> LabelSet | None:
        try:
            return LabelSet.from_yaml(self.text, self.where)
        except LabelSetError:
            return None

    def _write(self, text: str) -> None:
        from boxdrop.aws.s3 import Put

        body = text.encode()
        if self._stored is None:
            put = self._images.create(self._key, body, "application/yaml")
        else:
            put = self._images.replace(self._key, body, self._stored.etag, "application/yaml")
        if put != Put.STORED:
            raise BoxdropError(f"{self.where} was changed meanwhile; look at it and try again")


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = (part.strip() for part in text.partition("="))
    if not (old and equals and new):
        raise BoxdropError(f"--rename {text!r}: write OLD=NEW, for example apple=apfel")
    return old, new
