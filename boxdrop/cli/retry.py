"""``boxdrop retry``: try failed images and messages again."""

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option(
    "--reason", help="Only images that failed for this reason, as shown by `boxdrop status --failures`."
)
@system_option
def retry(project: str, reason: str | None, system: str | None) -> None:
    """Retry the failed images of PROJECT, and all dead letters.

    Dead letters are messages that failed too often; those of all projects return to their queues. Boxes that
    could not be published to Label Studio are sent again.
    """
    from boxdrop.aws.s3 import Bucket
    from boxdrop.aws.sqs import Queue
    from boxdrop.cli.console import Console
    from boxdrop.cli.status import choose_projects
    from boxdrop.ledger import Ledger
    from boxdrop.pipeline.dispatch import ask_for_launch
    from boxdrop.pipeline.retry import resend_parts, retry_dead_letters, retry_failed

    chosen = open_system(system)
    ledger = Ledger(chosen.table)
    (row,) = choose_projects(ledger, project)
    with Console(stderr=True).working(f"Retrying the failed images of {project}") as spinner:
        wanted = retry_failed(
            ledger, project, reason, lambda so_far: spinner.update(f"{counted(so_far, 'image')} so far")
        )
    if wanted:
        ask_for_launch(Queue(chosen.queue("launches")), [project])
    say(f"{counted(wanted, 'failed image is', 'failed images are')} wanted again")
    if row.publish_problem is not None:
        sent = resend_parts(Bucket(chosen.data_bucket), Queue(chosen.queue("parts")), row)
        say(f"{counted(sent, 'part')} of stored boxes sent to Label Studio again")
    for name, count in retry_dead_letters(chosen.queues).items():
        say(f"{counted(count, 'dead letter is', 'dead letters are')} back in the queue {name}")
