"""Projects: found or created from a label set, brought up to date, never at the cost of a person's work."""

import os
from dataclasses import dataclass
from typing import Any, Final

from boxdrop.errors import LabelStudioError, RefusedError
from boxdrop.labels import LabelSet
from boxdrop.labelstudio.config import (
    FROM_NAME,
    frozen_ids,
    identity_of,
    labeling_config,
    project_key,
    updated_config,
)
from boxdrop.labelstudio.connection import ONCE, Connection

_TITLE_LENGTH = 3, 50  # Label Studio's limits
_PRESIGN_MINUTES = 12 * 60
"""How long an image's address works: a page left open over a working day still shows its image. Label
Studio's own default of one minute breaks whatever is loaded later."""

_HIDDEN: Final = (
    "tasks:data.image_id",
    "tasks:data.version",
    "tasks:data.prediction_id",
    "tasks:data.caption",
    "tasks:data.width",
    "tasks:data.height",
    "tasks:inner_id",
    "tasks:completed_at",
    "tasks:cancelled_annotations",
    "tasks:total_predictions",
    "tasks:annotators",
    "tasks:annotations_results",
    "tasks:annotations_ids",
    "tasks:predictions_score",
    "tasks:predictions_model_versions",
    "tasks:predictions_results",
    "tasks:file_upload",
    "tasks:storage_filename",
    "tasks:created_at",
    "tasks:updated_at",
    "tasks:updated_by",
    "tasks:avg_lead_time",
    "tasks:draft_exists",
)
_WIDTHS: Final = {
    "tasks:data.file_name": 170,
    "tasks:data.labels_found": 230,
    "tasks:data.boxes": 90,
    "tasks:data.lowest_score": 130,
    "tasks:data.model_version": 145,
    "tasks:data.state": 90,
}


@dataclass(frozen=True, slots=True)
class Project:
    """A project in Label Studio.

    Attributes:
        id: Label Studio's number of it.
        title: as people see it; they may have changed it.
        url: of its Data Manager.
        label_set: the one asked for, with the ids that the project froze.
    """

    id: int
    title: str
    url: str
    label_set: LabelSet


def ensure_project(
    connection: Connection, label_set: LabelSet, title: str, key: str | None = None
) -> Project:
    """Find the project or create it, and bring its labels up to date.

    It is found by a mark in its labeling configuration, so people may rename it, and a project of theirs that
    happens to have the same title is left alone. Labels are added; one is removed only if no annotation uses
    it. Ids stay what they were, for removed labels, too.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        label_set: what people can draw.
        title: for a new project.
        key: what the project is about, for ever: a folder's path or ``s3://bucket/prefix/``. Default: the
            title.

    Raises:
        RefusedError: a label that annotations use is no longer in the label set.
        LabelStudioError: Label Studio refused, or cannot be reached.
    """
    identity = identity_of(key or title)
    found = _find(connection, identity)
    if found is None:
        _create(connection, label_set, title, identity)
        found = _find(connection, identity)  # of two created at the same time, the older
        if found is None:
            raise LabelStudioError(f"Label Studio did not keep the project {title!r}; look at its log")
    return _bring_up_to_date(connection, found, label_set)


def is_there(connection: Connection, project: int) -> bool:
    """Whether Label Studio (still) has a project of this number."""
    with connection.explaining("list the projects"):
        return any(each.id == project for each in connection.sdk.projects.list(include="id"))


def connect_bucket(connection: Connection, project: Project, bucket: str) -> int:
    """Let Label Studio show ``s3://bucket/…`` of tasks: it signs an address for each image that a browser
    asks for.

    The endpoint is that of this process (``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL``). Label Studio signs
    with the credentials of its own environment, or with ``BOXDROP_PRESIGN_ACCESS_KEY_ID`` and
    ``…_SECRET_ACCESS_KEY``, which it stores: give it a user who can only read. The storage is never synced: a
    sync would make a task of each object.

    Returns:
        Label Studio's number of the storage.

    Raises:
        LabelStudioError: Label Studio cannot reach the bucket with these credentials.
    """
    settings: dict[str, Any] = {
        "bucket": bucket,
        "use_blob_urls": True,
        "presign": True,
        "presign_ttl": _PRESIGN_MINUTES,
        "recursive_scan": False,
        "s3endpoint": os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
        "region_name": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
    }
    credentials = {
        "aws_access_key_id": os.environ.get("BOXDROP_PRESIGN_ACCESS_KEY_ID"),
        "aws_secret_access_key": os.environ.get("BOXDROP_PRESIGN_SECRET_ACCESS_KEY"),
    }
    if all(credentials.values()):
        settings |= credentials
    settings = {name: value for name, value in settings.items() if value is not None}
    storages = connection.sdk.import_storage.s3
    doing = f"connect the bucket {bucket} to project {project.id}"
    with connection.explaining(doing):
        existing = [each for each in storages.list(project=project.id) if each.bucket == bucket]
        if existing:
            storages.update(existing[0].id, project=project.id, **settings)
            return int(existing[0].id)
        title = f"boxdrop: s3://{bucket}"
        created = storages.create(project=project.id, title=title, request_options=ONCE, **settings)
        return int(created.id)


def _find(connection: Connection, identity: str) -> Any | None:
    """The project with this mark; of several, the oldest."""
    with connection.explaining("list the projects"):
        marked = [
            each
            for each in connection.sdk.projects.list(include="id,title,label_config", page_size=100)
            if project_key(each.label_config or "") == identity
        ]
    return min(marked, key=lambda each: int(each.id), default=None)


def _create(connection: Connection, label_set: LabelSet, title: str, identity: str) -> None:
    shortest, longest = _TITLE_LENGTH
    if len(title) < shortest:
        title = f"Images: {title}"
    if len(title) > longest:
        title = title[: longest - 1] + "…"
    labels = ", ".join(label_set.names)
    with connection.explaining(f"create the project {title!r}"):
        created = connection.sdk.projects.create(
            title=title,
            description=f"Boxes found by boxdrop, to be verified: {labels[:300]}",
            label_config=labeling_config(label_set, identity),
            color=label_set.labels[0].color,
            show_collab_predictions=True,
            enable_empty_annotation=True,  # "there is nothing here" is an answer, too
            maximum_annotations=1,
            # In the order in which the images came, or as a tab of the Data Manager is sorted. Sampling by
            # uncertainty would ignore that order, and serve tasks at random while a model_version is
            # replaced.
            sampling="Sequential sampling",
            request_options=ONCE,
        )
        found = _find(connection, identity)
        if found is not None and found.id != created.id:  # somebody was quicker
            connection.sdk.projects.delete(created.id)
            return
        connection.sdk.views.create(
            project=created.id,
            data={
                "title": "To verify",
                "type": "list",
                "target": "tasks",
                "hiddenColumns": {"explore": list(_HIDDEN), "labeling": [*_HIDDEN, *_WIDTHS]},
                "columnsWidth": {"tasks:id": 80, "tasks:total_annotations": 80, **_WIDTHS},
                "gridWidth": 4,
            },
            request_options=ONCE,
        )


def _bring_up_to_date(connection: Connection, found: Any, label_set: LabelSet) -> Project:
    config = found.label_config
    frozen = label_set.with_frozen_ids(frozen_ids(config))
    where = f"project {found.title!r} (number {found.id}) in Label Studio"
    try:
        wanted = updated_config(config, frozen)
    except ValueError as error:
        raise RefusedError(f"{where}: {error}; put it back, or delete the project") from None
    if wanted != config:
        _refuse_to_lose_labels(connection, found.id, frozen, where)
        with connection.explaining(f"change the labels of {where}"):
            connection.sdk.projects.update(found.id, label_config=wanted, show_collab_predictions=True)
    return Project(
        id=found.id,
        title=found.title,
        url=f"{connection.url}/projects/{found.id}/data",
        label_set=frozen,
    )


def _refuse_to_lose_labels(connection: Connection, project: int, label_set: LabelSet, where: str) -> None:
    """Raise if annotations or drafts use a label that is to go. The SDK has no method for the summary."""
    summary = connection.request("read its summary", "GET", f"/api/projects/{project}/summary")
    used: dict[str, int] = {}
    for counts in (summary.get("created_labels") or {}, summary.get("created_labels_drafts") or {}):
        for name, count in (counts.get(FROM_NAME) or {}).items():
            used[name] = used.get(name, 0) + int(count)
    lost = [name for name in used if name not in label_set]
    if lost:
        uses = ", ".join(
            f"{name!r} ({used[name]} {'box' if used[name] == 1 else 'boxes'})" for name in sorted(lost)
        )
        raise RefusedError(
            f"{where}: people have drawn boxes with labels that the label set no longer has: {uses}; "
            "put them back into the label set, or delete those annotations first"
        )
