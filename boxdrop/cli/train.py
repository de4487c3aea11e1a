"""``boxdrop train``: a detector of one's own from a frozen data set."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from boxdrop.cli.account import at_most_option, cancel_order, in_account_option, place_order
from boxdrop.cli.numbers import Finite, Whole
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.detector_names import pinned_name
from boxdrop.domain.errors import BoxdropError
from boxdrop.training.plan import DEFAULT_START, DRAWN, RATE, SMALL, STARTS, usual_rate

if TYPE_CHECKING:
    from boxdrop.services import Services
    from boxdrop.training.figures import SplitFigures
    from boxdrop.training.folder import TrainingFolder
    from boxdrop.training.plan import Plan
    from boxdrop.training.run import Result


_AT_MOST = "4h"


@click.command(no_args_is_help=True)
@click.argument("project")
@click.argument("dataset", required=False)
@click.option("--name", help="The new detector's name. Default: PROJECT-DATASET.")
@click.option(
    "--from",
    "start",
    default=DEFAULT_START,
    show_default=True,
    metavar="DETECTOR",
    help=f"What it starts from: {', '.join(STARTS)} (trained on photographs, COCO; downloaded), "
    f"{DRAWN} (small, trained on drawings; comes with boxdrop), a hub id, a folder that save_pretrained() "
    f"wrote, or {SMALL}: random weights.",
)
@click.option("--side", type=Whole(64), metavar="PIXELS", help="It sees images in a square of this side.")
@click.option("--epochs", type=Whole(1), default=60, show_default=True, help="At most.")
@click.option(
    "--patience",
    type=Whole(1),
    default=15,
    show_default=True,
    metavar="EPOCHS",
    help="End after so many epochs without a better AP on the validation images.",
)
@click.option("--batch", type=Whole(1), default=8, show_default=True, help="Images per step.")
@click.option(
    "--rate",
    type=Finite(0, 1, min_open=True),
    help=f"Learning rate. Default: {RATE:g}, and {usual_rate(SMALL):g} for {DRAWN} and {SMALL}.",
)
@click.option("--seed", type=Whole(0), default=0, show_default=True)
@click.option("--no-mirror", is_flag=True, help="Left and right matter: never mirror an image.")
@click.option(
    "--mosaic",
    type=Finite(0, 1),
    default=0.5,
    show_default=True,
    metavar="SHARE",
    help="How often four images are put together.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=Whole(1), help="CPU threads. Default: all cores.")
@click.option(
    "--checkpoint-every", type=Finite(1), default=120.0, show_default=True, metavar="SECONDS", hidden=True
)
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="Default: in boxdrop's home."
)
@click.option(
    "--checkpoints",
    type=click.Choice(["here", "bucket"]),
    default="here",
    show_default=True,
    help="bucket: copy each checkpoint to the data bucket, too; another machine goes on from there.",
)
@click.option("--no-push", is_flag=True, help="Leave the bundle in the folder; do not upload it.")
@in_account_option
@at_most_option(_AT_MOST)
@click.option("--cancel", is_flag=True, help="End the training in the account; its last checkpoint stays.")
@click.option("--yes", "-y", is_flag=True, help="With --in-account: do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@system_option
def train(project: str, dataset: str | None, system: str | None, as_json: bool, **options: Any) -> None:
    """Train a detector on verified images: on the frozen data set DATASET of PROJECT, by default the newest.

    It learns from the split `train`. The split `val` decides when it ends, and `test` measures it. The
    result is a bundle with its card in the data bucket; nothing uses it until you say so.

    Interrupted at any time, the same command goes on from the last checkpoint.

    With --in-account it trains on a GPU in your AWS account, and nothing is installed here. `boxdrop status`
    shows how far it is. The same command starts no second training.

    \b
      boxdrop dataset freeze fruit v1 --split train=70,val=15,test=15
      boxdrop train fruit v1 --name mine
      boxdrop compare fruit now mine
      boxdrop bundle use mine --in fruit --canary 20%
    """
    from boxdrop.home import home
    from boxdrop.services import Services
    from boxdrop.store.bundles import push
    from boxdrop.training.checkpoints import restore_checkpoint, save_checkpoint
    from boxdrop.training.folder import TrainingFolder
    from boxdrop.training.follower import Follower
    from boxdrop.training.run import place_of, run

    found = open_system(system)
    services = Services.of_system(found)
    if options["cancel"]:
        name = _name(services, project, dataset, options["name"])
        cancel_order(found, services, "train", project, name)
        return
    plan = _plan(services, project, dataset, options)
    if options["in_account"]:
        _check_for_account(plan, options)
        arguments = order_arguments(plan, push=not options["no_push"])
        place_order(
            found,
            services,
            "train",
            project,
            plan.name,
            arguments,
            options["at_most"] or _AT_MOST,
            options["yes"],
            as_json,
        )
        return
    if options["at_most"] is not None:
        raise BoxdropError("--at-most goes with --in-account")
    folder = TrainingFolder(options["folder"] or place_of(home(), project, plan.name))
    left_out = _prepare(services, folder, plan)
    if left_out:
        say(f"  {counted(left_out, 'image')} left out: cannot be read any more", err=True)
    copied = options["checkpoints"] == "bucket"
    if copied and restore_checkpoint(folder, services.data):
        say("The last checkpoint came from the data bucket.", err=True)
    follower = Follower(services.data, folder, services.clock)

    def save() -> None:
        if copied:
            save_checkpoint(folder, services.data)

    ref = None
    with follower:
        result = run(folder, follower.hear(lambda line: say(line, err=True)), save)
        if not options["no_push"]:
            ref = push(services.data, result.bundle.path)
        follower.finish(result, pushed=ref is not None)
    if as_json:
        say(json.dumps(_fields(plan, folder, result, pushed=ref is not None)))
        return
    for each in result.figures:
        _say_figures(each)
    say(f"Bundle and card: {result.bundle.path}")
    if ref is not None:
        pinned = pinned_name(ref.name, ref.digest)
        say(f"{pinned} is in the data bucket. Compare it with what {project} uses now:")
        say(f"  boxdrop compare {quote(project)} now {quote(ref.name)}")


def order_arguments(plan: "Plan", *, push: bool) -> list[str]:
    """The command line by which a job in the account trains as planned."""
    values: dict[str, Any] = {
        "--name": plan.name,
        "--from": plan.start,
        "--side": plan.side,
        "--epochs": plan.epochs,
        "--patience": plan.patience,
        "--batch": plan.batch,
        "--rate": plan.rate,
        "--seed": plan.seed,
        "--mosaic": plan.mosaic,
        # A machine without a GPU is an error there, not a night on a CPU.
        "--device": "cuda" if plan.device == "auto" else plan.device,
        "--threads": plan.threads,
        "--checkpoint-every": plan.save_every_s,
        "--checkpoints": "bucket",
    }
    options = [str(each) for name, value in values.items() if value is not None for each in (name, value)]
    flags = {"--no-mirror": not plan.mirror, "--no-push": not push}
    return ["train", *options, *(name for name, on in flags.items() if on), "--", plan.project, plan.dataset]


def _check_for_account(plan: "Plan", options: dict[str, Any]) -> None:
    """Refuse what only this machine has."""
    if options["folder"] is not None:
        raise BoxdropError("--folder is a folder of this machine: leave it out with --in-account")
    if Path(plan.start).is_absolute():
        raise BoxdropError(
            f"--from {plan.start} is a folder of this machine; in the account, give a name or a hub id"
        )


def _newest(services: "Services", project: str) -> str:
    from boxdrop.datasets.frozen import frozen_datasets

    found = frozen_datasets(services.data, project)
    if not found:
        raise BoxdropError(
            f"{project} has no frozen data set; make one with: "
            f"boxdrop dataset freeze {quote(project)} v1 --split train=70,val=15,test=15"
        )
    return found[-1].name


def _name(services: "Services", project: str, dataset: str | None, given: str | None) -> str:
    """The name of the detector."""
    from boxdrop.detect.bundle import is_valid_name

    dataset = dataset or _newest(services, project)
    name = given or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{project}-{dataset}").strip("-._")[:80]
    if not is_valid_name(name):
        raise BoxdropError(f"--name {name!r}: use letters, digits, dots and dashes")
    return name


def _plan(services: "Services", project: str, dataset: str | None, options: dict[str, Any]) -> "Plan":
    from boxdrop.datasets.frozen import open_frozen
    from boxdrop.training.filling import classes_in
    from boxdrop.training.plan import Plan

    dataset = dataset or _newest(services, project)
    frozen = open_frozen(services.data, project, dataset)
    name = _name(services, project, dataset, options["name"])
    start = options["start"]
    if Path(start).is_dir():
        start = str(Path(start).absolute())
    try:
        return Plan(
            name=name,
            project=project,
            dataset=dataset,
            digest=frozen.header.digest,
            start=start,
            classes=classes_in(frozen),
            side=options["side"],
            epochs=options["epochs"],
            patience=options["patience"],
            batch=options["batch"],
            rate=options["rate"] or usual_rate(start),
            seed=options["seed"],
            mirror=not options["no_mirror"],
            mosaic=options["mosaic"],
            device=options["device"],
            threads=options["threads"],
            save_every_s=options["checkpoint_every"],
        )
    except ValueError as error:
        raise BoxdropError(f"--{error}") from None


def _prepare(services: "Services", folder: "TrainingFolder", plan: "Plan") -> int:
    """Plan and fill the folder, or find that a training with this plan began there; returns lost images."""
    from boxdrop.cli.console import Console
    from boxdrop.datasets.frozen import open_frozen
    from boxdrop.training.filling import fill
    from boxdrop.training.folder import same_training

    if folder.is_planned and (other := same_training(folder.plan(), plan)):
        raise BoxdropError(
            f"{folder.path} holds a training with another {', '.join(other)}: give the same options to go "
            "on, or another --name for a new one"
        )
    folder.write_plan(plan)
    frozen = open_frozen(services.data, plan.project, plan.dataset)
    with Console(stderr=True).working("Copying images") as working:

        def show(done: int) -> None:
            working.update(f"Copying images: {done:,} of {frozen.header.images:,}")

        lost = fill(folder, frozen, plan.classes, {services.images.name: services.images}, show)
    return len(lost)


def _say_figures(each: "SplitFigures") -> None:
    if each.ap50 is None:
        say(f"{each.split}: no images with boxes")
        return
    say(
        f"{each.split}: {counted(each.images, 'image')}, AP50 {each.ap50:.3f}, AP {each.ap:.3f}, precision "
        f"{each.precision:.3f}, recall {each.recall:.3f}"
    )
    for label in each.labels:
        if label.ap50 is not None:
            boxes = counted(label.boxes, "box", "boxes")
            say(f"  {label.name}: AP50 {label.ap50:.3f}, AP {label.ap:.3f} ({boxes})")


def _fields(plan: "Plan", folder: "TrainingFolder", result: "Result", *, pushed: bool) -> dict[str, Any]:
    ended = folder.ended()
    return {
        "name": plan.name,
        "project": plan.project,
        "dataset": {"name": plan.dataset, "digest": plan.digest},
        "bundle": {
            "path": str(result.bundle.path),
            "digest": result.bundle.digest,
            "threshold": result.bundle.defaults.threshold,
            "pushed": pushed,
        },
        "ended": None if ended is None else asdict(ended),
        "epochs": [asdict(each) for each in folder.epochs()],
        "figures": {each.split: asdict(each) for each in result.figures},
    }
