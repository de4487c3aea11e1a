"""``boxdrop apply``: put a project's labels into force, after showing which images run again."""

import click

from boxdrop.cli.system import open_system, system_option


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--labels", help="Replace the labels first: a labels.yaml, or 'pineapple, banana, apple'.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@system_option
def apply(project: str, labels: str | None, yes: bool, system: str | None) -> None:
    """Show which images the labels of PROJECT run again; after you confirm, put them into force.

    Changed prompts, tiling or another detector run every unverified image again. Changed thresholds, colours
    or captions only publish the stored boxes again. Verified work stays.

    The labels are those of labels.yaml in the bucket; --labels replaces it, after you confirm.
    """
    from boxdrop.cli.labels_file import LabelsFile, apply_stored, text_of

    chosen = open_system(system)
    if labels is not None:
        LabelsFile(chosen, project).put(text_of(labels), yes)
        return
    apply_stored(chosen, project, yes)
