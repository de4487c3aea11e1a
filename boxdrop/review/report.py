"""Making a project's review report: figures, the quality of images, and examples with their pictures."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from boxdrop.review.control import measure_control
from boxdrop.review.figures import Report, count
from boxdrop.review.quality import measure_images, words
from boxdrop.review.reviewed import Reviewed, read_reviewed

if TYPE_CHECKING:
    from boxdrop.services import Services


def make_report(
    services: "Services",
    project: str,
    *,
    quality_images: int = 0,
    observe: Callable[[Reviewed], object] = lambda _: None,
) -> Report:
    """Count what people changed in a project.

    Args:
        services: needs `ledger` and `data`, and `images` to measure quality.
        quality_images: of how many images to measure sharpness and brightness.
        observe: see `boxdrop.review.figures.count`.

    Raises:
        BoxdropError: a bucket or the ledger cannot be read.
    """
    measured = measure_images(services, project, quality_images) if quality_images else {}
    made = count(read_reviewed(services, project), qualities=words(measured), observe=observe)
    return replace(made, control=measure_control(services, project)) if made.blind else made
