"""The result of one check: ok, or what to do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from boxdrop.domain.errors import BoxdropError

MakeClient = Callable[[str], Any]
"""Makes a boto3 client of a service."""


@dataclass(frozen=True, slots=True)
class Line:
    """The result of one check.

    Attributes:
        name: of the checked thing.
        ok: whether it passed.
        text: what was found and, if it failed, what to do.
    """

    name: str
    ok: bool
    text: str


class NotOkError(Exception):
    """Ends a check as failed; its text says what to do."""


def look_at_each(looks: Sequence[tuple[str, Callable[[], str]]]) -> Iterator[Line]:
    """Run checks one after the other; a failed one does not stop the others."""
    from botocore.exceptions import BotoCoreError, ClientError

    for name, look in looks:
        try:
            yield Line(name, True, look())
        except (NotOkError, BoxdropError) as problem:
            yield Line(name, False, str(problem))
        except ClientError as error:
            details = error.response.get("Error", {})
            yield Line(name, False, f"AWS refused: {details.get('Message') or details.get('Code')}")
        except BotoCoreError as error:
            yield Line(name, False, f"cannot reach AWS: {error}")
