"""``boxdrop track``: runs in ZenML."""

import shlex
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from boxdrop.cli.numbers import Whole
from boxdrop.cli.system import (
    bucket_option,
    open_data_bucket,
    open_ledger,
    open_system,
    system_option,
    table_option,
)
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.tracking.track import SyncSummary


@click.group(no_args_is_help=True)
def track() -> None:
    """Register finished runs in ZenML, and view them there.

    The ZenML server is $ZENML_STORE_URL, with the API key of a service account in $ZENML_STORE_API_KEY (or in
    the secret that $BOXDROP_ZENML_SECRET names). Without it, the store on this machine is used, in
    $BOXDROP_HOME/zenml.
    """


@track.command()
@system_option
@bucket_option
@table_option
@click.option("--days", type=Whole(1, 36_500), help="Skip older runs. Default: none.")
@click.option(
    "--no-thumbnails", is_flag=True, help="Draw sample boxes on empty frames instead of the images."
)
def sync(
    system: str | None, data_bucket: str | None, table: str | None, days: int | None, no_thumbnails: bool
) -> None:
    """Register finished runs and trainings that ZenML lacks.

    Use it the first time, and after ZenML was down.

    It is safe at any time, even concurrently: each run is registered once.
    """
    from boxdrop.aws.s3 import Bucket
    from boxdrop.cli.console import Console
    from boxdrop.tracking.register import connect
    from boxdrop.tracking.store import configured_store
    from boxdrop.tracking.track import Tracking
    from boxdrop.tracking.trainings import track_trainings

    console = Console(stderr=True)
    bucket = open_data_bucket(data_bucket, system)
    ledger = open_ledger(table, system) if table or not data_bucket else None
    store = configured_store()
    with console.working("Connecting to ZenML") as spinner:
        tracker = connect(store, bucket.name)
        tracking = Tracking(tracker, bucket, ledger, None if no_thumbnails else Bucket)
        summary = tracking.sync(
            since=datetime.now(UTC) - timedelta(days=days) if days else None,
            on_progress=lambda run_id: spinner.update(f"Registering run {run_id}"),
        )
        trained = track_trainings(tracker, bucket, lambda name: spinner.update(f"Registering {name}"))
    for run_id, reason in (summary.failed or {}).items():
        console.print(f"{run_id}: {reason}", style="red")
    console.print(_said(summary))
    if trained:
        console.print(f"Trainings: {len(trained):,} registered")
    if summary.failed:
        raise click.exceptions.Exit(1)


@track.command()
@click.argument("project")
@system_option
def review(project: str, system: str | None) -> None:
    """Add what people changed to the runs of PROJECT in ZenML.

    Each run gets the figures of `boxdrop report` for its own images, as metadata whose names begin with
    review_. Run it again as verified work grows; only what changed is written.
    """
    from boxdrop.cli.console import Console
    from boxdrop.review.reviewed import read_reviewed
    from boxdrop.review.runs import count_by_run, metadata_of
    from boxdrop.services import Services
    from boxdrop.tracking.register import connect
    from boxdrop.tracking.store import configured_store

    services = Services.of_system(open_system(system))
    if services.ledger.project(project) is None:
        raise BoxdropError(f"there is no project {project}; `boxdrop status` lists the projects")
    with Console(stderr=True).working(f"Reading what people verified in {project}"):
        runs = count_by_run(read_reviewed(services, project))
        tracker = connect(configured_store(), services.data.name)
        changed = sum(tracker.note(run_id, metadata_of(each)) for run_id, each in runs.items())
    say(f"{project}: {counted(len(runs), 'run')} with verified images, {changed:,} with new figures in ZenML")


@track.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Default: 8237, or the next free one.")
@click.option("--no-browser", is_flag=True, help="Only print the dashboard's address.")
def dashboard(port: int | None, no_browser: bool) -> None:
    """Open ZenML's dashboard.

    It is the server's, or one for the store on this machine that runs until Ctrl-C or SIGTERM.

    The first start also installs the server: half a minute, 170 MB.
    """
    from boxdrop.extras import require
    from boxdrop.servers.server import terminated_in_order
    from boxdrop.tracking.server import ZenMLServer, skip_survey
    from boxdrop.tracking.store import configured_store

    require("zenml")
    store = configured_store()
    if store.is_server:
        _open(store.url, no_browser)
        return
    try:
        with terminated_in_order(), ZenMLServer().running(port, lambda text: say(text, err=True)) as url:
            skip_survey(url)
            _open(url, no_browser)
            say("Press Ctrl-C to stop it.", err=True)
            while True:
                time.sleep(1)
    except (KeyboardInterrupt, SystemExit) as ended:
        say("ZenML's dashboard is stopped; the runs stay.", err=True)
        if isinstance(ended, SystemExit):
            raise


@track.command()
def env() -> None:
    """Print the environment variables for ZenML's own client.

    With them, `zenml` and its client reach boxdrop's store.

    \b
      eval "$(boxdrop track env)"
      zenml pipeline runs list

    An API key is not printed: set ZENML_STORE_API_KEY yourself if the server wants one.
    """
    from boxdrop.tracking.store import client_variables, configured_store

    for name, value in client_variables(configured_store()).items():
        say(f"export {name}={shlex.quote(value)}")


def _open(url: str, no_browser: bool) -> None:
    say(f"ZenML's dashboard is at {url}")
    if not no_browser:
        click.launch(url)


def _said(summary: "SyncSummary") -> str:
    found = {
        "registered": len(summary.registered),
        "already there": len(summary.present),
        "not finished": summary.unfinished,
        "wait for their tasks in Label Studio": len(summary.unpublished),
        "failed": len(summary.failed or ()),
    }
    said = "; ".join(f"{count:,} {what}" for what, count in found.items() if count)
    return f"Runs: {said}" if said else "ZenML has all runs"
