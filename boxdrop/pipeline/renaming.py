"""renaming: give a label another name; it keeps its id, its prompts and its boxes.

In a label set, a renamed label looks like one removed and one added, and verified work with the old name
would keep it from coming into force. So the name changes in the annotations first:

1. Label Studio's project gets the new name beside the old one, under the same id;
2. annotations and drafts are rewritten; the webhook reports each, and collect stores it;
3. the old name is removed from the project and from the ledger's ids.

Each step may be repeated.
"""

from collections.abc import Mapping
from dataclasses import replace

from boxdrop.domain.errors import BoxdropError, LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.renaming import add_names, drop_names, rename_boxes
from boxdrop.ledger import Ledger
from boxdrop.pipeline.publish import hold_lease, number_of
from boxdrop.topology import LEASE_S

_WAIT_S = 60.0


def renamed(label_set: LabelSet, names: Mapping[str, str]) -> LabelSet:
    """A label set with other names; the prompts stay, so detection does not change.

    Args:
        names: new names by old ones.

    Raises:
        LabelSetError: there is no such label, or the new name is taken.
    """
    for old, new in names.items():
        if old not in label_set:
            raise LabelSetError(f"there is no label {old!r}; there are: {', '.join(label_set.names)}")
        if new in label_set or list(names.values()).count(new) > 1:
            raise LabelSetError(f"there is already a label {new!r}; labels cannot be merged by renaming")
    return replace(
        label_set,
        labels=tuple(replace(label, name=names.get(label.name, label.name)) for label in label_set),
    )


def rename_labels(ledger: Ledger, connection: Connection, name: str, names: Mapping[str, str]) -> int:
    """Rename labels in annotations, and keep their ids.

    Args:
        name: the project's.
        names: new names by old ones.

    Returns:
        How many boxes were renamed.

    Raises:
        BoxdropError: the project had a label of the new name before.
        BusyError, LabelStudioError, LedgerError: repeat it, which is safe.
    """
    project = ledger.project(name)
    number = number_of(ledger, name)
    assert project is not None
    for old, new in names.items():
        if new in project.label_ids and project.label_ids[new] != project.label_ids.get(old):
            raise BoxdropError(
                f"{name} had a label {new!r} before, with an id of its own; choose another name"
            )
    with hold_lease(ledger, name, LEASE_S, _WAIT_S) as keep:
        add_names(connection, number, names)
        boxes = rename_boxes(connection, number, names, keep)
        drop_names(connection, number, names)
        ledger.rename_labels(name, names)
    return boxes
