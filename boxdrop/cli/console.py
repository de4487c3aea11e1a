"""rich's console for tables, progress and colours, following the rules of `boxdrop.cli.terminal`."""

import os
import sys
import time
from collections.abc import Iterable
from typing import IO, Any, Final

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from boxdrop.cli.terminal import printable

_LINE_S: Final = 10.0
"""Seconds between two lines of progress, if there is no terminal to draw a spinner on."""

_PIPE_WIDTH: Final = 500
"""Columns of a file or pipe, which has no edge to wrap at: a row stays one line."""


class Console(RichConsole):
    """A console without markup, highlighting or emoji codes, which passes text through `printable`.

    Args:
        stderr: for progress and notes; results go to standard output.
    """

    def __init__(
        self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None
    ) -> None:
        stream = file or (sys.stderr if stderr else sys.stdout)
        if width is None and not stream.isatty() and "COLUMNS" not in os.environ:
            width = _PIPE_WIDTH
        super().__init__(
            stderr=stderr,
            file=file,
            width=width,
            soft_wrap=stderr,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text) and printable(renderable.plain) != renderable.plain:
            renderable = renderable.copy()
            renderable.plain = printable(renderable.plain)
        return super().render(renderable, options)

    def working(self, text: str) -> "Working":
        """A spinner beside a text, for the duration of a ``with`` block."""
        return Working(self, text)


class Working:
    """A spinner beside a text that may change."""

    def __init__(self, console: Console, text: str) -> None:
        self._console = console
        self._status = Status(Text(printable(text)), console=console)
        self._printed = time.monotonic()

    def __enter__(self) -> "Working":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def update(self, text: str) -> None:
        """Show another text; in a log or a pipe, print it from time to time."""
        self._status.update(Text(printable(text)))
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed >= _LINE_S:
            self._printed = now
            self._console.print(text)
