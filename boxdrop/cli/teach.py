"""``boxdrop teach``: teach a project's detector from its verified images."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

import click

from boxdrop.account.budget import TEACH_AT_MOST
from boxdrop.cli.account import at_most_option, cancel_order, in_account_option, place_order
from boxdrop.cli.numbers import Whole
from boxdrop.cli.system import label_studio_option, log_in, open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.label_edit import with_lesson
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.teaching import outlook_of

if TYPE_CHECKING:
    from boxdrop.cli.labels_file import LabelsFile
    from boxdrop.domain.curve import Curve
    from boxdrop.domain.lesson import Figures, Lesson
    from boxdrop.services import Services

MOST_NEXT = 500
"""Images that are chosen at once; beyond, a lesson from the first ones chooses better."""

MOST_AMONG = 2_000
"""Images to choose from: memory grows with the square of them, 128 MB for so many."""

_WAIT_S = 300  # for publishers


@click.command(no_args_is_help=True)
@click.argument("project", required=False)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the lesson into this file as well, for `boxdrop annotate --lesson`.",
)
@click.option("--dry-run", is_flag=True, help="Show what it would bring; store nothing, change nothing.")
@click.option("--back", is_flag=True, help="Return to the lesson before this one, or to words alone.")
@click.option(
    "--from-now", is_flag=True, help="Use it for new images only; do not run those that are there again."
)
@click.option(
    "--due",
    is_flag=True,
    help="Teach the projects whose labels.yaml says `teach: auto` and whose verified images have doubled.",
)
@click.option(
    "--next",
    "count",
    type=Whole(1, MOST_NEXT),
    metavar="N",
    help="Teach nothing: choose N images to verify next and put them first in Label Studio.",
)
@click.option(
    "--among",
    type=Whole(1, MOST_AMONG),
    metavar="M",
    help="With --next: from how many unverified images, taken by chance. Default: 300.",
)
@click.option(
    "--provider",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    envvar="BOXDROP_PROVIDER",
    show_default=True,
)
@in_account_option
@at_most_option(TEACH_AT_MOST)
@click.option("--cancel", is_flag=True, help="End the teaching in the account; nothing changes.")
@click.option(
    "--unattended",
    is_flag=True,
    help="As the job of --in-account does: bring the lesson into force only if the gain is clear, and leave "
    "it to the system which images run again.",
)
@click.option("--json", "as_json", is_flag=True, help="With --in-account: print JSON, for programs.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@label_studio_option
@system_option
def teach(
    project: str | None,
    out: Path | None,
    dry_run: bool,
    back: bool,
    from_now: bool,
    due: bool,
    count: int | None,
    among: int | None,
    provider: Literal["cpu", "cuda"],
    in_account: bool,
    at_most: str | None,
    cancel: bool,
    unattended: bool,
    as_json: bool,
    yes: bool,
    url: str | None,
    system: str | None,
) -> None:
    """Teach PROJECT's detector from its verified images.

    \b
      boxdrop teach fruit             fit a lesson, and bring it into force
      boxdrop teach fruit --dry-run   show what a lesson would be worth
      boxdrop teach fruit --back      return to the lesson before
      boxdrop teach fruit --next 20   choose which images to verify next
      boxdrop teach --due             all projects that say `teach: auto`

    Cross-validation decides for each label whether the lesson replaces its words. Images that nobody has
    verified run again, unless you say --from-now; verified images stay as they are.

    With --in-account, a job in your AWS account does it. `boxdrop status` shows how far it is and what came
    of it. The same command starts no second job.
    """
    in_system = in_account or cancel or unattended
    if in_system and (back or from_now or due or dry_run or out is not None or count is not None):
        raise BoxdropError(
            "--in-account, --cancel and --unattended go without --back, --from-now, --due, --dry-run, --out "
            "and --next"
        )
    if in_account + cancel + unattended > 1:
        raise BoxdropError("give one of --in-account, --cancel and --unattended")
    if not in_account and (at_most is not None or as_json):
        raise BoxdropError(f"{'--at-most' if at_most is not None else '--json'} goes with --in-account")
    if back and (out is not None or dry_run):
        raise BoxdropError("--back teaches nothing: leave out --out and --dry-run")
    if from_now and dry_run:
        raise BoxdropError("--dry-run changes nothing: leave out --from-now")
    if due and (back or from_now or dry_run or out is not None):
        raise BoxdropError("--due goes alone, or with a PROJECT, --provider and --system")
    if count is not None and (due or back or from_now or out is not None):
        raise BoxdropError("--next teaches nothing: leave out --due, --back, --from-now and --out")
    if among is not None and (count is None or among < count):
        raise BoxdropError("--among goes with --next, and is at least as large")
    from boxdrop.services import Services

    if count is not None and project is not None:
        connection = None if dry_run else log_in(url, system)
        services = Services.of_system(open_system(system), label_studio=connection)
        _choose_next(services, project, count, among, provider, dry_run)
        return
    chosen = open_system(system)
    services = Services.of_system(chosen)
    if due:
        _teach_due(services, project, provider)
        return
    if project is None:
        raise BoxdropError("give a PROJECT, or --due for all that teach themselves")
    if in_account:
        from boxdrop.review.gathering import find_project

        find_project(services, project)  # before anything is paid for
        arguments = ("teach", project, "--unattended")
        limit = at_most or TEACH_AT_MOST
        place_order(chosen, services, "teach", project, project, arguments, limit, yes, as_json)
        return
    if cancel:
        cancel_order(chosen, services, "teach", project, project)
        return
    if unattended:
        _teach_unattended(services, project, provider)
        return
    from boxdrop.cli.labels_file import LabelsFile

    if back:
        _go_back(services, LabelsFile(chosen, project), project, yes, from_now)
        return
    file = None if dry_run else LabelsFile(chosen, project)  # as it is now: a change meanwhile is noticed
    lesson, curve = _teach(services, project, provider)
    for line in figures_of(lesson):
        say(line)
    if curve is not None:
        for line in outlook_of(curve):
            say(line)
    if not lesson.labels:
        say("The words are as good as anything learned from these images. Verify more, and teach again.")
    elif out is not None:
        from boxdrop.lessons import write_lesson_text

        out.write_bytes(write_lesson_text(lesson))
        say(f"Written to {out}")
    if file is None:
        return
    from boxdrop.ledger import State
    from boxdrop.store.lessons import write_lesson
    from boxdrop.store.teachings import add_teaching
    from boxdrop.teach.automatic import teaching_of

    number = None
    if lesson.labels:
        number = write_lesson(services.data, lesson)
        say(f"Lesson {number}. To return to what was before: boxdrop teach {quote(project)} --back")
        file.put(with_lesson(file.text, number, file.where), yes, from_now=from_now)
    verified = services.ledger.count_images(project, (State.VERIFIED,))[State.VERIFIED]
    add_teaching(services.data, project, teaching_of(lesson, curve, verified, number))


def _teach(
    services: "Services", project: str, provider: Literal["cpu", "cuda"]
) -> "tuple[Lesson, Curve | None]":
    from boxdrop.cli.console import Console
    from boxdrop.teach.project import teach_project

    left_out: Counter[str] = Counter()
    with Console(stderr=True).working("Reading verified images") as status:
        taught = teach_project(
            services,
            project,
            provider,
            on_image=lambda count: status.update(f"Verified images: {count:,} read"),
            on_left_out=lambda each: left_out.update([str(each.why)]),
        )
    for why, count in sorted(left_out.items()):
        say(f"  {counted(count, 'image')} left out: {why}", err=True)
    return taught


def _choose_next(
    services: "Services",
    project: str,
    count: int,
    among: int | None,
    provider: Literal["cpu", "cuda"],
    dry_run: bool,
) -> None:
    """Print the images to verify next, and put them first in Label Studio."""
    from boxdrop.cli.console import Console
    from boxdrop.review.order import put_first
    from boxdrop.teach.next_images import AMONG, choose_next

    with Console(stderr=True).working("Looking at images") as status:
        found = choose_next(
            services,
            project,
            count,
            provider,
            among=max(AMONG, count) if among is None else among,
            on_image=lambda number: status.update(f"Images: {number:,} looked at"),
        )
    if not found.chosen:
        raise BoxdropError(f"{project}: no image waits for a person; `boxdrop status` shows progress")
    say(
        f"Looked at {counted(found.pool, 'image')} that nobody has verified and "
        f"{counted(found.verified, 'verified image')}. Verify next:"
    )
    for row in found.chosen:
        say(f"  {row.key}")
    if not dry_run:
        tasks = [row.task_id for row in found.chosen if row.task_id is not None]
        put_first(services, project, tasks, wait_s=_WAIT_S)
        say("They come first in the tab To verify and in its label stream.")


def _teach_unattended(services: "Services", project: str, provider: Literal["cpu", "cuda"]) -> None:
    from boxdrop.domain.teaching import sentence_of
    from boxdrop.teach.automatic import teach_unattended

    say(f"{project}: {sentence_of(teach_unattended(services, project, provider))}")


def _teach_due(services: "Services", project: str | None, provider: Literal["cpu", "cuda"]) -> None:
    """One project after the other; the fault of one does not keep others from being taught."""
    from boxdrop.domain.teaching import sentence_of
    from boxdrop.teach.automatic import teach_itself

    names = [each.name for each in services.ledger.projects()] if project is None else [project]
    failed = []
    for name in names:
        try:
            taught = teach_itself(services, name, provider)
        except BoxdropError as error:
            failed.append(f"{name}: {error}")
        else:
            if taught is not None:
                say(f"{name}: {sentence_of(taught)}")
    if failed:
        raise BoxdropError("; ".join(failed))


def _go_back(services: "Services", file: "LabelsFile", project: str, yes: bool, from_now: bool) -> None:
    from boxdrop.store.lessons import read_lesson

    current = LabelSet.from_yaml(file.text, file.where).lesson
    if current is None:
        raise BoxdropError(f"{project} uses no lesson; teach one with: boxdrop teach {quote(project)}")
    previous = read_lesson(services.data, current).previous
    say(f"Back from lesson {current} to {'words alone' if previous is None else f'lesson {previous}'}")
    file.put(with_lesson(file.text, previous, file.where), yes, from_now=from_now)


def figures_of(lesson: "Lesson") -> Iterator[str]:
    """What a lesson is worth, a line each: labels, then all of them."""
    yield (
        f"{counted(len(lesson.images), 'verified image')} with {counted(lesson.boxes, 'box', 'boxes')}. "
        "Figures of images that the fit had not seen:"
    )
    taught = {"words": "keeps its words", "mixed": "words and lesson", "lesson": "lesson"}
    for each in lesson.figures:
        if each.boxes:
            yield f"  {each.name}: {_change(each.before, each.after)} ({taught[each.taught]})"
    yield f"all labels: {_change(lesson.before, lesson.after)}"


def _change(before: "Figures", after: "Figures") -> str:
    return (
        f"recall {before.recall:.2f} → {after.recall:.2f}, precision {before.precision:.2f} → "
        f"{after.precision:.2f}, F1 {before.f1:.2f} → {after.f1:.2f}"
    )
