"""canary: on which images a detector on trial runs.

A project's own canary runs on a share of its new images, whatever its labels.yaml names: with the labels as
they are, but without a lesson, which belongs to one detector. The canary of the default runs in all other
projects whose labels.yaml names neither a detector nor a lesson: these are the projects that another default
would change.

A hash chooses the images. Their tasks carry the canary's boxes and its model_version, and people verify them
like all others; the report compares both.
"""

from dataclasses import dataclass, replace

from boxdrop.domain.errors import BundleError, LabelSetError
from boxdrop.domain.identity import fraction_of
from boxdrop.domain.labels import LabelSet
from boxdrop.ledger import Project
from boxdrop.pipeline.labels import check_detector
from boxdrop.services import Services
from boxdrop.store.bundles import BundleRef, describe
from boxdrop.store.canary import read_canary
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.manifests import ManifestHeader


@dataclass(frozen=True, slots=True)
class Trial:
    """A canary in one project.

    Attributes:
        bundle: its detector.
        label_set: what it looks for.
        model_version: of its predictions with the project's labels.
        share: of the project's new images.
    """

    bundle: BundleRef
    label_set: LabelSet
    model_version: str
    share: float

    def takes(self, image_id: str) -> bool:
        """Whether the canary runs on an image."""
        return fraction_of(f"canary/{image_id}") < self.share

    def leaves(self, image_id: str) -> bool:
        """Whether an image is left to the detector in force."""
        return not self.takes(image_id)


def find_trial(services: Services, project: Project) -> Trial | None:
    """The canary, if it runs in this project; None if there is none or it cannot run here.

    Raises:
        BoxdropError: the data bucket cannot be read.
    """
    try:
        own = read_canary(services.data, project.name)
        canary = own or read_canary(services.data)
        if canary is None or canary.digest == project.bundle_digest or project.labels is None:
            return None
        label_set = read_label_set(services.data, project.labels)
        if own is None and (label_set.detector is not None or label_set.lesson is not None):
            return None
        label_set = labels_for_another(label_set)
        bundle = describe(services.data, canary.name, canary.digest)
        check_detector(bundle, label_set)
    except (BundleError, LabelSetError):  # a canary must not stop the work of the others
        return None
    version = f"{bundle.name}@{label_set.digest(bundle.digest)[:8]}"
    return Trial(bundle, label_set, version, canary.share)


def labels_for_another(label_set: LabelSet) -> LabelSet:
    """The same labels for another detector than the one that they name; a lesson fits that one only."""
    return replace(label_set, detector=None, lesson=None)


def is_trial(project: Project, header: ManifestHeader) -> bool:
    """Whether a run is a canary's: it has the labels in force, and another detector."""
    return header.generation == project.generation and header.bundle.digest != project.bundle_digest


def threshold_of(services: Services, project: Project, header: ManifestHeader) -> float:
    """The default threshold of a run's boxes: that of its own detector, if the run is a canary's."""
    if is_trial(project, header):
        return describe(services.data, header.bundle.name, header.bundle.digest).threshold
    return project.default_threshold or 0.0
