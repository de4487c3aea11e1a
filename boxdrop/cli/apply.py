"""``boxdrop apply``: bring a project's labels into force, after saying what they run again."""

import click

from boxdrop.cli.system import open_system, system_option


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
    from boxdrop.cli.labels_file import LabelsFile, apply_stored, text_of

    chosen = open_system(system)
    if labels is not None:
        LabelsFile(chosen, project).put(text_of(labels), yes)
        return
    apply_stored(chosen, project, yes)
