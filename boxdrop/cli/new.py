"""``boxdrop new``: create a project's labels.yaml."""

import shlex
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxdrop.cli.numbers import Whole
from boxdrop.cli.retrieve import Wishes, project_destination, report, retrieve_into, where_options
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import say
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.labels import LabelSet

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.retrieve.destinations import Destination


@click.command(no_args_is_help=True)
@click.argument("project")
@click.option("--labels", required=True, help="What to detect: 'pineapple, banana', or a labels.yaml.")
@click.option("--caption", help="What the images show: 'fruit baskets'. Default: the caption in labels.yaml.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for its images. Default: one with the project's name, here.",
)
@click.option(
    "--detector",
    metavar="NAME",
    help="The project's detector: a known one (see: boxdrop detectors), one in the data bucket, or a "
    "bundle's folder; or two with a + between them. What the data bucket lacks is got and uploaded. Default: "
    "the one in labels.yaml, or the system's.",
)
@click.option(
    "--retrieve",
    "wanted",
    type=Whole(),
    metavar="N",
    help="Retrieve N images that match the caption straight into the bucket; --from and the options below "
    "select the collection. `boxdrop retrieve --project` has more options.",
)
@system_option
@where_options
def new(
    wishes: Wishes,
    project: str,
    labels: str,
    caption: str | None,
    folder: Path | None,
    detector: str | None,
    wanted: int | None,
    system: str | None,
) -> None:
    """Create PROJECT: its labels.yaml, in a folder here and in the image bucket.

    \b
      boxdrop new fruit --labels "pineapple, banana, apple"
      boxdrop new fruit --labels "banana, apple" --caption "fruit" --retrieve 200
      boxdrop new pets --labels "dog, cat" --detector nanodet-coco

    Then put images into that folder and run `boxdrop drop FOLDER PROJECT`, or copy them to
    s3://BUCKET/PROJECT/ with any other tool. With --retrieve there is nothing else to do; after an
    interruption, the same command resumes.
    """
    from boxdrop.domain.label_file import clean_caption

    check_project(project)
    caption = clean_caption(caption) if caption else None
    about = caption or LabelSet.load(labels).caption
    if wanted is not None and not about:
        raise BoxdropError("what should the images show? Add --caption to --retrieve")
    label_set = LabelSet.load(labels)
    chosen = open_system(system)
    if detector is not None:
        label_set = replace(label_set, detector=_provided(chosen.data_bucket, detector))
    text = replace(label_set, caption=caption or label_set.caption).to_yaml(brief=True)
    warn_of_labels(chosen.data_bucket, label_set)
    path = (folder or Path(project)) / "labels.yaml"
    store_labels(chosen.image_bucket, project, text)
    write_file(path, text)
    say(f"{project}: {', '.join(label_set.names)}")
    say(f"  labels  {path}, and s3://{chosen.image_bucket}/{project}/labels.yaml")
    if wanted is not None:
        _retrieve(project_destination(chosen.image_bucket, project), about or "", wanted, wishes)
        name = shlex.quote(project)
        say(f"  next    boxdrop status {name} --watch; credits: boxdrop credits {name}")
        return
    where = shlex.quote(str(path.parent))
    say(f"  next    put images into {path.parent}/ and run: boxdrop drop {where} {shlex.quote(project)}")


def _provided(data_bucket: str, detector: str) -> str:
    """The name of a detector that the data bucket has from now on."""
    from boxdrop.aws.s3 import Bucket
    from boxdrop.cli.console import Console
    from boxdrop.cli.provision import provide

    return provide(Bucket(data_bucket), detector, Console(stderr=True)).name


def warn_of_labels(data_bucket: str, label_set: LabelSet) -> None:
    """Warn about labels that the detector cannot find well, before the user waits for boxes.

    Raises:
        LabelSetError: a prompt is too long for the detector.
    """
    from boxdrop.aws.s3 import Bucket
    from boxdrop.domain.errors import BundleError
    from boxdrop.pipeline.findings import doubts

    try:
        said = doubts(Bucket(data_bucket), label_set)
    except BundleError as error:  # images may be uploaded before there is a detector
        said = (str(error),)
    for each in said:
        say(f"note: {each}", err=True)


def _retrieve(destination: "Destination", caption: str, wanted: int, wishes: Wishes) -> None:
    from boxdrop.cli.console import Console

    console = Console(stderr=True)
    try:
        report(console, retrieve_into(destination, caption, wanted, wishes, console), wanted)
    except KeyboardInterrupt:
        console.print("\nStopped. Retrieved images stay: run the same command again to resume.")
        raise SystemExit(130) from None


_LONGEST_NAME = 512


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
    if any(each == "?" or unicodedata.category(each) in ("Cc", "Cs") for each in name):
        raise BoxdropError(
            f"{name!r} cannot be a project's name: with a question mark, a control character or half a "
            "character in it, Label Studio cannot show its images"
        )
    if len(name.encode()) > _LONGEST_NAME:
        raise BoxdropError(
            f"a project's name has at most {_LONGEST_NAME} bytes, not {len(name.encode())}: names of files "
            "follow, and S3's keys have 1,024"
        )
    if any(part.startswith(".") for part in parts[1:]):
        raise BoxdropError(
            f"{name!r} cannot be a project's name: images in a hidden folder (it begins with a dot) are "
            "left out"
        )


def store_labels(bucket_name: str, project: str, text: str) -> None:
    """Upload a labels.yaml, if the project has none.

    Raises:
        BoxdropError: there is another one; with the way out.
    """
    from boxdrop.aws.s3 import Bucket, Put

    bucket = Bucket(bucket_name)
    key = f"{project}/labels.yaml"
    if bucket.create(key, text.encode(), "application/yaml") == Put.STORED:
        return
    if not same_labels(bucket, key, text):
        raise BoxdropError(
            f"the project {project} exists already, with other labels; `boxdrop labels "
            f"{shlex.quote(project)}` shows them, and --edit or --file changes them"
        )


def same_labels(bucket: "Bucket", key: str, text: str) -> bool:
    """Whether the bucket's labels.yaml has the same content, however it is written.

    A caption that only the stored one has makes no difference: the labels are the same.
    """
    from boxdrop.domain.errors import LabelSetError

    stored = bucket.get(key)
    try:
        given = LabelSet.from_yaml(text)
        there = None if stored is None else LabelSet.from_yaml(stored.body.decode())
    except (LabelSetError, UnicodeDecodeError):
        return False
    return there is not None and there == (given if given.caption else replace(given, caption=there.caption))


def write_file(path: Path, text: str) -> None:
    """Write a labels.yaml, unless one with these labels exists.

    Raises:
        BoxdropError: a different one exists, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if LabelSet.from_file(path) != LabelSet.from_yaml(text):
            raise BoxdropError(
                f"{path} already exists with other labels; remove it, or give another --dir"
            ) from None
    except OSError as error:
        raise BoxdropError(f"{path} cannot be written: {error.strerror}") from None
