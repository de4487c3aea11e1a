"""``boxdrop dataset``: freeze a project's verified work, list and compare data sets."""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from boxdrop.cli.numbers import Finite
from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.datasets.collection import Selection
    from boxdrop.datasets.export import Stored
    from boxdrop.services import Services

NOW = "now"
"""In place of a frozen data set's name: current verified work."""


def selection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say what goes into a data set; the command gets them as `choice`."""

    @functools.wraps(command)
    def call(
        labels: str | None,
        since: datetime | None,
        min_size: float,
        split: str | None,
        group_by: str | None,
        near_duplicates: str,
        **others: Any,
    ) -> None:
        together = near_duplicates == "together"
        command(choice=Choice(labels, since, min_size, split, group_by, together=together), **others)

    for option in (
        click.option(
            "--near-duplicates",
            type=click.Choice(["together", "ignore"]),
            default="together",
            show_default=True,
            help="Keep images that look alike in one split, or ignore that they do.",
        ),
        click.option(
            "--group-by",
            metavar="REGEX",
            help="A regular expression; keys with the same match stay in one split.",
        ),
        click.option("--split", metavar="NAME=SHARE,…", help="Such as train=80,val=10,test=10."),
        click.option(
            "--min-size",
            type=Finite(0),
            default=0.0,
            help="Leave out boxes with a shorter side (pixels).",
        ),
        click.option("--since", type=click.DateTime(), help="Only images verified since this time, in UTC."),
        click.option("--labels", metavar="A,B", help="Only boxes of these labels."),
    ):
        call = option(call)
    return call


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user wants in a data set, as typed: the options of `selection_options`."""

    labels: str | None = None
    since: datetime | None = None
    min_size: float = 0.0
    split: str | None = None
    group_by: str | None = None
    predictions: bool = False
    accepted: frozenset[str] | None = None
    together: bool = True

    def selection(self) -> "Selection":
        """The same, read.

        Raises:
            BoxdropError: the labels, the shares or the pattern cannot be read.
        """
        from boxdrop.datasets.collection import Selection
        from boxdrop.datasets.splits import Grouping, Splits

        names = None
        if self.labels is not None:
            names = frozenset(filter(None, map(str.strip, self.labels.split(","))))
            if not names:
                raise BoxdropError(f"--labels {self.labels!r} names no label; leave it out for all labels")
        return Selection(
            labels=names,
            since=None if self.since is None else self.since.replace(tzinfo=UTC),
            min_size=self.min_size,
            splits=Splits() if self.split is None else Splits.parse(self.split),
            grouping=Grouping(self.group_by),
            predictions=self.predictions,
            accepted=self.accepted,
            together=self.together,
        )

    def open(self, services: "Services", project: str, dataset: str | None) -> "Stored":
        """A frozen data set, or what is verified now.

        Raises:
            BoxdropError: options were given for a frozen data set, which has its own.
        """
        from boxdrop.datasets.collection import Collection
        from boxdrop.datasets.frozen import open_frozen

        if dataset is None:
            return Collection(services, project, self.selection())
        if self != Choice():
            raise BoxdropError(
                "a frozen data set has its own labels and splits: leave out --labels, --since, --min-size, "
                "--split, --group-by, --near-duplicates and --include, or leave out --dataset"
            )
        return open_frozen(services.data, project, dataset)


@click.group(no_args_is_help=True)
def dataset() -> None:
    """Freeze a project's verified work as a data set, list the frozen ones, compare two.

    \b
      boxdrop dataset freeze fruit-baskets v1 --split train=80,val=10,test=10
      boxdrop dataset diff fruit-baskets v1 now
      boxdrop export fruit-baskets --dataset v1 --out fruit-v1/
    """


@dataset.command("list", no_args_is_help=True)
@click.argument("project")
@system_option
def list_(project: str, system: str | None) -> None:
    """List the frozen data sets of PROJECT."""
    from boxdrop.datasets.collection import Selection, classes_of
    from boxdrop.datasets.frozen import frozen_datasets
    from boxdrop.services import Services

    services = Services.of_system(open_system(system))
    found = frozen_datasets(services.data, project)
    if not found:  # those of a deleted project are still listed
        classes_of(services, project, Selection())
        say(
            f"{project} has no frozen data set; make one with: boxdrop dataset freeze {project} NAME",
            err=True,
        )
    for each in found:
        say(
            f"{each.name}\t{each.frozen_at:%Y-%m-%d %H:%M}\t{counted(each.images, 'image')}\t"
            f"{counted(each.boxes, 'box', 'boxes')}\t{each.digest}"
        )


@dataset.command(no_args_is_help=True)
@click.argument("project")
@click.argument("name")
@selection_options
@system_option
def freeze(
    project: str,
    name: str,
    choice: Choice,
    system: str | None,
) -> None:
    """Freeze verified work as a data set.

    The current verified work of PROJECT becomes the data set NAME, which never changes again.
    """
    from boxdrop.datasets.collection import Collection
    from boxdrop.datasets.frozen import freeze
    from boxdrop.services import Services

    services = Services.of_system(open_system(system))
    found = Collection(services, project, choice.selection())
    header = freeze(
        services.data,
        project,
        name,
        found.classes,
        found.splits,
        found,
        found.dropped_boxes,
        services.clock(),
        found.prompts,
    )
    say(
        f"{name} ({header.digest}): {counted(header.images, 'image')} with "
        f"{counted(header.boxes, 'box', 'boxes')}. Export it with: "
        f"boxdrop export {project} --dataset {name} --out DIR"
    )
    for why, count in sorted(header.left_out.items()):
        say(f"  {counted(count, 'image')} left out: {why}", err=True)


@dataset.command(no_args_is_help=True)
@click.argument("project")
@click.argument("first")
@click.argument("second", default=NOW)
@system_option
def diff(project: str, first: str, second: str, system: str | None) -> None:
    """Compare two data sets.

    FIRST and SECOND are data sets of PROJECT; 'now' is current verified work.

    Current work has no splits and all labels, so only two frozen data sets show images that moved.
    """
    from boxdrop.datasets.frozen import compare
    from boxdrop.services import Services

    services = Services.of_system(open_system(system))

    def find(name: str) -> "Stored":
        return Choice().open(services, project, None if name == NOW else name)

    counts: Counter[str] = Counter()
    ignored = {"moved"} if NOW in (first, second) else set()
    for each in compare(find(first), find(second)):
        if each.what not in ignored:
            counts[each.what] += 1
            say(f"{each.what}\t{each.key}")
    said = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
    say(said or "no difference", err=True)
