"""``boxdrop bundle``: the detectors that jobs can use."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from boxdrop.cli.detector_choice import DefaultDetector, ProjectDetector
from boxdrop.cli.numbers import Percent
from boxdrop.cli.system import bucket_option, open_data_bucket, open_system, system_option
from boxdrop.cli.terminal import say
from boxdrop.cli.wrap import wrap
from boxdrop.domain.detector_names import pinned_name
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.times import time_text

if TYPE_CHECKING:
    from boxdrop.store.canary import Canary

_SHARE = Percent()


@click.group()
def bundle() -> None:
    """List, upload and select detectors in the data bucket, where jobs fetch them from.

    \b
    boxdrop bundle push nanodet-coco
    boxdrop bundle push bundles/owlv2
    boxdrop bundle use owlv2
    """


bundle.add_command(wrap)


@bundle.command("list")
@bucket_option
def list_(data_bucket: str | None) -> None:
    """List the bundles in the data bucket.

    A labels.yaml selects one with `detector: NAME`, the current bundle of that name, or with `detector:
    NAME@DIGEST`.
    """
    from rich.table import Table
    from rich.text import Text

    from boxdrop.cli.console import Console
    from boxdrop.store.bundles import list_bundles

    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("bundle", "family", "precision", "threshold", "floor", ""):
        table.add_column(column, justify="right" if column in ("threshold", "floor") else "left")
    for listed in list_bundles(open_data_bucket(data_bucket)):
        ref = listed.bundle
        note = "default" if listed.default else "latest" if listed.latest else ""
        name = Text(pinned_name(ref.name, ref.digest), style="bold" if listed.default else "")
        table.add_row(name, ref.family, ref.precision, f"{ref.threshold:g}", f"{ref.floor:g}", note)
    console = Console()
    if table.row_count:
        console.print(table)
    else:
        console.print("No detector yet; upload one with: boxdrop bundle push FOLDER")


@bundle.command()
@click.argument("folder")
@bucket_option
def push(folder: str, data_bucket: str | None) -> None:
    """Upload the bundle in FOLDER to the data bucket.

    Instead of a FOLDER, the name of a known detector works, too (see: boxdrop detectors). From now on, the
    bundle's name refers to this one; the very first bundle becomes the default. Runs that began with
    another bundle finish with it.
    """
    from boxdrop.cli.console import Console
    from boxdrop.cli.detectors import locate
    from boxdrop.store.bundles import push as push_bundle

    bucket = open_data_bucket(data_bucket)
    bundle = locate(folder, Console(stderr=True))
    ref = push_bundle(bucket, bundle, on_file=lambda name: say(f"  {name}", err=True))
    say(pinned_name(ref.name, ref.digest))


@bundle.command()
@click.argument("detector", required=False)
@click.option(
    "--in", "project", metavar="PROJECT", help="Only in this project, whatever its labels.yaml names."
)
@click.option(
    "--canary", type=_SHARE, metavar="SHARE", help="Run it on a share of new images first, such as 5%."
)
@click.option("--promote", is_flag=True, help="Let all images run with the canary's detector.")
@click.option("--back", is_flag=True, help="End the canary: new images run with the detector before it.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@bucket_option
@system_option
def use(
    detector: str | None,
    project: str | None,
    canary: float | None,
    promote: bool,
    back: bool,
    yes: bool,
    data_bucket: str | None,
    system: str | None,
) -> None:
    """Make DETECTOR the default, or the detector of one project.

    The default holds for projects whose labels.yaml names none. They take a new one with `boxdrop apply
    PROJECT`. With NAME@DIGEST, the name refers to that bundle from now on: this undoes a push.

    \b
      boxdrop bundle use owlv2
      boxdrop bundle use mine --canary 5%       # a trial on new images
      boxdrop bundle canary                     # what people changed in them
      boxdrop bundle use --promote              # or --back
      boxdrop bundle use mine --in pets --canary 20%
      boxdrop bundle use --promote --in pets    # changes its labels.yaml
    """
    if (canary is not None) + promote + back > 1:
        raise click.UsageError("--canary, --promote and --back exclude each other")
    if detector is None and not (promote or back):
        raise click.UsageError("name a detector; boxdrop bundle list shows them")
    if project is not None:
        choice: DefaultDetector | ProjectDetector = ProjectDetector(open_system(system), project)
    else:
        choice = DefaultDetector(open_data_bucket(data_bucket, system))
    if back:
        choice.end()
        say("No canary. The tasks that it made keep its boxes until they are verified or run again.")
    elif promote:
        choice.promote(detector, yes)
    elif canary is not None and detector is not None:
        choice.start(detector, canary)
    elif detector is not None:
        choice.use(detector, yes)


@bundle.command()
@click.argument("projects", nargs=-1, metavar="[PROJECT]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@system_option
def canary(projects: tuple[str, ...], as_json: bool, system: str | None) -> None:
    """Compare canaries with the detectors in force on verified work.

    For each project with verified tasks of both: images that were submitted without a change, precision and
    recall with 95 % intervals, and seconds per image. Without PROJECT, all projects.
    """
    from boxdrop.cli.console import Console
    from boxdrop.cli.report import work_table
    from boxdrop.review.figures import to_fields
    from boxdrop.review.report import make_report
    from boxdrop.services import Services
    from boxdrop.store.canary import read_canary

    services = Services.of_system(open_system(system))
    known = [each.name for each in services.ledger.projects()]
    for name in projects:
        if name not in known:
            raise BoxdropError(f"there is no project {name}; there are: {', '.join(known) or 'none yet'}")
    trial = read_canary(services.data)
    own = {name: read_canary(services.data, name) for name in projects or known}
    trials = {name: each for name, each in own.items() if each is not None}
    found: dict[str, Any] = {}
    console = Console()
    if not as_json:
        if trial is not None:
            say(_sentence(trial))
        for name, each in trials.items():
            say(f"{name}: {_sentence(each)}")
        if trial is None and not trials:
            say("No canary; start one with: boxdrop bundle use NAME --canary 5%")
    for name in projects or known:
        made = make_report(services, name)
        if len(made.models) < 2 and not projects:
            continue
        found[name] = to_fields(made)["models"]
        if not as_json:
            say(f"\n{name}")
            console.print(work_table("detector", made.models))
    if as_json:
        of_projects = {name: _fields(each) for name, each in trials.items()}
        fields = None if trial is None else _fields(trial)
        say(json.dumps({"canary": fields, "canaries_of_projects": of_projects, "projects": found}))
    elif (trial is not None or trials) and not found:
        say("Nothing to compare yet: verify tasks of both detectors in Label Studio, and run this again.")


def _sentence(trial: "Canary") -> str:
    since = trial.since.strftime("%Y-%m-%d %H:%M UTC")
    return f"{pinned_name(trial.name, trial.digest)} on {100 * trial.share:g} % of new images since {since}"


def _fields(trial: "Canary") -> dict[str, Any]:
    return asdict(trial) | {"since": time_text(trial.since)}
