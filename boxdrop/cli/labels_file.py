"""Changes to a project's labels.yaml: show the effect, ask, then put it into force."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from boxdrop.aws.s3 import Put, StoredObject
from boxdrop.cli.system import log_in
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError, LabelSetError
from boxdrop.domain.labels import LabelSet

if TYPE_CHECKING:
    from boxdrop.ledger import Ledger, Project
    from boxdrop.pipeline.labels import Change
    from boxdrop.services import Services
    from boxdrop.system import System


def text_of(labels: str) -> str:
    """The validated text of a labels.yaml, given as a path or in the short form.

    Raises:
        LabelSetError: it cannot be used.
    """

    label_set = LabelSet.load(labels)
    path = Path(labels)
    if path.suffix.lower() in (".yaml", ".yml") or path.is_file():
        return path.read_text(encoding="utf-8-sig")
    return label_set.to_yaml(brief=True)


class LabelsFile:
    """A project's labels.yaml in the image bucket, and the version that was read.

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
                f"{self.where} does not exist; create it: boxdrop labels {quote(self._project)} --file "
                "'pineapple, banana'"
            )
        return self._stored.body.decode("utf-8-sig", "replace")

    def label_set(self) -> LabelSet:
        """What it says, read.

        Raises:
            LabelSetError: it has a mistake.
            BoxdropError: there is none.
        """
        return LabelSet.from_yaml(self.text, self.where)

    def text_with_thresholds(self, wanted: LabelSet) -> str:
        """The text with other thresholds; its comments and layout stay where they can.

        Args:
            wanted: what the file says, but for the thresholds.
        """
        from boxdrop.domain.label_edit import with_thresholds

        changed = {
            label.name: label.threshold
            for label, old in zip(wanted, self.label_set(), strict=True)
            if label.threshold is not None and label.threshold != old.threshold
        }
        if not changed:
            return self.text
        edited = with_thresholds(self.text, changed)
        return wanted.to_yaml(brief=True) if edited is None else edited

    def edit(self, yes: bool) -> None:
        """Open it in an editor until it is valid, then upload it."""
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

    def put(self, text: str, yes: bool, *, from_now: bool = False) -> None:
        """Show which images new labels run again; after a confirmation, upload them and put them into force.

        Args:
            text: the new labels.yaml.
            yes: do not ask.
            from_now: only new images run with them; those that are there keep their boxes.

        Raises:
            LabelSetError, BundleError: they cannot be used.
            BoxdropError: they have changed since they were read.
        """
        from boxdrop.cli.new import warn_of_labels
        from boxdrop.pipeline.labels import change_by, store_labels

        label_set = LabelSet.from_yaml(text)
        ledger = self._services.ledger
        row = ledger.project(self._project)
        if self._stored is not None and LabelSet.from_yaml(text) == self._known():
            say("The project already has these labels.", err=True)
            apply_stored(self._system, self._project, yes)
            return
        warn_of_labels(self._system.data_bucket, label_set)
        if row is not None and row.labels is not None:
            change = change_by(self._services, row, label_set, recount=True)
            if change.detects_again and from_now:
                # Before labels.yaml: whoever then puts it into force spares the images, also after a crash.
                ledger.follow_from_now(row.name, change.detection)
                change = replace(change, images=0)
                say(f"{row.name}: only new images run with it; the others keep the boxes that they have")
            elif change.detects_again:
                say(said_of(ledger, row, change))
            else:
                say(f"{row.name}: thresholds, colours or the caption change; no image runs again")
            if change.images and not yes:
                click.confirm("Change the labels and run them again?", abort=True)
        self._write(text)
        store_labels(self._services, self._project)
        bring_into_force(self._services, self._project)

    def rename(self, pairs: Sequence[tuple[str, str]], yes: bool) -> None:
        """Rename labels, including those in Label Studio and the ledger."""
        from boxdrop.pipeline.renaming import rename_labels, renamed

        text = renamed(LabelSet.from_yaml(self.text, self.where), dict(pairs)).to_yaml(brief=True)
        ledger = self._services.ledger
        row = ledger.project(self._project)
        if row is not None and row.label_studio_id is not None:
            if not yes:
                told = ", ".join(f"{old} to {new}" for old, new in pairs)
                click.confirm(f"Rename {told}, also in verified work?", abort=True)
            boxes = rename_labels(ledger, log_in(None, self._system.name), self._project, dict(pairs))
            say(f"{boxes:,} box{'' if boxes == 1 else 'es'} of people renamed in Label Studio")
        self.put(text, yes)

    def _known(self) -> LabelSet | None:
        try:
            return LabelSet.from_yaml(self.text, self.where)
        except LabelSetError:
            return None

    def _write(self, text: str) -> None:
        body = text.encode()
        if self._stored is None:
            put = self._images.create(self._key, body, "application/yaml")
        else:
            put = self._images.replace(self._key, body, self._stored.etag, "application/yaml")
        if put != Put.STORED:
            raise BoxdropError(f"{self.where} has changed in the meantime; check it and try again")


def apply_stored(chosen: "System", project: str, yes: bool) -> None:
    """Put the bucket's labels.yaml into force; ask first if images run again."""
    from boxdrop.pipeline.labels import Stored, look_at_change, store_labels
    from boxdrop.services import Services

    services = Services.of_system(chosen)
    ledger, images = services.ledger, services.images
    stored = store_labels(services, project)
    row = ledger.project(project)
    if stored == Stored.MISSING and (row is None or row.stored_labels is None):
        raise BoxdropError(f"there is no s3://{images.name}/{project}/labels.yaml; `boxdrop new` makes one")
    assert row is not None
    if stored == Stored.REFUSED:
        raise BoxdropError(row.labels_error or "its labels.yaml cannot be used")
    change = look_at_change(services, row, recount=True)
    assert change is not None
    say(said_of(ledger, row, change))
    if change.images and not yes:
        click.confirm(f"Run {counted(change.images, 'image')} again?", abort=True)
    bring_into_force(services, project)


def bring_into_force(services: "Services", project: str) -> None:
    """Apply the stored labels of a project to its images and stored boxes."""
    from boxdrop.pipeline.dispatch import ask_for_launch
    from boxdrop.pipeline.labels import Applied, apply_labels, spread_labels

    launches = services.launches
    if apply_labels(services, project, limit=None) == Applied.REFUSED:
        now = services.ledger.project(project)
        raise BoxdropError((now and now.labels_error) or "its labels.yaml cannot be used")
    wanted = parts = 0
    while True:
        spread = spread_labels(services, project)
        wanted, parts = wanted + spread.wanted, parts + spread.parts
        if spread.again_s != 0:
            break
        ask_for_launch(launches, [project])
        say(f"{counted(wanted, 'image is', 'images are')} wanted again so far", err=True)
    ask_for_launch(launches, [project])
    if spread.again_s is not None:  # the ledger's index lags: launch checks again
        ask_for_launch(launches, [project], spread.again_s)
    done = [f"{counted(wanted, 'image runs', 'images run')} again"] if wanted else []
    done += [f"{counted(parts, 'part')} of stored boxes published again"] if parts else []
    say(f"In force. {'; '.join(done) or 'Nothing runs again'}. Progress: boxdrop status {quote(project)}")


def said_of(ledger: "Ledger", row: "Project", change: "Change") -> str:
    """The effect of a change, in a sentence or two."""
    from datetime import UTC, datetime

    from boxdrop.cli.status import span
    from boxdrop.ledger import State
    from boxdrop.pipeline.progress import expected_wait, look

    if change.is_first:
        return f"{row.name}: its first labels: {', '.join(change.label_set.names)}"
    if not change.detects_again:
        if row.labels == row.stored_labels:
            return f"{row.name}: these labels are already in force; {look(ledger, row).stage}"
        return f"{row.name}: thresholds, colours or the caption changed; no image runs again"
    verified = ledger.count_images(row.name, (State.VERIFIED,))[State.VERIFIED]
    wait = expected_wait(ledger.list_runs(row.name), change.images, 0, 0, datetime.now(UTC))
    lasting = f", about {span(wait)} of the detector's time" if wait is not None else ""
    return (
        f"{row.name}: prompts, tiling or the detector changed: "
        f"{counted(change.images, 'image runs', 'images run')} again{lasting}; "
        f"{counted(verified, 'verified one stays as it is', 'verified ones stay as they are')}"
    )
