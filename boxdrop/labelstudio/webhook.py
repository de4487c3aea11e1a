"""The webhook by which Label Studio tells that people worked: set up, and checked as it arrives.

Label Studio signs nothing, waits one second, and never tries again. So a secret header tells that it is
Label Studio, whoever receives a webhook answers at once, and only ids are taken from it: the state is read
from Label Studio afterwards, which makes order and repetition harmless. Of what is lost, `boxdrop sync` takes
care. Label Studio 1.23 tells nobody of an annotation that is turned into a draft, nor of tasks that are
deleted with all others of their project.

The body holds the project's ``token`` and ``task_data_password``, and everything that people wrote. Nothing
of it but the ids of `ReviewEvent` may be logged, queued or put into an error.
"""

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from boxdrop.domain.errors import BoxdropError, LabelStudioError
from boxdrop.labelstudio.connection import ONCE, Connection

SECRET_HEADER: Final = "X-Boxdrop-Secret"  # noqa: S105
PROJECT_HEADER: Final = "X-Boxdrop-Project"
"""Label Studio's number of the project: known even of a body that is too long to be read."""

ACTIONS: Final = (
    "ANNOTATION_CREATED",  # submitted or skipped
    "ANNOTATIONS_CREATED",  # predictions made annotations in the Data Manager
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_DELETED",  # annotations go with their task, and no event tells of them
)

SYNC: Final = "SYNC"
"""Instead of one of `ACTIONS`: a schedule asks for a comparison, no webhook did."""

IMAGES_CHANGED: Final = "IMAGES_CHANGED"
"""Instead of one of `ACTIONS`: images of these tasks were overwritten or deleted, by dispatch."""

MAX_BODY_BYTES: Final = 1 << 20
"""A body has 2.6 KB for the project and some 0.4 KB a box, twice where the prediction is with it. Bulk
actions send everything in one body, which passes this limit at some 300 annotations: then the project is
looked at as a whole."""

_MAX_IDS: Final = 10_000


class WebhookError(BoxdropError):
    """A call that is not, or not readably, a webhook of ours.

    Attributes:
        status: HTTP status to answer with; Label Studio does not read it, people who test do.
        project: Label Studio's number of the project, if the secret was right: there is something to look
            for.
    """

    def __init__(self, status: int, message: str, project: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.project = project


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """What leaves the webhook: ids. Without any, everything in the project may have changed.

    Attributes:
        action: one of `ACTIONS`.
        project: Label Studio's number.
        tasks, annotations: Label Studio's numbers, in rising order. Deleted annotations come without their
            tasks.
    """

    action: str
    project: int
    tasks: tuple[int, ...] = ()
    annotations: tuple[int, ...] = ()

    @property
    def is_whole_project(self) -> bool:
        """Whether nothing tells what changed."""
        return not self.tasks and not self.annotations

    def to_fields(self) -> dict[str, Any]:
        """As JSON's types, for a queue."""
        return {
            "action": self.action,
            "project": self.project,
            "tasks": list(self.tasks),
            "annotations": list(self.annotations),
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "ReviewEvent":
        """Read what `to_fields` wrote.

        Raises:
            WebhookError: 400.
        """
        try:
            return cls(
                str(fields["action"]),
                int(fields["project"]),
                tuple(int(number) for number in fields.get("tasks", ())),
                tuple(int(number) for number in fields.get("annotations", ())),
            )
        except (KeyError, TypeError, ValueError):
            raise WebhookError(400, "a message about reviews lacks its ids") from None


def ensure_webhook(connection: Connection, project: int, url: str, secret: str) -> int:
    """Find the project's webhook or create it, and bring address and secret up to date.

    It is known by its secret header, so webhooks of others are left alone. Whoever may see the project's
    settings can read the secret there. Callers at the same time end with one webhook, the oldest.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: Label Studio's number.
        url: of the receiver. Label Studio refuses to call private addresses, unless its
            ``SSRF_PROTECTION_ENABLED`` is off.
        secret: sent in `SECRET_HEADER`; while it is rotated, the receiver knows both.

    Returns:
        Label Studio's number of the webhook.

    Raises:
        ValueError: the secret cannot be sent in a header.
        LabelStudioError: Label Studio refused.
    """
    if not secret or not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        raise ValueError("a webhook secret must be printable ASCII without spaces around it")
    webhooks = connection.sdk.webhooks
    settings: dict[str, Any] = {
        "url": url,
        "headers": {SECRET_HEADER: secret, PROJECT_HEADER: str(project)},
        "actions": list(ACTIONS),
        "send_payload": True,
        "send_for_all_actions": False,
        "is_active": True,
    }
    found = own_webhooks(connection, project)
    if not found:
        with connection.explaining(f"create the webhook of project {project}"):
            webhooks.create(project=project, request_options=ONCE, **settings)
        found = own_webhooks(connection, project)
        if not found:
            raise LabelStudioError(
                f"Label Studio did not keep the webhook of project {project}; look at its log"
            )
    kept, *twins = found
    if any(_differ(getattr(kept, name), value) for name, value in settings.items()):
        with connection.explaining(f"update the webhook of project {project}"):
            webhooks.update(kept.id, **settings)
    for twin in twins:
        _delete(connection, twin.id)
    return int(kept.id)


def own_webhooks(connection: Connection, project: int) -> list[Any]:
    """The project's webhooks that have our header, oldest first."""
    with connection.explaining(f"list the webhooks of project {project}"):
        listed = connection.sdk.webhooks.list(project=str(project))
    own = [each for each in listed if each.project == project and SECRET_HEADER in (each.headers or {})]
    return sorted(own, key=lambda each: int(each.id))


def _differ(present: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return sorted(map(str, present or ())) != sorted(wanted)
    return bool(present != wanted)


def _delete(connection: Connection, webhook: int) -> None:
    from label_studio_sdk.core.api_error import ApiError

    with connection.explaining(f"delete webhook {webhook}, the second one of its project"):
        try:
            connection.sdk.webhooks.delete(webhook)
        except ApiError as error:
            if error.status_code != 404:  # somebody else was quicker
                raise


def receive(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    *,
    max_bytes: int = MAX_BODY_BYTES,
) -> ReviewEvent:
    """Check a call, and take the ids out of it. Touches nothing else, and keeps nothing.

    Args:
        headers: of the call; their names in any case.
        body: as it came, decoded from base64 where a gateway made it so.
        secrets: those that are valid now: one, or two during rotation.
        max_bytes: longer bodies are not parsed.

    Raises:
        WebhookError: 401 wrong secret, 413 too long, 400 not readable. With the last two, `project` is set:
            the sender is known, so look at the whole project.
    """
    named = {name.lower(): value for name, value in headers.items()}
    if not is_authentic(named.get(SECRET_HEADER.lower(), ""), secrets):
        raise WebhookError(401, f"the header {SECRET_HEADER} is missing, or no valid secret")
    project = _number(named.get(PROJECT_HEADER.lower(), ""))
    if len(body) > max_bytes:
        raise WebhookError(
            413, f"the body has {len(body)} bytes; more than {max_bytes} are not read", project
        )
    return parse(body, project)


def is_authentic(given: str, secrets: Iterable[str]) -> bool:
    """Whether this is one of the secrets. All are compared, in a time that does not tell which one fits."""
    presented = given.encode("utf-8", "surrogateescape")
    right = False
    for secret in secrets:
        same = hmac.compare_digest(presented, secret.encode("utf-8", "surrogateescape"))
        right |= same and bool(secret)  # an empty secret is none
    return right


def parse(body: bytes, project: int | None = None) -> ReviewEvent:
    """Take the ids out of a body.

    `ANNOTATIONS_DELETED` has the ids of annotations and not of their tasks.

    Args:
        body: JSON, as Label Studio sends it.
        project: Label Studio's number, if it is known otherwise; it must be the body's.

    Raises:
        WebhookError: 400.
    """

    def refuse(message: str) -> WebhookError:
        return WebhookError(400, message, project)

    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise refuse("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise refuse("the body is not a JSON object")
    action = fields.get("action")
    if action not in ACTIONS:
        raise refuse("the body's `action` is none that boxdrop asks for")
    described = fields.get("project")
    if described is not None:
        number = _number(described.get("id")) if isinstance(described, dict) else None
        if number is None:
            raise refuse("the body's `project` has no `id`")
        if project not in (None, number):
            raise refuse(f"the body is about another project than the header {PROJECT_HEADER}")
        project = number
    if project is None:
        raise refuse("the body does not tell the project")
    tasks: set[int] = set()
    annotations: set[int] = set()
    for entry in _entries(fields, "tasks", refuse):
        tasks.add(_id_of(entry, "id", refuse))
    for key in ("annotation", "annotations"):  # ANNOTATIONS_CREATED has a list under the first
        for entry in _entries(fields, key, refuse):
            annotations.add(_id_of(entry, "id", refuse))
            if "task" in entry:
                tasks.add(_id_of(entry, "task", refuse))
    if len(tasks) + len(annotations) > _MAX_IDS:
        return ReviewEvent(action, project)
    return ReviewEvent(action, project, tuple(sorted(tasks)), tuple(sorted(annotations)))


def _entries(fields: Mapping[str, Any], key: str, refuse: Any) -> list[Mapping[str, Any]]:
    value = fields.get(key)
    entries = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(entry, dict) for entry in entries):
        raise refuse(f"the body's `{key}` must hold objects")
    return entries


def _id_of(entry: Mapping[str, Any], key: str, refuse: Any) -> int:
    number = _number(entry.get(key))
    if number is None:
        raise refuse(f"an entry's `{key}` is no number")
    return number


def _number(value: Any) -> int | None:
    """A number of Label Studio's; its database has 64 bits for them."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63:
        return value
    return None
