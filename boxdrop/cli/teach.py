"""``boxdrop teach``: teach a project's detector from its verified images."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final, Literal

import click

from boxdrop.cli.system import open_system, system_option
from boxdrop.cli.terminal import counted, say
from boxdrop.domain.errors import BoxdropError, LabelSetError
from boxdrop.domain.labels import LabelSet

if TYPE_CHECKING:
    from boxdrop.cli.labels_file import LabelsFile
    from boxdrop.domain.lesson import Figures, Lesson
    from boxdrop.services import Services

_LESSON_LINE: Final = re.compile(r"^lesson[ \t]*:.*\n?", re.MULTILINE)
_LABELS_LINE: Final = re.compile(r"^labels[ \t]*:", re.MULTILINE)


@click.command(no_args_is_help=True)
@click.argument("project")
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
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@system_option
def teach(
    project: str,
    out: Path | None,
    dry_run: bool,
    back: bool,
    from_now: bool,
    provider: Literal["cpu", "cuda"],
    yes: bool,
    system: str | None,
) -> None:
    """Teach PROJECT's detector from its verified images.

    \b
      boxdrop teach fruit             fit a lesson, and bring it into force
      boxdrop teach fruit --dry-run   show what a lesson would be worth
      boxdrop teach fruit --back      return to the lesson before

    Cross-validation decides for each label whether the lesson replaces its words. Images that nobody has
    verified run again, unless you say --from-now; verified images stay as they are.
    """
    if back and (out is not None or dry_run):
        raise BoxdropError("--back teaches nothing: leave out --out and --dry-run")
    if from_now and dry_run:
        raise BoxdropError("--dry-run changes nothing: leave out --from-now")
    from boxdrop.cli.labels_file import LabelsFile
    from boxdrop.services import Services

    chosen = open_system(system)
    services = Services.of_system(chosen)
    if back:
        _go_back(services, LabelsFile(chosen, project), project, yes, from_now)
        return
    file = None if dry_run else LabelsFile(chosen, project)  # as it is now: a change meanwhile is noticed
    lesson = _teach(services, project, provider)
    for line in figures_of(lesson):
        say(line)
    if not lesson.labels:
        say("The words are as good as anything learned from these images. Verify more, and teach again.")
        return
    if out is not None:
        from boxdrop.lessons import write_lesson_text

        out.write_bytes(write_lesson_text(lesson))
        say(f"Written to {out}")
    if file is None:
        return
    from boxdrop.store.lessons import write_lesson

    number = write_lesson(services.data, lesson)
    say(f"Lesson {number}. To return to what was before: boxdrop teach {quote(project)} --back")
    file.put(with_lesson(file.text, number, file.where), yes, from_now=from_now)


def _teach(services: "Services", project: str, provider: Literal["cpu", "cuda"]) -> "Lesson":
    from boxdrop.cli.console import Console
    from boxdrop.datasets.items import LeftOut
    from boxdrop.teach.project import labels_in_force, load_detector, read_examples
    from boxdrop.teach.teaching import Example, examine, teach

    row, label_set = labels_in_force(services, project)
    detector = load_detector(services, row, provider)
    left_out: Counter[str] = Counter()

    def usable() -> Iterator[Example]:
        for each in read_examples(services, project, label_set):
            if isinstance(each, LeftOut):
                left_out[str(each.why)] += 1
            else:
                yield each

    with Console(stderr=True).working("Reading verified images") as status:
        words = replace(label_set, lesson=None)
        seen = [
            *examine(
                detector,
                words,
                usable(),
                lambda count: status.update(f"Reading verified images: {count:,}"),
            )
        ]
        status.update("Fitting")
        lesson = teach(
            detector, words, seen, project=project, made_at=services.clock(), previous=label_set.lesson
        )
    for why, count in sorted(left_out.items()):
        say(f"  {counted(count, 'image')} left out: {why}", err=True)
    return lesson


def _go_back(services: "Services", file: "LabelsFile", project: str, yes: bool, from_now: bool) -> None:
    from boxdrop.store.lessons import read_lesson

    current = LabelSet.from_yaml(file.text, file.where).lesson
    if current is None:
        raise BoxdropError(f"{project} uses no lesson; teach one with: boxdrop teach {quote(project)}")
    previous = read_lesson(services.data, current).previous
    say(f"Back from lesson {current} to {'words alone' if previous is None else f'lesson {previous}'}")
    file.put(with_lesson(file.text, previous, file.where), yes, from_now=from_now)


def with_lesson(text: str, lesson: str | None, source: str = "labels.yaml") -> str:
    """The text of a labels.yaml with another lesson, or (None) with none; all else stays as it is written.

    Raises:
        LabelSetError: the text is no label set.
    """
    wanted = replace(LabelSet.from_yaml(text, source), lesson=lesson)
    line = "" if lesson is None else f'lesson: "{lesson}"\n'
    changed = _LABELS_LINE.sub(f"{line}labels:", _LESSON_LINE.sub("", text), count=1)
    try:
        if LabelSet.from_yaml(changed, source) == wanted:
            return changed
    except LabelSetError:
        pass
    return wanted.to_yaml()  # it was a bare list, or YAML in braces


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
