"""``boxdrop sync``: reconcile a project with Label Studio."""

from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import (
    bucket_option,
    log_in,
    open_data_bucket,
    open_ledger,
    system_option,
    table_option,
)

if TYPE_CHECKING:
    from boxdrop.pipeline.sync import SyncSummary

_WAIT_S = 300


@click.command(no_args_is_help=True)
@click.argument("project")
@system_option
@table_option
@bucket_option
@click.option(
    "--label-studio",
    "url",
    metavar="URL",
    envvar="LABEL_STUDIO_URL",
    help="Which Label Studio; 'local' is the one that `boxdrop local up` started. "
    "Default: $LABEL_STUDIO_URL.",
)
def sync(
    project: str, system: str | None, table: str | None, data_bucket: str | None, url: str | None
) -> None:
    """Compare PROJECT with Label Studio, and set right what webhooks or broken connections lost.

    Every task is looked at: what people verified, changed or took back is collected, second tasks of one
    image are removed, deleted tasks are made again, and images that were overwritten or deleted are marked.
    It is safe at any time, and changes nothing where both agree.
    """
    from boxdrop.cli.console import Console
    from boxdrop.pipeline.sync import sync_project
    from boxdrop.services import Services

    console = Console(stderr=True)
    services = Services.of(
        ledger=open_ledger(table, system),
        data=open_data_bucket(data_bucket, system),
        label_studio=log_in(url, system),
    )
    with console.working(f"Comparing {project}") as spinner:
        summary = sync_project(
            services,
            project,
            wait_s=_WAIT_S,
            on_progress=lambda so_far: spinner.update(f"Comparing {project}: {so_far.tasks:,} tasks"),
        )
    for fault in summary.faults:
        console.print(f"{project}: {fault}", style="yellow")
    console.print(f"{summary.tasks:,} tasks: {_said(summary)}")


def _said(summary: "SyncSummary") -> str:
    found = {
        "with news of people's work": summary.collected,
        "not recorded until now": summary.recorded,
        "deleted in Label Studio, wanted again": summary.lost,
        "second ones of an image, removed": summary.removed_twins,
        "with other boxes than recorded, which are published again": summary.foreign,
        "whose column state was out of date": summary.marked,
        "of images that the ledger does not know": summary.unknown,
    }
    return "; ".join(f"{count:,} {what}" for what, count in found.items() if count) or (
        "look at the notes above" if summary.faults else "all as recorded"
    )
