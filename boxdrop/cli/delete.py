"""``boxdrop delete``: delete a project, never its images."""

import click

from boxdrop.cli.system import log_in, open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--verified-too", is_flag=True, help="Also delete verified work.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@system_option
def delete(project: str, verified_too: bool, yes: bool, system: str | None) -> None:
    """Delete PROJECT: its project in Label Studio, its predictions, and what boxdrop knows about its images.

    The images stay in the bucket; to delete them as well, delete them there first. Verified work stays in the
    data bucket (annotations/PROJECT/) unless you choose otherwise. The labels.yaml is deleted, since with it
    the next upload would make the project again.
    """
    from boxdrop.cli.console import Console
    from boxdrop.pipeline.deletion import delete_project, plan_deletion
    from boxdrop.services import Services

    chosen = open_system(system)
    services = Services.of_system(chosen)
    plan = plan_deletion(services, project)
    if plan.live:
        raise BoxdropError(
            f"the run {plan.live[0]} of {project} is not finished; delete the project after it"
        )
    say(f"Deleting {project} removes")
    if plan.label_studio_id is not None:
        say(f"  its project in Label Studio, number {plan.label_studio_id}, with every task")
    what = "predictions, copies for browsers, labels.yaml"
    say(f"  the data of {counted(len(plan.runs), 'run')} ({what}) and {plan.images:,} rows")
    if verified_too:
        say(f"  the verified work of {counted(plan.verified, 'image')}")
    kept = [f"the images in s3://{chosen.image_bucket}/{project}/"]
    if not verified_too:
        kept.append(f"verified work in s3://{chosen.data_bucket}/annotations/{project}/")
    say(f"and keeps {' and '.join(kept)}.")
    if not yes:
        click.confirm("Delete it?", abort=True)
    connected = log_in(None, chosen.name) if plan.label_studio_id is not None else None
    console = Console(stderr=True)
    with console.working("Deleting") as spinner:
        delete_project(
            Services.of_system(chosen, label_studio=connected) if connected else services,
            project,
            verified_too=verified_too,
            on_progress=lambda what: spinner.update(f"Deleting {what}"),
        )
    say(f"{project} is deleted.")
