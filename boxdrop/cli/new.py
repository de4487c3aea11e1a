"""``boxdrop new``: a project begins with its labels.yaml."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.errors import BoxdropError
from boxdrop.labels import LabelSet

if TYPE_CHECKING:
    from boxdrop.objects import Bucket


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--labels", required=True, help="What to look for: 'pineapple, banana', or a labels.yaml.")
@click.option("--caption", help="What the images are about: 'fruit baskets'. Default: what labels.yaml says.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that will hold its images. Default: one of the project's name, here.",
)
@system_option
def new(project: str, labels: str, caption: str | None, folder: Path | None, system: str | None) -> None:
    """Make PROJECT: its labels.yaml, in a folder here and in the image bucket.

    Then put images into that folder and run `boxdrop drop FOLDER PROJECT`, or copy them into the bucket by
    other means: s3://BUCKET/PROJECT/.
    """
    check_project(project)
    label_set = LabelSet.load(labels)
    text = labels_yaml(label_set, caption)
    chosen = open_system(system)
    path = (folder or Path(project)) / "labels.yaml"
    store_labels(chosen.image_bucket, project, text)
    write_file(path, text)
    click.echo(f"{project}: {', '.join(label_set.names)}")
    click.echo(f"  labels  {path}, and s3://{chosen.image_bucket}/{project}/labels.yaml")
    click.echo(f"  next    put images into {path.parent}/ and run: boxdrop drop {path.parent} {project}")


def check_project(name: str) -> None:
    """Refuse a name that cannot be a folder of the bucket.

    Raises:
        BoxdropError: with the way out.
    """
    parts = name.split("/")
    if not all(parts) or any(part in (".", "..") or "#" in part for part in parts) or name != name.strip():
        raise BoxdropError(
            f"{name!r} cannot be a project's name: give a folder of the bucket, without slashes around it "
            "and without '#', for example fruit-baskets"
        )


def labels_yaml(label_set: LabelSet, caption: str | None) -> str:
    """A labels.yaml as a person would write it: what boxdrop can work out is left out.

    Raises:
        LabelSetError: the caption cannot be one.
    """
    import yaml

    document: dict[str, object] = {}
    about = caption or label_set.caption
    if about:
        document["caption"] = about
    if label_set.detector is not None:
        document["detector"] = label_set.detector
    labels: list[object] = []
    for label in label_set:
        entry: dict[str, object] = {"name": label.name}
        if label.prompts != (label.name,):
            entry["prompts"] = list(label.prompts)
        if label.threshold is not None:
            entry["threshold"] = label.threshold
        labels.append(label.name if len(entry) == 1 else entry)
    document["labels"] = labels
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    LabelSet.from_yaml(text)
    return text


def store_labels(bucket_name: str, project: str, text: str) -> None:
    """Put a labels.yaml into the bucket, if there is none.

    Raises:
        BoxdropError: there is another one; with the way out.
    """
    from boxdrop.objects import Bucket, Put

    bucket = Bucket(bucket_name)
    key = f"{project}/labels.yaml"
    if bucket.create(key, text.encode(), "application/yaml") == Put.STORED:
        return
    if not same_labels(bucket, key, text):
        raise BoxdropError(
            f"the project {project} is there already, with other labels: change s3://{bucket_name}/{key} "
            f"instead; `boxdrop apply {project}` says what that would run again"
        )


def same_labels(bucket: "Bucket", key: str, text: str) -> bool:
    """Whether the bucket's labels.yaml says the same, however it is written."""
    from boxdrop.errors import LabelSetError

    stored = bucket.get(key)
    try:
        return stored is not None and LabelSet.from_yaml(stored.body.decode()) == LabelSet.from_yaml(text)
    except (LabelSetError, UnicodeDecodeError):
        return False


def write_file(path: Path, text: str) -> None:
    """Write a labels.yaml, unless one with these labels is there.

    Raises:
        BoxdropError: another one is there, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if LabelSet.from_file(path) != LabelSet.from_yaml(text):
            raise BoxdropError(
                f"{path} is there already, with other labels; remove it, or give another --dir"
            ) from None
    except OSError as error:
        raise BoxdropError(f"{path} cannot be written: {error.strerror}") from None
