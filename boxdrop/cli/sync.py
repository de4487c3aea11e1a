"""``boxdrop sync``: reconcile a project with Label Studio."""

import os
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from boxdrop.cli.system import (
    bucket_option,
    describe,
    label_studio_option,
    log_in,
    open_data_bucket,
    open_ledger,
    system_option,
    table_option,
)
from boxdrop.cli.terminal import counted

if TYPE_CHECKING:
    from boxdrop.pipeline.sync import SyncSummary
    from boxdrop.services import Services

_WAIT_S = 300


@click.command(no_args_is_help=True)
@click.argument("project")
@system_option
@table_option
@bucket_option
@label_studio_option
def sync(
    project: str, system: str | None, table: str | None, data_bucket: str | None, url: str | None
) -> None:
    """Compare PROJECT with Label Studio, and repair what webhooks or broken connections lost.

    It checks every task: it collects missed reviews, removes second tasks of an image, makes deleted tasks
    again, and marks overwritten or deleted images. It is safe at any time, and changes nothing if both agree.
    At the end it prints what holds images up.
    """
    from boxdrop.cli.console import Console
    from boxdrop.ledger import Stage
    from boxdrop.pipeline.progress import look
    from boxdrop.pipeline.sync import sync_project
    from boxdrop.review.acceptance import end_acceptance
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
    if not summary.faults and (returned := end_acceptance(services, project, wait_s=_WAIT_S)):
        console.print(
            f"{project}: {counted(returned, 'image')} no longer accepted; "
            f"see boxdrop status {quote(project)}",
            style="yellow",
        )
    _set_up_webhook(services, project, describe(system) if system or os.environ.get("BOXDROP_SYSTEM") else {})
    services.ledger.record_problem(project, Stage.COLLECT, None)  # verified work could be read
    console.print(f"{counted(summary.tasks, 'task')}: {_said(summary)}")
    row = services.ledger.project(project)
    if row is not None:
        for problem in look(services.ledger, row).problems:
            console.print(problem, style="red")


def _set_up_webhook(services: "Services", project: str, described: dict[str, Any]) -> None:
    """Let the project's webhook call the deployment's address, with the secret that is current."""
    from boxdrop.aws.secrets import WEBHOOK_SECRET_ID, Secrets
    from boxdrop.cli.aws import client
    from boxdrop.labelstudio.webhook import ensure_webhook

    row = services.ledger.project(project)
    if row is None or row.label_studio_id is None or not described.get("webhook_url"):
        return
    secrets = Secrets(
        client=client("secretsmanager"), environ={WEBHOOK_SECRET_ID: described["webhook_secret"]}
    )
    ensure_webhook(
        services.label_studio, row.label_studio_id, described["webhook_url"], secrets.webhook().current
    )


def _said(summary: "SyncSummary") -> str:
    found = {
        "with new reviews": summary.collected,
        "not recorded until now": summary.recorded,
        "deleted in Label Studio, wanted again": summary.lost,
        "duplicates of an image, removed": summary.removed_twins,
        "with other boxes than recorded; the recorded ones are published again": summary.foreign,
        "whose column state was out of date": summary.marked,
        "of images that the ledger does not know": summary.unknown,
    }
    return "; ".join(f"{count:,} {what}" for what, count in found.items() if count) or (
        "see the notes above" if summary.faults else "all as recorded"
    )
