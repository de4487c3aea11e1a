"""Which images a trained detector has seen: it is never measured on them."""

from typing import TYPE_CHECKING

from boxdrop.datasets.frozen import open_frozen
from boxdrop.datasets.items import DatasetError, Item
from boxdrop.training.plan import TrainingError

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.detect.bundle import Bundle
    from boxdrop.detect.merged import MergedBundle


def images_seen(data: "Bucket", bundle: "Bundle | MergedBundle") -> frozenset[str]:
    """The image_ids that a detector learned from, or that decided when its training ended.

    Args:
        data: the data bucket, which holds its data set.
        bundle: of the detector, or of two that work together. One that `boxdrop train` did not make has seen
            none.

    Raises:
        TrainingError: the data set is not there, or is another one of the same name.
    """
    from boxdrop.detect.merged import MergedBundle

    parts = bundle.parts if isinstance(bundle, MergedBundle) else (bundle,)
    return frozenset().union(*(_seen_by(data, each) for each in parts))


def _seen_by(data: "Bucket", bundle: "Bundle") -> frozenset[str]:
    trained = bundle.trained
    if trained is None:
        return frozenset()
    what = (
        f"{bundle.name} was trained on the data set {trained.dataset} ({trained.digest}) of {trained.project}"
    )
    way_out = "so nothing says which images it has seen; train one on a data set of this system"
    try:
        dataset = open_frozen(data, trained.project, trained.dataset)
    except DatasetError:
        raise TrainingError(f"{what}, which is not in s3://{data.name}, {way_out}") from None
    if dataset.header.digest != trained.digest:
        raise TrainingError(
            f"{what}, but that of s3://{data.name} is another one ({dataset.header.digest}), {way_out}"
        )
    return frozenset(
        each.image_id for each in dataset if isinstance(each, Item) and each.split in trained.splits
    )
