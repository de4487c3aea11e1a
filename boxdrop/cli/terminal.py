"""The only way to print to the terminal: users' text is shown literally, without styling or controlling it.

Names of files, labels and projects may contain anything: square brackets (markup for rich), escape sequences
(terminal commands), lone surrogates (which cannot be encoded). A test checks that no other module of the
command line prints directly.
"""

import sys
import unicodedata
from collections.abc import Sequence

import click

Part = tuple[str, str | None]
"""Text and its colour in a terminal, by click's name; None for the default colour."""

_KEPT = "\n\t"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_DIRECTIONS = {*"\u200e\u200f\u061c", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def printable(text: str) -> str:
    """Text in which every character that a terminal would obey or cannot show is replaced; same length.

    Those are control characters except line breaks and tabs, lone surrogates, and marks that change the
    direction of the following text.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_REPLACEMENT if each in _DIRECTIONS or _is_control(each) else each for each in text)


def _is_control(character: str) -> bool:
    return character not in _KEPT and unicodedata.category(character) in ("Cc", "Cs")


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a line: a result, or with `err` a note to stderr; without `nl`, text that has its own line
    ends."""
    click.echo(printable(text), err=err, nl=nl)


def say_in_colours(parts: Sequence[Part]) -> None:
    """Print coloured text that has its own line ends; no colours in a pipe or a file."""
    click.echo("".join(click.style(printable(text), fg=colour) for text, colour in parts if text), nl=False)


def complain(text: str) -> None:
    """Print an error message, in red if the terminal has colours."""
    click.secho(printable(text), fg="red", err=True)


def survive_any_encoding() -> None:
    """If the terminal's encoding lacks a character, show its code instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def shortened(text: str, most: int = 200) -> str:
    """A text for a message: at most so many characters, with an ellipsis for the rest."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def counted(number: int, one: str, several: str | None = None) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"
