"""The command line: one module per command group, imported when it is called."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from boxdrop import __version__
from boxdrop.cli.terminal import complain, shortened, survive_any_encoding
from boxdrop.domain.errors import BoxdropError, UnavailableError
from boxdrop.extras import explain
from boxdrop.job.stop import StoppedError

_COMMANDS = {
    "annotate": ("boxdrop.cli.annotate", "Detect objects in a folder or bucket of images."),
    "new": ("boxdrop.cli.new", "Create a project: its name and its labels."),
    "drop": ("boxdrop.cli.drop", "Upload a folder of images to a project."),
    "backfill": ("boxdrop.cli.backfill", "Import images that are already in the bucket."),
    "retrieve": ("boxdrop.cli.retrieve", "Retrieve images by a caption, with their licences and credits."),
    "credits": ("boxdrop.cli.credits", "Make the page that credits the creators of retrieved images."),
    "status": ("boxdrop.cli.status", "Show the progress of your projects."),
    "labels": ("boxdrop.cli.labels", "Show or change the labels of a project."),
    "apply": ("boxdrop.cli.apply", "Show what changed labels run again, then run it."),
    "rank": ("boxdrop.cli.rank", "Put the images with the most to correct first."),
    "accept": ("boxdrop.cli.accept", "Accept images whose boxes are so sure that nobody has to check."),
    "recheck": ("boxdrop.cli.recheck", "Name verified images that may hold a mistake."),
    "tune": ("boxdrop.cli.tune", "Suggest thresholds, learned from verified images."),
    "retry": ("boxdrop.cli.retry", "Try failed images and messages again."),
    "sync": ("boxdrop.cli.sync", "Compare a project with Label Studio, and repair what was lost."),
    "report": ("boxdrop.cli.report", "Report what people changed, and which labels to trust."),
    "compare": ("boxdrop.cli.compare", "Compare two detectors or label sets on verified images."),
    "shadow": ("boxdrop.cli.shadow", "Show what a detector would change in unverified images."),
    "export": ("boxdrop.cli.export", "Write verified images and boxes in a format that other tools read."),
    "dataset": ("boxdrop.cli.dataset", "Freeze verified work as data sets, list and compare them."),
    "teach": ("boxdrop.cli.teach", "Teach a project's detector from its verified images."),
    "train": ("boxdrop.cli.train", "Train a detector of your own on verified images."),
    "find": ("boxdrop.cli.find", "Find things that look like the one in a box."),
    "delete": ("boxdrop.cli.delete", "Delete a project; its images stay."),
    "runs": ("boxdrop.cli.runs", "List runs, show one, compare two."),
    "track": ("boxdrop.cli.track", "Register finished runs in ZenML, and view them there."),
    "detectors": ("boxdrop.cli.detectors", "List the known detectors, and get one."),
    "bundle": ("boxdrop.cli.bundle", "List, upload and select detectors in the data bucket."),
    "doctor": ("boxdrop.cli.doctor", "List what a deployment still needs."),
    "local": ("boxdrop.cli.local", "Run the whole system on this machine, or only Label Studio."),
}

_CALLED = "boxdrop.command"
_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: the same command may succeed later, or go on."""


class _Commands(click.Group):
    """Imports a command's module only when the command is called, so ``boxdrop --help`` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        ctx.meta[_CALLED] = cmd_name
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BoxdropError, ImportError) as error:
            message = str(error)
            if isinstance(error, ImportError) or "pip install 'boxdrop[" in message:
                missing = explain(error, ctx.meta.get(_CALLED))
                if missing is None and isinstance(error, ImportError):
                    raise
                message = missing or message
            complain(f"boxdrop: {message}")
            ctx.exit(_AGAIN if isinstance(error, StoppedError | UnavailableError) else 1)
        except OSError as error:  # a path of the user's: too long, a link to itself, of a broken disk
            if error.filename is None or error.strerror is None:
                raise
            complain(f"boxdrop: {shortened(str(error.filename))}: {error.strerror}")
            ctx.exit(1)
        except UnicodeEncodeError as error:  # an argument in another encoding, on its way to AWS
            complain(f"boxdrop: {shortened(ascii(error.object))} is not UTF-8: give it in UTF-8")
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="boxdrop")
def boxdrop() -> None:
    """Drop images in a bucket, get boxes to verify.

    \b
    Try it on this machine, with a bucket and Label Studio:
      boxdrop local up
      boxdrop drop photos/ fruit --labels "pineapple, banana, apple"
    or without either, on a folder of your own:
      boxdrop annotate photos/ --labels "pineapple, banana, apple"
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``boxdrop`` command: exit code 0, 1 for an explained error, 75 for one that
    may be over later (S3 does not answer, or it was asked to stop), 130 for Ctrl-C."""
    survive_any_encoding()
    try:
        boxdrop.main(arguments, prog_name="boxdrop", standalone_mode=True)
    except KeyboardInterrupt:  # click turns most of them into Abort, which ends in exit code 1
        sys.exit(130)
