"""The user's own archive: a folder or a bucket, ranked by a caption with the detector itself.

The caption is the detector's only query, and an image's rank is the highest score of any box. This needs no
second model, and images in which the detector finds nothing would be useless to it. Every image is read once;
only its score is kept.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from boxdrop.detect import Detector
from boxdrop.detect.stream import Found, Stream
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.images import DEFAULT_LIMITS, Limits
from boxdrop.domain.labels import Label, LabelSet
from boxdrop.domain.left_out import OnLeftOut, ignore
from boxdrop.retrieve.candidates import Candidate, Fetched
from boxdrop.retrieve.licenses import OWN, License
from boxdrop.sources import Source, SourceImage

MANY_FETCHERS = 16
"""Threads that fetch from S3; they mostly wait."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The progress of a ranking: images ranked, and images that could not be used."""

    images: int
    unusable: int


def rank(
    source: Source,
    detector: Detector,
    caption: str,
    *,
    top: int,
    threshold: float = 0.0,
    limits: Limits = DEFAULT_LIMITS,
    on_progress: Callable[[Ranking], None] = lambda _: None,
    on_left_out: OnLeftOut = ignore,
) -> list[tuple[float, SourceImage]]:
    """Rank every image of an archive, and return those that match the caption best.

    Args:
        source: the archive.
        detector: scores the images.
        caption: its only query.
        top: how many at most; memory grows with this number, not with the archive.
        threshold: the lowest score; an image in which nothing reaches the detector's floor has 0.
        limits: maximum bytes and pixels; larger images are skipped.
        on_progress: called after each image.
        on_left_out: called for entries that are not images, see `boxdrop.sources.Source`.

    Returns:
        (score, image), best first; ties in the order of the listing.

    Raises:
        BoxdropError: the archive has no image that can be read, or the caption is too long for the detector.
    """
    query = LabelSet((Label(caption, (caption,)),))
    stream = Stream[SourceImage](
        detector,
        query,
        lambda image: source.fetch(image, limits),
        limits=limits,
        fetchers=MANY_FETCHERS if source.folder is None else None,
    )
    best: list[tuple[float, int, SourceImage]] = []  # a heap, worst first
    images = unusable = 0
    for outcome in stream.outcomes(source.images(on_left_out)):
        images += 1
        if isinstance(outcome, Found):
            scores = outcome.candidates.scores
            score = round(float(scores[0]), 6) if len(scores) else 0.0
            if score >= threshold:
                heapq.heappush(best, (score, -images, outcome.item))
                if len(best) > top:
                    heapq.heappop(best)
        else:
            unusable += 1
        on_progress(Ranking(images, unusable))
    if images == unusable:
        raise BoxdropError(f"{source.location}: no readable image here")
    return [(score, image) for score, _, image in sorted(best, reverse=True)]


class Archive:
    """The best images of an archive; see `boxdrop.retrieve.candidates.CandidateSource`.

    Args:
        source: the archive.
        ranked: the result of `rank`.
        limits: of an image.
    """

    def __init__(
        self, source: Source, ranked: list[tuple[float, SourceImage]], limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.name = source.location
        self._source = source
        self._limits = limits
        self._ranked = ranked
        self._images = {_url(source, image): image for _, image in ranked}

    def candidates(self) -> Iterator[Candidate]:
        """See `CandidateSource`."""
        for score, image in self._ranked:
            yield Candidate(
                url=_url(self._source, image),
                source="own archive",
                license=License(OWN, name="own archive"),
                title=image.name.rpartition("/")[2].rpartition(".")[0],
                landing_page="",
                score=score,
            )

    def fetch(self, candidate: Candidate) -> Fetched:
        """See `CandidateSource`."""
        image = self._images[candidate.url]
        return Fetched(self._source.fetch(image, self._limits), candidate.url)


def _url(source: Source, image: SourceImage) -> str:
    return image.name if source.folder is None else str(source.folder / image.name)
