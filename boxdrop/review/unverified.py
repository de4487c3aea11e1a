"""Images that nobody has verified: a sample of them, and what a detector finds there; nothing is stored."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from boxdrop.domain.identity import fraction_of
from boxdrop.domain.images import Limits
from boxdrop.domain.predictions import Prediction, Record
from boxdrop.ledger import Image, State
from boxdrop.pipeline.labels import stored_parts
from boxdrop.store.parts import read_part

if TYPE_CHECKING:
    from boxdrop.ledger import Project
    from boxdrop.records import RecordStream
    from boxdrop.review.sides import Side
    from boxdrop.services import Services
    from boxdrop.sources import SourceImage

_PARTS: Final = 16
"""Parts that a sample should come from at least: the images of a part were uploaded together."""


def sample_unverified(
    services: "Services", project: "Project", count: int, known: frozenset[str]
) -> tuple[list[tuple[Image, Prediction]], int]:
    """Images that wait for a person, drawn by a hash, with the predictions that are published for them.

    Hashes choose parts, and images of a part, so a large project is sampled without reading all of it.

    Args:
        services: needs `ledger` and `data`.
        project: its row.
        count: how many at most.
        known: image_ids to leave out.

    Returns:
        Rows and predictions, by key; and how many images were left out, as far as it has looked.

    Raises:
        BoxdropError: the bucket or the ledger cannot be read.
    """
    parts = sorted(stored_parts(services.data, project), key=lambda each: fraction_of(f"shadow/{each.key}"))
    chosen: dict[str, tuple[Image, Prediction]] = {}
    trained_on: set[str] = set()
    most: int | None = -(-count // _PARTS)
    while parts and len(chosen) < count:
        more = []
        for name in parts:
            if len(chosen) >= count:
                break
            fresh = []
            for row, prediction in waiting_among(
                services, project, read_part(services.data, name.key).records
            ):
                if row.prediction_id != prediction.prediction_id:
                    continue
                if row.image_id in known:
                    trained_on.add(row.image_id)
                elif row.image_id not in chosen:
                    fresh.append((row, prediction))
            fresh.sort(key=lambda pair: fraction_of(f"shadow/{pair[0].image_id}"))
            if most is not None and len(fresh) > most:
                more.append(name)
            for pair in fresh[: min(count - len(chosen), len(fresh) if most is None else most)]:
                chosen[pair[0].image_id] = pair
        parts, most = more, None  # a small project: more of each part
    return sorted(chosen.values(), key=lambda pair: pair[0].key), len(trained_on)


def waiting_among(
    services: "Services", project: "Project", records: Sequence[Record]
) -> Iterator[tuple[Image, Prediction]]:
    """Those of a part's predictions whose image, in this version, waits for a person; with its row.

    Raises:
        BoxdropError: the ledger cannot be read.
    """
    rows = services.ledger.images(each.image_id for each in records)
    for record in records:
        row = rows.get(record.image_id)
        if (
            isinstance(record, Prediction)
            and row is not None
            and (row.state, row.project, row.version) == (State.TASKED, project.name, record.version)
        ):
            yield row, record


def detect_in(services: "Services", side: "Side", rows: Sequence[Image]) -> Iterator[Prediction | None]:
    """The prediction of each image, in order; None where it cannot be read."""
    stream = _stream(services, side)
    for outcome in stream.outcomes(rows):
        record = stream.record(outcome)
        yield record if isinstance(record, Prediction) else None


def time_on(services: "Services", side: "Side", row: Image) -> float | None:
    """Seconds from a decoded image to its boxes, with tiles if the labels ask for them; None if it cannot be
    read."""
    stream = _stream(services, side)
    (outcome,) = stream.outcomes([row])
    if not isinstance(stream.record(outcome), Prediction):
        return None
    return sum(stream.clock.seconds.get(stage, 0.0) for stage in ("preprocess", "detect", "postprocess"))


def _stream(services: "Services", side: "Side") -> "RecordStream[Image]":
    from boxdrop.aws.s3 import Bucket
    from boxdrop.records import RecordStream
    from boxdrop.sources import BucketImages

    others: dict[str, BucketImages] = {services.images.name: BucketImages(services.images)}

    def images_of(row: Image) -> BucketImages:
        if row.bucket not in others:
            others[row.bucket] = BucketImages(Bucket(row.bucket))
        return others[row.bucket]

    def identify(row: Image) -> "SourceImage":
        return images_of(row).image(row.key, row.version or "", row.image_id)

    def fetch(row: Image, limits: Limits) -> bytes:
        return images_of(row).fetch(identify(row), limits)

    return RecordStream(side.detector, side.label_set, fetch, identify)
