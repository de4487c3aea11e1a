"""What people changed, run by run, for ZenML."""

from dataclasses import replace

import numpy as np

from boxdrop.review.figures import count
from boxdrop.review.reviewed import Reviewed
from boxdrop.review.runs import count_by_run, metadata_of

from .simulated import Rates, simulate


def of_run(each: Reviewed, run_id: str | None) -> Reviewed:
    return replace(each, row=replace(each.row, run_id=run_id))


def test_each_run_has_the_figures_of_the_report_about_its_own_images() -> None:
    rng = np.random.default_rng(0)
    first, second = (list(simulate(rng, 40, Rates(right=right))) for right in (0.9, 0.5))
    mixed = [of_run(each, "one") for each in first] + [of_run(each, "two") for each in second]
    lost = [of_run(each, None) for each in first] + [replace(each, outcomes=None) for each in mixed]
    found = count_by_run([*mixed, *lost])
    assert list(found) == ["one", "two"]
    for run_id, images in (("one", first), ("two", second)):
        alone = count(images)
        assert found[run_id].whole == alone.whole
        assert found[run_id].labels == alone.labels
        told = metadata_of(found[run_id])
        assert told["review_images"] == 40
        assert told["review_precision"] == round(alone.whole.precision.value or 0, 4)
        assert told["review_precision_low"] <= told["review_precision"] <= told["review_precision_high"]
        assert told["review_precision_by_label"] == {"apple": told["review_precision"]}
        assert told["review_seconds_per_image"] == 5.0
    assert count_by_run([]) == {}
