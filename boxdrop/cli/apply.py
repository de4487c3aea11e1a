"""``boxdrop apply``: bring a project's labels into force, after saying what they run again."""

from shlex import quote
from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.ledger import Ledger, Project
    from boxdrop.pipeline.labels import Change
    from boxdrop.services import Services
    from boxdrop.system import System


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--labels", help="Put these first: a labels.yaml, or 'pineapple, banana, apple'.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@system_option
def apply(project: str, labels: str | None, yes: bool, system: str | None) -> None:
    """Show what the labels of PROJECT run again, and after a yes bring them into force.

    Other prompts, another detector or other tiling run every image again that nobody has verified.
    Thresholds, colours and the caption only publish the boxes that are stored anew. Verified work stays.

    The labels are those of labels.yaml in the bucket; --labels replaces it, once you have said yes.
    """
    chosen = open_system(system)
    if labels is not None:
        from boxdrop.cli.labels import LabelsFile, text_of

        LabelsFile(chosen, project).put(text_of(labels), yes)
        return
    apply_stored(chosen, project, yes)


def apply_stored(chosen: "System", project: str, yes: bool) -> None:
    """Bring the labels.yaml of the bucket into force, after a question if images run again."""
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
    """Apply the stored labels of a project, and let them reach its images and stored boxes."""
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
    if spread.again_s is not None:  # the ledger's index lags: launch checks once more
        ask_for_launch(launches, [project], spread.again_s)
    done = [f"{counted(wanted, 'image runs', 'images run')} again"] if wanted else []
    done += [f"{counted(parts, 'part')} of stored boxes published anew"] if parts else []
    say(f"In force. {'; '.join(done) or 'Nothing runs again'}. Progress: boxdrop status {quote(project)}")


def said_of(ledger: "Ledger", row: "Project", change: "Change") -> str:
    """What a change would do, in a sentence or two."""
    from datetime import UTC, datetime

    from boxdrop.cli.status import span
    from boxdrop.ledger import State
    from boxdrop.pipeline.progress import expected_wait, look

    if change.is_first:
        return f"{row.name}: its first labels: {', '.join(change.label_set.names)}"
    if not change.detects_again:
        if row.labels == row.stored_labels:
            return f"{row.name}: these labels are in force already; {look(ledger, row).stage}"
        return f"{row.name}: thresholds, colours or the caption changed; no image runs again"
    verified = ledger.count_images(row.name, (State.VERIFIED,))[State.VERIFIED]
    wait = expected_wait(ledger.list_runs(row.name), change.images, 0, 0, datetime.now(UTC))
    lasting = f", about {span(wait)} of the detector's time" if wait is not None else ""
    return (
        f"{row.name}: prompts, tiling or the detector changed: "
        f"{counted(change.images, 'image runs', 'images run')} again{lasting}; "
        f"{counted(verified, 'verified one stays as it is', 'verified ones stay as they are')}"
    )
