"""Authors of annotations that no person drew here: a user of Label Studio for each source of boxes."""

import re
from collections.abc import Mapping
from typing import Any, Final

from boxdrop.domain.errors import LabelStudioError
from boxdrop.labelstudio.connection import Connection

_DOMAIN: Final = "dropped.boxdrop.invalid"
"""RFC 2606: mail to a name below ``.invalid`` goes nowhere. Such a user has no password and cannot log in."""


def ensure_author(connection: Connection, name: str) -> int | None:
    """Label Studio's number of the user that stands for a source of boxes, made on its first need.

    Args:
        name: ``coco.json@0123abcd``; people read it in the column "Annotated by".

    Returns:
        None where this token may not make users: then its own user is the author.
    """
    email = f"{re.sub(r'[^a-z0-9.-]+', '-', name.lower()).strip('.-')}@{_DOMAIN}"
    found = _find(connection, email)
    if found is not None:
        return found
    try:
        connection.request(
            f"make the user {email}",
            "POST",
            "/api/users/",
            json={"email": email, "username": email, "first_name": name, "last_name": ""},
        )
    except LabelStudioError:  # no right to, or another process was quicker
        return _find(connection, email)
    return _find(connection, email)


def _find(connection: Connection, email: str) -> int | None:
    try:
        users = connection.request("list users", "GET", "/api/users/")
    except LabelStudioError:
        return None
    listed = users.get("results", []) if isinstance(users, dict) else users
    return next((int(each["id"]) for each in listed if each.get("email") == email), None)


def submit(connection: Connection, task: int, prediction: Mapping[str, Any], author: int | None) -> None:
    """Submit the prediction of a task as an annotation, box by box as it is shown.

    Args:
        prediction: as Label Studio gives it, with its `id` and `result`.
        author: see `ensure_author`.

    Raises:
        LabelStudioError: refused, or nobody knows; look at the task before trying again.
    """
    fields = {} if author is None else {"completed_by": author}
    connection.request(
        f"submit the boxes of task {task}",
        "POST",
        f"/api/tasks/{task}/annotations/",
        json={"result": prediction["result"], "parent_prediction": prediction["id"], **fields},
    )
