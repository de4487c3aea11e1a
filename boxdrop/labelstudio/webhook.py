"""The webhook by which Label Studio reports annotators' work: its set-up, and the checks on each call.

Label Studio does not sign webhooks, waits one second for the response, and never retries. So a secret header
authenticates it, the receiver responds at once, and only ids are taken from the body: the state is read from
Label Studio afterwards, which makes order and repetition harmless. `boxdrop sync` repairs what is lost. Label
Studio 1.23 sends no webhook when an annotation becomes a draft, nor when all tasks of a project are deleted.

The body contains the project's ``token`` and ``task_data_password``, and everything that people wrote. Only
the ids in `ReviewEvent` may be logged, queued or put into an error.
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
"""Header with Label Studio's number of the project: known even if the body is too long to read."""

ACTIONS: Final = (
    "ANNOTATION_CREATED",  # submitted or skipped
    "ANNOTATIONS_CREATED",  # predictions turned into annotations in the Data Manager
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_DELETED",  # annotations are deleted with their task, without an event of their own
)

SYNC: Final = "SYNC"
"""In place of one of `ACTIONS`: a schedule, not a webhook, asks for a comparison."""

IMAGES_CHANGED: Final = "IMAGES_CHANGED"
"""In place of one of `ACTIONS`, sent by dispatch: images of these tasks were overwritten or deleted."""

MAX_BODY_BYTES: Final = 1 << 20
"""A body has 2.6 KB for the project and about 0.4 KB per box, twice that if the prediction is included. Bulk
actions send everything in one body, which exceeds this limit at about 300 annotations: then the whole project
is reconciled."""

_MAX_IDS: Final = 10_000


class WebhookError(BoxdropError):
    """A call that is not one of our webhooks, or cannot be read.

    Attributes:
        status: HTTP status of the response; Label Studio ignores it, but it helps people who test.
        project: Label Studio's number of the project, if the secret was right; then reconcile the project.
    """

    def __init__(self, status: int, message: str, project: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.project = project


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """The ids taken from a webhook. Without any, everything in the project may have changed.

    Attributes:
        action: one of `ACTIONS`.
        project: Label Studio's number.
        tasks, annotations: Label Studio's numbers, in ascending order. Deleted annotations come without their
            tasks.
    """

    action: str
    project: int
    tasks: tuple[int, ...] = ()
    annotations: tuple[int, ...] = ()

    @property
    def is_whole_project(self) -> bool:
        """Whether the event does not say what changed."""
        return not self.tasks and not self.annotations

    def to_fields(self) -> dict[str, Any]:
        """As JSON types, for a queue."""
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
    """Find the project's webhook or create it, and update its URL and secret.

    It is recognised by its secret header, so other webhooks are left alone. Everyone with access to the
    project's settings can read the secret there. Concurrent callers end with one webhook, the oldest.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: Label Studio's number.
        url: of the receiver. Label Studio refuses to call private addresses, unless its
            ``SSRF_PROTECTION_ENABLED`` is off.
        secret: sent in `SECRET_HEADER`; during a rotation, the receiver accepts both.

    Returns:
        Label Studio's id of the webhook.

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
                f"Label Studio did not keep the webhook of project {project}; check its log"
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
            if error.status_code != 404:  # another caller was first
                raise


def receive(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    *,
    max_bytes: int = MAX_BODY_BYTES,
) -> ReviewEvent:
    """Check a call and extract its ids. Nothing else of it is kept.

    Args:
        headers: of the call; names in any case.
        body: the raw body, decoded from base64 if a gateway encoded it.
        secrets: the valid ones: one, or two during a rotation.
        max_bytes: longer bodies are not parsed.

    Raises:
        WebhookError: 401 wrong secret, 413 too long, 400 not readable. With the last two, `project` is set:
            the sender is known, so reconcile the whole project.
    """
    named = {name.lower(): value for name, value in headers.items()}
    if not is_authentic(named.get(SECRET_HEADER.lower(), ""), secrets):
        raise WebhookError(401, f"the header {SECRET_HEADER} is missing or not a valid secret")
    project = _number(named.get(PROJECT_HEADER.lower(), ""))
    if len(body) > max_bytes:
        raise WebhookError(413, f"the body has {len(body)} bytes; the limit is {max_bytes}", project)
    return parse(body, project)


def is_authentic(given: str, secrets: Iterable[str]) -> bool:
    """Whether this is one of the secrets. All are compared, in a time that does not reveal which one
    matches."""
    presented = given.encode("utf-8", "surrogateescape")
    right = False
    for secret in secrets:
        same = hmac.compare_digest(presented, secret.encode("utf-8", "surrogateescape"))
        right |= same and bool(secret)  # an empty secret does not count
    return right


def parse(body: bytes, project: int | None = None) -> ReviewEvent:
    """Extract the ids from a body.

    `ANNOTATIONS_DELETED` has the ids of annotations but not of their tasks.

    Args:
        body: JSON, as Label Studio sends it.
        project: Label Studio's number, if known from elsewhere; it must match the body's.

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
        raise refuse("the body's `action` is not one that boxdrop subscribes to")
    described = fields.get("project")
    if described is not None:
        number = _number(described.get("id")) if isinstance(described, dict) else None
        if number is None:
            raise refuse("the body's `project` has no `id`")
        if project not in (None, number):
            raise refuse(f"the body is about another project than the header {PROJECT_HEADER}")
        project = number
    if project is None:
        raise refuse("the body does not name the project")
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
        raise refuse(f"an entry's `{key}` is not a number")
    return number


def _number(value: Any) -> int | None:
    """A Label Studio id; its database stores 64 bits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63:
        return value
    return None
