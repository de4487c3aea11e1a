"""A detector with its labels, by the name that the user gave: what `compare` and `shadow` run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.labels import LabelSet
from boxdrop.store.labelsets import read_label_set

if TYPE_CHECKING:
    from boxdrop.detect.merged import AnyDetector
    from boxdrop.ledger import Project
    from boxdrop.services import Services

NOW: Final = "now"
"""What the project uses: its detector and labels in force."""


@dataclass(frozen=True, eq=False, slots=True)
class Side:
    """A detector, loaded, and the labels that it looks for.

    Attributes:
        name: as the user wrote it.
    """

    name: str
    detector: "AnyDetector"
    label_set: LabelSet


def read_current(services: "Services", name: str) -> "tuple[Project, LabelSet]":
    """A project and its labels in force.

    Raises:
        BoxdropError: there is no such project with labels; the message lists those that there are.
    """
    row = services.ledger.project(name)
    if row is None or row.labels is None:
        names = ", ".join(each.name for each in services.ledger.projects() if each.labels) or "none yet"
        raise BoxdropError(f"there is no project {name} with labels; there are: {names}")
    return row, read_label_set(services.data, row.labels)


def open_side(services: "Services", project: "Project", current: LabelSet, said: str) -> Side:
    """Load a side.

    Args:
        services: needs `data`.
        project: its row.
        current: its labels in force.
        said: `NOW`, the name of a detector in the data bucket (or of two: NAME+NAME), a bundle's folder, or a
            labels.yaml. Another detector gets the labels in force without their thresholds and their lesson,
            which belong to the detector in force.

    Raises:
        BoxdropError: there is no such detector, or the file is not a label set.
    """
    from boxdrop.detect import Detector
    from boxdrop.home import home
    from boxdrop.store.bundles import describe, resolve
    from boxdrop.store.detectors import open_detector
    from boxdrop.store.lessons import read_lesson

    path = Path(said)
    label_set, bundle = current, current.detector
    if said != NOW and path.suffix.lower() in (".yaml", ".yml"):
        label_set = LabelSet.from_file(path)
        bundle = label_set.detector or current.detector
    elif said != NOW:
        bundle = said
        own = tuple(replace(label, threshold=None) for label in current)
        label_set = replace(current, labels=own, lesson=None)
    detector: AnyDetector
    if said == NOW and project.bundle_name and project.bundle_digest:  # the default may be another one by now
        ref = describe(services.data, project.bundle_name, project.bundle_digest)
        detector = open_detector(services.data, ref, home() / "detectors")
    elif bundle is not None and (Path(bundle) / "bundle.json").is_file():
        detector = Detector.load(Path(bundle))
    else:
        detector = open_detector(services.data, resolve(services.data, bundle), home() / "detectors")
    if label_set.lesson is not None:
        detector.learn(label_set.lesson, read_lesson(services.data, label_set.lesson))
    return Side(said, detector, label_set)
