"""Which detector images run with: the default, or one project's; and the canary of each."""

from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING

from boxdrop.cli.terminal import say
from boxdrop.domain.detector_names import pinned_name
from boxdrop.domain.errors import BoxdropError, BundleError

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.store.canary import Canary
    from boxdrop.system import System


class DefaultDetector:
    """The detector of projects whose labels.yaml names none.

    Args:
        data: the data bucket.
    """

    def __init__(self, data: "Bucket") -> None:
        self._data = data

    def use(self, detector: str, _yes: bool) -> None:
        """Make a detector the default."""
        from boxdrop.store.bundles import use

        ref = use(self._data, detector)
        say(f"{pinned_name(ref.name, ref.digest)} is now the default")

    def start(self, detector: str, share: float) -> None:
        """Let a detector run on a share of new images."""
        from boxdrop.store.bundles import resolve
        from boxdrop.store.canary import start_canary

        ref = resolve(self._data, detector)
        if ref.digest == resolve(self._data, None).digest:
            raise BundleError(f"{pinned_name(ref.name, ref.digest)} is the default already")
        start_canary(self._data, ref, share, datetime.now(UTC))
        say(
            f"{pinned_name(ref.name, ref.digest)} runs on {100 * share:g} % of new images, in projects "
            "whose labels.yaml names neither a detector nor a lesson (in another one: --in PROJECT). Compare "
            "with: boxdrop bundle canary"
        )

    def promote(self, detector: str | None, _yes: bool) -> None:
        """Make the canary the default."""
        from boxdrop.store.bundles import use
        from boxdrop.store.canary import end_canary, read_canary

        chosen = _name_of(read_canary(self._data), detector, "")
        use(self._data, chosen, after_canary=True)
        say(f"{chosen} is now the default. Projects take it with: boxdrop apply PROJECT")
        end_canary(self._data)

    def end(self) -> None:
        """End the canary."""
        from boxdrop.store.canary import end_canary

        end_canary(self._data)


class ProjectDetector:
    """The detector that one project's labels.yaml names.

    Args:
        system: where the project is.
        project: its name.

    Raises:
        BoxdropError: there is no such project, or it has no labels in force yet.
    """

    def __init__(self, system: "System", project: str) -> None:
        from boxdrop.services import Services

        self._system, self._project = system, project
        self._services = Services.of_system(system)
        self._data = self._services.data
        row = self._services.ledger.project(project)
        if row is None or row.labels is None:
            raise BoxdropError(f"{project} has no labels in force; see: boxdrop status {quote(project)}")
        self._in_force, self._labels = row.bundle_digest, row.labels

    def use(self, detector: str, yes: bool) -> None:
        """Write a detector into labels.yaml, and bring it into force."""
        from boxdrop.store.bundles import check_measured, resolve

        ref = resolve(self._data, detector)
        for single in ref.singles:
            check_measured(single)
        self._write(detector, yes)

    def start(self, detector: str, share: float) -> None:
        """Let a detector run on a share of the project's new images."""
        from boxdrop.pipeline.canary import labels_for_another
        from boxdrop.pipeline.labels import check_detector
        from boxdrop.store.bundles import resolve
        from boxdrop.store.canary import start_canary
        from boxdrop.store.labelsets import read_label_set

        ref = resolve(self._data, detector)
        name = pinned_name(ref.name, ref.digest)
        if ref.digest == self._in_force:
            raise BundleError(f"{name} is the detector of {self._project} already")
        label_set = read_label_set(self._data, self._labels)
        check_detector(ref, labels_for_another(label_set))
        start_canary(self._data, ref, share, datetime.now(UTC), self._project)
        lesson = "" if label_set.lesson is None else ", without the lesson"
        say(
            f"{name} runs on {100 * share:g} % of the new images of {self._project}{lesson}. Compare with: "
            f"boxdrop bundle canary {quote(self._project)}"
        )

    def promote(self, detector: str | None, yes: bool) -> None:
        """Write the canary's detector into labels.yaml, and bring it into force."""
        from boxdrop.store.bundles import resolve
        from boxdrop.store.canary import read_canary

        trial = read_canary(self._data, self._project)
        chosen = _name_of(trial, detector, f" --in {quote(self._project)}")
        assert trial is not None
        newest = resolve(self._data, trial.name)
        self._write(trial.name if newest.digest == trial.digest else chosen, yes)
        self.end()

    def end(self) -> None:
        """End the project's canary."""
        from boxdrop.store.canary import end_canary

        end_canary(self._data, self._project)

    def _write(self, detector: str, yes: bool) -> None:
        from boxdrop.cli.labels_file import LabelsFile
        from boxdrop.domain.label_edit import with_detector

        file = LabelsFile(self._system, self._project)
        file.put(with_detector(file.text, detector, file.where), yes)


def _name_of(trial: "Canary | None", detector: str | None, among: str) -> str:
    """The pinned name of a canary's detector, which is the one that was named, if any was."""
    if trial is None:
        raise BundleError(f"there is no canary; start one with: boxdrop bundle use NAME --canary 5%{among}")
    chosen = pinned_name(trial.name, trial.digest)
    if detector not in (None, trial.name, chosen):
        raise BundleError(f"the canary is {chosen}, not {detector}")
    return chosen
