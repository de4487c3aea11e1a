"""The one way to the terminal: text of users is shown as it is, and neither styles nor steers anything.

Names of files, labels and projects may hold anything: square brackets (markup to rich), escape sequences
(commands to a terminal), halves of characters (which cannot be encoded). A test holds that no other module of
the command line prints by itself.
"""

import sys
import unicodedata
from collections.abc import Sequence

import click

Part = tuple[str, str | None]
"""Text and the colour that it has in a terminal, by click's name; None for the terminal's own."""

_KEPT = "\n\t"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_DIRECTIONS = {*"\u200e\u200f\u061c", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def printable(text: str) -> str:
    """Text with every character replaced that a terminal would obey or cannot show; its length stays.

    Those are control characters but line breaks and tabs, halves of characters (surrogates), and marks that
    turn the direction of what follows.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_REPLACEMENT if each in _DIRECTIONS or _is_control(each) else each for each in text)


def _is_control(character: str) -> bool:
    return character not in _KEPT and unicodedata.category(character) in ("Cc", "Cs")


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a line: a result, or with `err` a note beside it; without `nl`, text with its own line ends."""
    click.echo(printable(text), err=err, nl=nl)


def say_in_colours(parts: Sequence[Part]) -> None:
    """Print text of several colours, with its own line ends; into a pipe or a file, without colours."""
    click.echo("".join(click.style(printable(text), fg=colour) for text, colour in parts if text), nl=False)


def complain(text: str) -> None:
    """Print the message of an error, in red where that can be seen."""
    click.secho(printable(text), fg="red", err=True)


def survive_any_encoding() -> None:
    """Let a terminal that lacks a character show its code, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def counted(number: int, one: str, several: str | None = None) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"
