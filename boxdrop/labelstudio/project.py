"""Projects: find or create one from a label set, and update it without losing an annotator's work."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from boxdrop.domain.errors import LabelStudioError, RefusedError
from boxdrop.domain.labels import Label, LabelSet
from boxdrop.labelstudio.config import (
    FROM_NAME,
    frozen_ids,
    has_tabs,
    identity_of,
    is_of_pipeline,
    labeling_config,
    project_key,
    trusted_ids,
    updated_config,
    with_key,
    with_marks,
)
from boxdrop.labelstudio.connection import ONCE, Connection
from boxdrop.labelstudio.tabs import ensure_tabs
from boxdrop.labelstudio.webhook import own_webhooks
from boxdrop.system import PASSES_IMAGES_ON

_FIELDS: Final = "id,title,label_config,description,color"
_TITLE_LENGTH = 3, 50  # Label Studio's limits
_PRESIGN_MINUTES = 12 * 60
"""How long an image's address is valid: a page left open for a working day still shows its image. With Label
Studio's default of one minute, images loaded later would fail."""
_COLORS: Final = ("#2f6f8f", "#3b7a57", "#5b5f97", "#7a6a3f", "#54717a", "#6b4e71", "#3f6b6b", "#8a6d52")
"""Calm colours for project cards; the project's identity selects one."""

_DESCRIBED: Final = "Boxes found by boxdrop, to be verified: "


@dataclass(frozen=True, slots=True)
class Project:
    """A project in Label Studio.

    Attributes:
        id: Label Studio's number.
        title: as shown; people may have changed it.
        url: of its Data Manager.
        label_set: the requested one, with the ids that the project froze.
    """

    id: int
    title: str
    url: str
    label_set: LabelSet


def ensure_project(
    connection: Connection,
    label_set: LabelSet,
    title: str,
    key: str | None = None,
    *,
    pipeline: bool = False,
    label_ids: Mapping[str, int] | None = None,
) -> Project:
    """Find the project or create it, and update its labels.

    It is found by a mark in its labeling configuration. So people may rename it, and another project with the
    same title is left alone. Labels are added; a label is removed only if no annotation uses it. Ids never
    change, not even those of removed labels.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        label_set: the labels that annotators can draw.
        title: for a new project.
        key: the project's permanent identity: a folder's path or ``s3://bucket/prefix/``. Default: the title.
        pipeline: whether the caller is a pipeline. A pipeline takes over a project that `boxdrop annotate`
            made. The reverse is refused: the two would replace each other's labels and boxes.
        label_ids: every label that the project ever had, with its frozen id, if that is recorded elsewhere.
            It wins over what people wrote into the labeling configuration.

    Raises:
        RefusedError: a label that annotations use is no longer in the label set.
        LabelStudioError: Label Studio refused, or cannot be reached.
    """
    identity = identity_of(key or title)
    found = _find(connection, identity)
    if found is None:
        _create(connection, label_set, title, identity)
        found = _find(connection, identity)  # of two created concurrently, the older
        if found is None:
            raise LabelStudioError(f"Label Studio did not keep the project {title!r}; check its log")
    elif not pipeline and (is_of_pipeline(found.label_config) or own_webhooks(connection, found.id)):
        raise RefusedError(
            f"project {found.title!r} (number {found.id}) in Label Studio belongs to the pipeline of "
            f"{key or title}: publishing here would replace its labels and boxes. Leave out "
            "--label-studio; to change what the pipeline detects, change the labels.yaml of its project"
        )
    return _bring_up_to_date(connection, found, label_set, pipeline, label_ids or {})


def is_there(connection: Connection, project: int) -> bool:
    """Whether Label Studio (still) has a project of this number."""
    with connection.explaining("list the projects"):
        return any(each.id == project for each in connection.sdk.projects.list(include="id"))


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """A manual change to a project that keeps boxdrop from working with it.

    Attributes:
        message: what it is and what to do, in a sentence without its full stop.
        by_hand: whether only a person can fix it; else updating the labels does.
    """

    message: str
    by_hand: bool = False


def find_fault(
    connection: Connection, project: int, key: str, label_ids: Mapping[str, int]
) -> ConfigFault | None:
    """Check a project for damage: deleted, or its labeling configuration edited by hand.

    A renamed project is no fault. A configuration that lost boxdrop's mark gets it back; without it, the next
    publication would create a second project.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: its number.
        key: as for `ensure_project`.
        label_ids: every label that the project ever had, with its frozen id.
    """
    with connection.explaining("list the projects"):
        listed = connection.sdk.projects.list(include=_FIELDS, page_size=100)
        found = next((each for each in listed if each.id == project), None)
    if found is None:
        return ConfigFault(
            f"project {project} was deleted in Label Studio; it will be made again with its boxes"
        )
    config = found.label_config or ""
    if project_key(config) is None:
        try:
            marked = with_key(config, identity_of(key))
        except ValueError as error:
            way_out = "restore the old one in Settings → Labeling Interface"
            return ConfigFault(f"{error}: {way_out}", by_hand=True)
        with connection.explaining(f"mark project {project} as boxdrop's"):
            connection.sdk.projects.update(project, label_config=marked)
        return ConfigFault("the labeling configuration was replaced by hand; the labels will be restored")
    ids = frozen_ids(config)
    try:
        updated_config(config, LabelSet((Label("x", ("x",)),)))
    except ValueError as error:
        return ConfigFault(f"{error}: restore it in Settings → Labeling Interface", by_hand=True)
    changed = [name for name in {**label_ids, **ids} if ids.get(name) != label_ids.get(name)]
    if label_ids and changed:
        names = ", ".join(sorted(changed)[:5])
        return ConfigFault(
            f"labels were changed by hand in Label Studio ({names}); those of labels.yaml will be restored"
        )
    return None


def find_disconnection(
    connection: Connection, project: int, *, bucket: str | None, webhook: bool
) -> ConfigFault | None:
    """Check whether people deleted, or switched off, what connects a project with boxdrop.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: its number.
        bucket: that a source storage must read; None if none was connected.
        webhook: whether it must have boxdrop's webhook.
    """
    if webhook and not any(each.is_active for each in own_webhooks(connection, project)):
        return ConfigFault(
            "boxdrop's webhook was deleted or switched off in Label Studio; it will be made again, and until "
            "then only `boxdrop sync` finds what people verify"
        )
    if bucket is not None:
        with connection.explaining(f"list the storages of project {project}"):
            storages = connection.sdk.import_storage.s3.list(project=project)
        if not any(each.bucket == bucket for each in storages):
            return ConfigFault(
                f"the storage of s3://{bucket} was deleted in Label Studio, which cannot show the images "
                "without it; it will be connected again"
            )
    return None


def connect_bucket(connection: Connection, project: Project, bucket: str) -> int:
    """Let Label Studio show ``s3://bucket/…`` addresses of tasks: it signs a URL for each image that a
    browser loads.

    The endpoint is this process's (``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL``). Label Studio signs with
    the credentials of its own environment, or with ``BOXDROP_PRESIGN_ACCESS_KEY_ID`` and
    ``…_SECRET_ACCESS_KEY``, which it stores: use a read-only user. The storage is never synced: a sync would
    create a task for each object. Where browsers reach only Label Studio, it passes the images on instead
    (`boxdrop.system.PASSES_IMAGES_ON`).

    Returns:
        Label Studio's id of the storage.

    Raises:
        LabelStudioError: Label Studio cannot reach the bucket with these credentials.
    """
    doing = f"connect the bucket {bucket} to project {project.id}"
    return _connect(connection, project.id, doing, {"bucket": bucket, "title": f"boxdrop: s3://{bucket}"})


def connect_display_copies(
    connection: Connection, project: int, bucket: str, prefix: str, *, if_connected: bool = False
) -> None:
    """Let Label Studio show the display copies of the data bucket, and nothing else that is in it.

    Connect them once there is one: Label Studio looks for an object below the prefix. A sync that a person
    starts imports nothing, for the filter fits no key.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: its number.
        bucket: the data bucket.
        prefix: what the keys of all copies begin with.
        if_connected: bring an earlier connection up to date only.

    Raises:
        RefusedError, InDoubtError: Label Studio cannot read the copies with these credentials; it answers
            500 to some of what S3 says.
    """
    settings = {
        "bucket": bucket,
        "prefix": prefix,
        "regex_filter": "^$",
        "title": f"boxdrop: s3://{bucket}/{prefix}",
    }
    doing = f"connect s3://{bucket}/{prefix} to project {project}"
    _connect(connection, project, doing, settings, create=not if_connected)


def _connect(
    connection: Connection, project: int, doing: str, storage: Mapping[str, Any], *, create: bool = True
) -> int:
    """Create a source storage, or bring it up to date; 0 where there is none and none is wanted."""
    settings: dict[str, Any] = {
        **storage,
        "use_blob_urls": True,
        "presign": not os.environ.get(PASSES_IMAGES_ON),
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
    with connection.explaining(doing):
        existing = [each for each in storages.list(project=project) if each.bucket == settings["bucket"]]
        if existing:
            del settings["title"]  # people may have changed it
            storages.update(existing[0].id, project=project, **settings)
            return int(existing[0].id)
        if not create:
            return 0
        return int(storages.create(project=project, request_options=ONCE, **settings).id)


def _find(connection: Connection, identity: str) -> Any | None:
    """The project with this mark; the oldest one if there are several."""
    with connection.explaining("list the projects"):
        marked = [
            each
            for each in connection.sdk.projects.list(include=_FIELDS, page_size=100)
            if project_key(each.label_config or "") == identity
        ]
    return min(marked, key=lambda each: int(each.id), default=None)


def _create(connection: Connection, label_set: LabelSet, title: str, identity: str) -> None:
    shortest, longest = _TITLE_LENGTH
    if len(title) < shortest:
        title = f"Images: {title}"
    if len(title) > longest:
        title = title[: longest - 1] + "…"
    with connection.explaining(f"create the project {title!r}"):
        created = connection.sdk.projects.create(
            title=title,
            description=_description(label_set),
            label_config=labeling_config(label_set, identity),
            color=_color(identity),
            show_collab_predictions=True,
            enable_empty_annotation=True,  # "there is nothing here" is an answer as well
            maximum_annotations=1,
            # In the order in which the images arrived, or in that of the Data Manager's tab. Sampling by
            # uncertainty would ignore that order, and serve tasks at random while a model_version is being
            # replaced.
            sampling="Sequential sampling",
            request_options=ONCE,
        )
        found = _find(connection, identity)
        if found is not None and found.id != created.id:  # another caller was first
            connection.sdk.projects.delete(created.id)
            return


def _bring_up_to_date(
    connection: Connection, found: Any, label_set: LabelSet, pipeline: bool, label_ids: Mapping[str, int]
) -> Project:
    config = found.label_config
    known = trusted_ids(config, label_set, label_ids)
    frozen = label_set.with_frozen_ids(known)
    where = f"project {found.title!r} (number {found.id}) in Label Studio"
    try:
        wanted = updated_config(config, frozen, known)
    except ValueError as error:
        raise RefusedError(f"{where}: {error}; restore it, or delete the project") from None
    changed: dict[str, Any] = {}
    if wanted != config:
        _refuse_to_lose_labels(connection, found.id, frozen, where)
        changed |= {"label_config": wanted, "show_collab_predictions": True}
    described = found.description or ""
    if described.startswith(_DESCRIBED) and described != _description(label_set):
        changed["description"] = _description(label_set)  # unless people wrote their own
    if (found.color or "").lower() in {label.color for label in frozen}:
        # earlier versions used the first label's colour: red
        changed["color"] = _color(project_key(config) or "")
    # made before they are recorded: after a crash, the next call checks for them again
    if not has_tabs(config):
        ensure_tabs(connection, found.id)
    marked = with_marks(wanted, pipeline=pipeline)
    if marked != wanted:
        changed["label_config"] = marked
    if changed:
        with connection.explaining(f"change the labels of {where}"):
            connection.sdk.projects.update(found.id, **changed)
    return Project(
        id=found.id,
        title=found.title,
        url=f"{connection.url}/projects/{found.id}/data",
        label_set=frozen,
    )


def _description(label_set: LabelSet) -> str:
    return f"{_DESCRIBED}{', '.join(label_set.names)[:300]}"


def _color(identity: str) -> str:
    return _COLORS[int(hashlib.sha256(identity.encode()).hexdigest(), 16) % len(_COLORS)]


def _refuse_to_lose_labels(connection: Connection, project: int, label_set: LabelSet, where: str) -> None:
    """Raise if annotations or drafts use a label that would be removed. The SDK has no method for the
    summary."""
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
            f"{where}: annotators drew boxes with labels that the label set no longer has: {uses}; add them "
            "to the label set again, or delete those annotations first"
        )
