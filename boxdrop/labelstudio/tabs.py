"""Tabs of the Data Manager: the columns it opens with, and filters for the work that is left.

They are made once. Afterwards they belong to the annotators: a changed, renamed or deleted tab stays so.
"""

from typing import Any, Final

from boxdrop.labelstudio.connection import ONCE, Connection
from boxdrop.labelstudio.task_data import ACCEPTED, LOOK_AGAIN_KEY

_HIDDEN: Final = (
    "tasks:data.image_id",
    "tasks:data.version",
    "tasks:data.prediction_id",
    "tasks:data.caption",
    "tasks:data.blind",
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
    "tasks:data.lowest_score": 145,
    "tasks:data.priority": 100,
    "tasks:data.model_version": 145,
    "tasks:data.state": 90,
}


def _number(column: str, operator: str) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": "Number", "value": 0}


def _state(operator: str, value: str) -> dict[str, Any]:
    return {"filter": "filter:tasks:data.state", "operator": operator, "type": "String", "value": value}


_NOT_ACCEPTED: Final = _state("not_equal", ACCEPTED)
_SHOWN: Final = (_state("not_equal", "gone"), _state("not_equal", "stale"))

TABS: Final[dict[str, tuple[tuple[dict[str, Any], ...], tuple[str, ...]]]] = {
    # The counts change as soon as an annotator submits; the column state follows within seconds.
    "To verify": (
        (
            _number("total_annotations", "equal"),
            _number("cancelled_annotations", "equal"),
            _state("not_equal", "gone"),
            _state("not_equal", "failed"),
            _NOT_ACCEPTED,
        ),
        ("tasks:predictions_score",),
    ),
    "Skipped": (
        (_number("cancelled_annotations", "greater"), _number("total_annotations", "equal"), *_SHOWN),
        (),
    ),
    "Stale": ((_state("equal", "stale"),), ()),
    "Done": ((_number("total_annotations", "greater"), *_SHOWN), ("-tasks:updated_at",)),
}
"""Maps titles to filters, all of which a task must pass, and an order.

A prediction's score falls with what there is to check (`boxdrop.labelstudio.task_data.certainty`), so the
images with the most to check come first.
"""


def ensure_tabs(connection: Connection, project: int) -> None:
    """Make the tabs that a project lacks.

    Projects of an earlier version have one tab, *To verify*, without filters: they are added, unless an
    annotator gave it filters or an order.

    Args:
        connection: see `boxdrop.labelstudio.connection.connect`.
        project: Label Studio's number.

    Raises:
        LabelStudioError: Label Studio refused.
    """
    views = connection.sdk.views
    path = f"/api/dm/views?project={project}"
    listed = connection.request(f"list the tabs of project {project}", "GET", path)
    present = {(view.get("data") or {}).get("title"): view for view in listed}
    with connection.explaining(f"make the tabs of project {project}"):
        for title, (filters, ordering) in TABS.items():
            what = {"filters": {"conjunction": "and", "items": list(filters)}, "ordering": list(ordering)}
            view = present.get(title)
            if view is None:
                views.create(project=project, data=_data(title) | what, request_options=ONCE)
            elif title == "To verify" and _is_plain(view["data"]):
                views.update(str(view["id"]), project=project, data={**view["data"], **what})


def ensure_look_again(connection: Connection, project: int) -> None:
    """Make the tab *Look again*, if the project has none; it is made when there is something to list.

    Raises:
        LabelStudioError: Label Studio refused.
    """
    title, column = "Look again", f"tasks:data.{LOOK_AGAIN_KEY}"
    path = f"/api/dm/views?project={project}"
    listed = connection.request(f"list the tabs of project {project}", "GET", path)
    if any((view.get("data") or {}).get("title") == title for view in listed):
        return
    noted = {"filter": f"filter:{column}", "operator": "empty", "type": "String", "value": False}
    what = {"filters": {"conjunction": "and", "items": [noted]}, "ordering": []}
    widths = {"columnsWidth": {**_data(title)["columnsWidth"], column: 300}}
    with connection.explaining(f"make the tab {title} of project {project}"):
        connection.sdk.views.create(project=project, data=_data(title) | widths | what, request_options=ONCE)


def ensure_accepted(connection: Connection, project: int) -> None:
    """Make the tab *Accepted*, and take accepted tasks out of *To verify*, as far as boxdrop made that tab.

    Raises:
        LabelStudioError: Label Studio refused.
    """
    path = f"/api/dm/views?project={project}"
    listed = connection.request(f"list the tabs of project {project}", "GET", path)
    present = {(view.get("data") or {}).get("title"): view for view in listed}
    with connection.explaining(f"make the tab Accepted of project {project}"):
        if "Accepted" not in present:
            items = [_state("equal", ACCEPTED), _number("total_annotations", "equal")]
            what = {"filters": {"conjunction": "and", "items": items}, "ordering": []}
            connection.sdk.views.create(project=project, data=_data("Accepted") | what, request_options=ONCE)
        view = present.get("To verify")
        wanted, _ = TABS["To verify"]
        if view is not None and _filters(view["data"]) == [*wanted[:-1]]:  # of an earlier version
            filters = {**view["data"]["filters"], "items": list(wanted)}
            connection.sdk.views.update(
                str(view["id"]), project=project, data={**view["data"], "filters": filters}
            )


def _filters(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The filters of a tab, without what Label Studio adds to them."""
    keys = ("filter", "operator", "type", "value")
    return [{key: each.get(key) for key in keys} for each in (data.get("filters") or {}).get("items") or []]


def _is_plain(data: dict[str, Any]) -> bool:
    return not (data.get("filters") or {}).get("items") and not data.get("ordering")


def _data(title: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {"explore": list(_HIDDEN), "labeling": [*_HIDDEN, *_WIDTHS]},
        "columnsWidth": {"tasks:id": 80, "tasks:total_annotations": 80, **_WIDTHS},
        "gridWidth": 4,
    }
