"""``boxdrop apply``: what a changed labels.yaml runs again; then it does it."""

from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import say
from boxdrop.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.ledger import Ledger, Project
    from boxdrop.pipeline.labels import Change


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@system_option
def apply(project: str, yes: bool, system: str | None) -> None:
    """Say what the labels.yaml of PROJECT, as it is now, runs again; then do it.

    Other prompts, another detector or other tiling run every image again that nobody has verified.
    Thresholds, colours and the caption only publish anew what the detector found before. What people verified
    stays.
    """
    from boxdrop.pipeline.dispatch import ask_for_launch
    from boxdrop.pipeline.labels import (
        Applied,
        Stored,
        apply_labels,
        look_at_change,
        spread_labels,
        store_labels,
    )
    from boxdrop.services import Services

    chosen = open_system(system)
    services = Services.of_system(chosen)
    ledger, images, launches = services.ledger, services.images, services.launches
    stored = store_labels(services, project)
    row = ledger.project(project)
    if stored == Stored.MISSING and (row is None or row.stored_labels is None):
        raise BoxdropError(f"there is no s3://{images.name}/{project}/labels.yaml; `boxdrop new` makes one")
    assert row is not None
    if stored == Stored.REFUSED:
        raise BoxdropError(row.labels_error or "its labels.yaml cannot be used")
    change = look_at_change(services, row, recount=True)
    assert change is not None
    say(_said(ledger, row, change))
    if change.images and not yes:
        click.confirm(f"Run {change.images:,} images again?", abort=True)
    if apply_labels(services, project, limit=None) == Applied.REFUSED:
        now = ledger.project(project)
        raise BoxdropError((now and now.labels_error) or "its labels.yaml cannot be used")
    wanted = parts = 0
    while True:
        spread = spread_labels(services, project)
        wanted, parts = wanted + spread.wanted, parts + spread.parts
        if spread.again_s != 0:
            break
        ask_for_launch(launches, [project])
        say(f"{wanted:,} images are wanted again so far", err=True)
    ask_for_launch(launches, [project])
    if spread.again_s is not None:  # the ledger's index lags: launch looks once more
        ask_for_launch(launches, [project], spread.again_s)
    say(
        f"In force. {wanted:,} images are wanted again; {parts:,} parts of stored predictions are published "
        f"anew. How far they are: boxdrop status {project}"
    )


def _said(ledger: "Ledger", row: "Project", change: "Change") -> str:
    from datetime import UTC, datetime

    from boxdrop.cli.status import span
    from boxdrop.ledger import State
    from boxdrop.pipeline.progress import expected_wait

    if change.is_first:
        return f"{row.name}: its first labels: {', '.join(change.label_set.names)}"
    if not change.detects_again:
        if row.labels == row.stored_labels:
            return f"{row.name}: its labels.yaml is in force already"
        return f"{row.name}: thresholds, colours or the caption changed; no image runs again"
    verified = ledger.count_images(row.name, (State.VERIFIED,))[State.VERIFIED]
    wait = expected_wait(ledger.list_runs(row.name), change.images, 0, 0, datetime.now(UTC))
    lasting = f", about {span(wait)} of the detector's time" if wait is not None else ""
    return (
        f"{row.name}: prompts, tiling or the detector changed: {change.images:,} images run again{lasting}; "
        f"{verified:,} verified ones stay as they are"
    )
