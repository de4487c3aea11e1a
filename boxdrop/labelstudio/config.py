"""Label Studio's labeling configuration: the XML that defines which labels annotators can draw.

Labels have a frozen ``category``, which exports use as class id; without it, Label Studio would number them
alphabetically, and ids would shift whenever a label is added. boxdrop keeps attributes of its own on the
outer ``<View>``: the project's identity, the ids of removed labels, whether its tabs were made, and whether a
pipeline publishes into it. Label Studio keeps attributes that it does not know.
"""

import hashlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Final

from boxdrop.domain.labels import LabelSet

FROM_NAME: Final = "label"
TO_NAME: Final = "image"
DATA_KEY: Final = "image"
ORIGINAL_KEY: Final = "original"
CREDIT_KEY: Final = "credit"

_SMALL_PRINT = (
    ".boxdrop-credit, .boxdrop-credit * { font-size: 12px !important; font-weight: 400 !important; "
    "line-height: 1.4 !important; margin: 0 !important; }"
)
_KEY = "boxdrop-project"
RETIRED = "boxdrop-retired"
_TABS = "boxdrop-tabs"
_PIPELINE = "boxdrop-pipeline"
_MANY_LABELS = 12  # from this many labels on, a search field is worth its height


def labeling_config(label_set: LabelSet, key: str) -> str:
    """Write the configuration of a new project.

    Args:
        label_set: its labels, in order.
        key: identity of the project, see `project_key`.
    """
    view = ET.Element("View", {_KEY: key})
    if len(label_set) > _MANY_LABELS:
        ET.SubElement(
            view,
            "Filter",
            {"name": "filter", "toName": FROM_NAME, "minlength": "0", "placeholder": "Find a label"},
        )
    # Boxes are outlined and barely filled, so annotators can see the object's edge.
    rectangles = {"name": FROM_NAME, "toName": TO_NAME, "strokeWidth": "3", "opacity": "0.12"}
    _set_labels(ET.SubElement(view, "RectangleLabels", rectangles), label_set)
    image = {
        "name": TO_NAME,
        "value": f"${DATA_KEY}",
        "zoom": "true",
        "zoomControl": "true",
        "crosshair": "true",
    }
    # With "fit", the default, Label Studio 1.23 enlarges a small image beyond the available width, and cuts
    # off its edges and the boxes there.
    image["defaultZoom"] = "auto"
    ET.SubElement(view, "Image", image)
    # The image's credit, in small print; empty if none is required.
    ET.SubElement(view, "Style").text = _SMALL_PRINT
    credit = ET.SubElement(view, "View", {"className": "boxdrop-credit"})
    ET.SubElement(credit, "Header", {"value": f"${CREDIT_KEY}", "size": "6", "underline": "false"})
    return written(view)


def identity_of(key: str) -> str:
    """The mark of the project for `key`: a folder's path, ``s3://bucket/prefix/``, or a title."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def project_key(config: str) -> str | None:
    """The boxdrop project that a configuration belongs to; None if boxdrop did not make it."""
    view = parsed(config)
    return None if view is None else view.get(_KEY)


def has_tabs(config: str) -> bool:
    """Whether the Data Manager's tabs were made; later changes to them are the annotators'."""
    view = parsed(config)
    return view is not None and view.get(_TABS) is not None


def with_key(config: str, key: str) -> str:
    """Put a boxdrop project's mark back into a configuration that lost it, for example to hand editing.

    Raises:
        ValueError: it is not XML.
    """
    view = parsed(config)
    if view is None:
        raise ValueError("the labeling configuration is not XML")
    view.set(_KEY, key)
    return written(view)


def is_of_pipeline(config: str) -> bool:
    """Whether a pipeline publishes into the project."""
    view = parsed(config)
    return view is not None and view.get(_PIPELINE) is not None


def with_marks(config: str, *, pipeline: bool) -> str:
    """Record that the Data Manager's tabs were made, and who publishes.

    Args:
        config: as read from Label Studio.
        pipeline: whether a pipeline publishes into the project from now on.

    Returns:
        the same text if all of that is recorded already.
    """
    view = parsed(config)
    if view is None or (has_tabs(config) and (is_of_pipeline(config) or not pipeline)):
        return config
    view.set(_TABS, "made")
    if pipeline:
        view.set(_PIPELINE, "yes")
    return written(view)


def frozen_ids(config: str) -> dict[str, int]:
    """Every label that the project ever had, with its id, including removed ones."""
    view = parsed(config)
    if view is None:
        return {}
    try:
        ids = {str(name): int(number) for name, number in json.loads(view.get(RETIRED, "{}")).items()}
    except (ValueError, AttributeError, TypeError):  # edited by hand
        ids = {}
    for label in view.iterfind(f".//RectangleLabels[@name='{FROM_NAME}']/Label"):
        category = label.get("category", "")
        if category.isdigit():
            ids[label.get("value", "")] = int(category)
    return ids


def trusted_ids(config: str, label_set: LabelSet, label_ids: Mapping[str, int]) -> dict[str, int]:
    """Every label that the project ever had, with its id, where another record of them exists.

    People can rename a label by hand, or give it another category; then the configuration gives an id to a
    second name. What `label_ids` records wins. Of the other labels, only those that are asked for keep their
    ids: another caller has just added them.

    Args:
        config: as read from Label Studio.
        label_set: the labels that are asked for.
        label_ids: the record; if it is empty, the configuration is the only one.
    """
    found = frozen_ids(config)
    if not label_ids:
        return found
    taken = set(label_ids.values())
    added = {
        name: number
        for name, number in found.items()
        if name in label_set and name not in label_ids and number not in taken
    }
    return {**label_ids, **added}


def updated_config(config: str, label_set: LabelSet, known: Mapping[str, int] | None = None) -> str:
    """Update the labels of an existing configuration and leave everything else as people made it.

    Args:
        config: as read from Label Studio.
        label_set: with frozen ids, see `boxdrop.domain.labels.LabelSet.with_frozen_ids`.
        known: of `trusted_ids`. Default: the ids in the configuration.

    Returns:
        the same text if nothing has to change.

    Raises:
        ValueError: the tag that boxdrop's boxes need, ``<RectangleLabels name="label">``, is missing.
    """
    view = parsed(config)
    rectangles = None if view is None else view.find(f".//RectangleLabels[@name='{FROM_NAME}']")
    if view is None or rectangles is None:
        raise ValueError(f'the labeling configuration has no <RectangleLabels name="{FROM_NAME}">')
    before = ET.tostring(view)
    known = frozen_ids(config) if known is None else known
    _set_labels(rectangles, label_set)
    retired = {name: known[name] for name in sorted(known) if name not in label_set}
    if retired:
        view.set(RETIRED, json.dumps(retired))
    else:
        view.attrib.pop(RETIRED, None)
    return config if ET.tostring(view) == before else written(view)


def _set_labels(rectangles: ET.Element, label_set: LabelSet) -> None:
    """Make the ``<Label>`` children match the label set; attributes that people added (a hotkey, a hint)
    stay."""
    existing = {child.get("value"): child for child in rectangles.iterfind("Label")}
    indent = next((child.tail for child in rectangles if child.tail), None)
    for child in existing.values():
        rectangles.remove(child)
    for i, label in enumerate(label_set):
        element = existing.get(label.name)
        if element is None:
            element = ET.Element("Label", {"value": label.name})
            element.tail = indent
        element.set("background", label.color)
        element.set("category", str(label.id))
        rectangles.insert(i, element)


def parsed(config: str) -> ET.Element | None:
    try:
        # XML comments are kept. The text comes from the server that we log in to; Python's parser limits
        # entity expansion (expat ≥ 2.4.1).
        parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))  # noqa: S314
        return ET.fromstring(config, parser=parser)  # noqa: S314
    except ET.ParseError:
        return None


def written(view: ET.Element) -> str:
    ET.indent(view)
    return ET.tostring(view, encoding="unicode")
