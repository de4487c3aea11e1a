"""``boxdrop retry``: once more, what failed."""

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import say


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--reason", help="Only images that failed for this reason; `boxdrop status --failures` tells.")
@system_option
def retry(project: str, reason: str | None, system: str | None) -> None:
    """Try the failed images of PROJECT again, and every message that was given up.

    Messages that could not be handled many times (dead letters) go back into their queues, whichever project
    they are about.
    """
    from boxdrop.aws.sqs import Queue
    from boxdrop.cli.status import choose_projects
    from boxdrop.ledger import Ledger
    from boxdrop.pipeline.dispatch import ask_for_launch
    from boxdrop.pipeline.retry import retry_dead_letters, retry_failed

    chosen = open_system(system)
    ledger = Ledger(chosen.table)
    choose_projects(ledger, project)
    wanted = retry_failed(ledger, project, reason)
    if wanted:
        ask_for_launch(Queue(chosen.queue("launches")), [project])
    say(f"{wanted:,} failed images are wanted again")
    for name, count in retry_dead_letters(chosen.queues).items():
        say(f"{count:,} dead letters are back in the queue {name}")
