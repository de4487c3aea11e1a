"""Detectors by name for a system: what its data bucket lacks is got and pushed."""

from pathlib import Path
from typing import TYPE_CHECKING

from boxdrop.domain.detector_names import joined, split_names
from boxdrop.domain.errors import BundleError

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.cli.console import Console
    from boxdrop.store.bundles import BundleRef


def provide(bucket: "Bucket", detector: str, console: "Console") -> "BundleRef":
    """Find a detector in the data bucket, or push it there.

    Args:
        bucket: the data bucket.
        detector: the name of one in the bucket, a known one, or a bundle's folder; or two with a + between
            them. A known one that is not on this machine is got first; a terminal asks.
        console: shows what happens.

    Returns:
        the detector in the bucket; its name is what labels.yaml takes.

    Raises:
        BoxdropError: there is no such detector, or it cannot be got or pushed.
    """
    from boxdrop.store.bundles import resolve

    return resolve(bucket, joined([_provide_one(bucket, name, console) for name in split_names(detector)]))


def _provide_one(bucket: "Bucket", detector: str, console: "Console") -> str:
    from boxdrop.cli.detectors import locate
    from boxdrop.detectors.catalogue import known_detector
    from boxdrop.detectors.shelf import find_detector
    from boxdrop.store.bundles import push, resolve

    folder = Path(detector).expanduser()
    if not folder.is_dir():
        try:
            resolve(bucket, detector)
            return detector
        except BundleError:
            if find_detector(detector) is None and known_detector(detector) is None:
                raise
    found = locate(detector, console)
    with console.working(f"Uploading {detector} to the data bucket"):
        return push(bucket, found).name
