"""Retrieval: from a collection's candidates to credited images at a destination."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, Limits, decode
from boxdrop.retrieve.candidates import Candidate, CandidateSource
from boxdrop.retrieve.destinations import Destination, digest_of, file_name
from boxdrop.retrieve.downloads import Downloads, Manners
from boxdrop.retrieve.duplicates import NEAR, Seen, perceptual_hash
from boxdrop.retrieve.licenses import LicenseFilter
from boxdrop.retrieve.provenance import Fingerprint, SourceRecord
from boxdrop.retrieve.web import Busy, FetchError

MIN_SIDE: Final = 256
"""Pixels of the shorter side. In smaller images, boxes of small objects have too few pixels."""


@dataclass(slots=True)
class Summary:
    """The result of a retrieval. Counts are of candidates unless noted.

    Attributes:
        offered: by the collection so far.
        images: at the destination now, including those of earlier runs.
        kept: by this run.
        settled_before: offered again after an earlier run, or this one, settled the address.
        other_licenses: left out by ``--license``, by name.
        duplicates, near_duplicates: of images at the destination.
        too_small: below the minimum side.
        failures: the others, by reason.
        bytes: of the images that this run kept.
        exhausted: the collection has no more candidates.
        seconds: duration.
    """

    destination: str
    offered: int = 0
    images: int = 0
    kept: int = 0
    settled_before: int = 0
    other_licenses: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    near_duplicates: int = 0
    too_small: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    exhausted: bool = False
    seconds: float = 0.0

    @property
    def settled(self) -> int:
        """Candidates that this run has finished."""
        return (
            self.kept + self.duplicates + self.near_duplicates + self.too_small + sum(self.failures.values())
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    record: SourceRecord


@dataclass(frozen=True, slots=True)
class _Rejected:
    candidate: Candidate
    reason: str
    message: str


_Outcome = _Kept | _Rejected


class Retrieval:
    """Retrieves images from a collection to a destination.

    Args:
        source: the collection.
        destination: see `boxdrop.retrieve.destinations`.
        caption: the search words; stored with each image.
        licenses: the accepted ones.
        min_side: least pixels of the shorter side.
        near: bits in which perceptual hashes of one image may differ; None keeps near duplicates.
        limits: maximum bytes and pixels of an image.
        manners: rules for polite downloads.
        stop: called when the retrieval ends early, to end all waiting.
    """

    def __init__(
        self,
        source: CandidateSource,
        destination: Destination,
        *,
        caption: str = "",
        licenses: LicenseFilter = LicenseFilter(),  # noqa: B008 — frozen
        min_side: int = MIN_SIDE,
        near: int | None = NEAR,
        limits: Limits = DEFAULT_LIMITS,
        manners: Manners = Manners(),  # noqa: B008 — frozen
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.source = source
        self.destination = destination
        self._caption = caption
        self._licenses = licenses
        self._min_side = min_side
        self._limits = limits
        self._manners = manners
        self._stop = stop
        self._seen = Seen(near)
        self._settled: set[bytes] = set()

    def run(
        self, wanted: int | None = None, on_progress: Callable[[Summary], None] = lambda _: None
    ) -> Summary:
        """Retrieve until the destination has `wanted` images, or the collection has no more.

        An address that an earlier run settled, with or without an image, is not fetched again. Images that
        the user deleted from the destination count as existing: they are not fetched again.

        Args:
            wanted: number of images, including those of earlier runs; None: all that the collection offers.
            on_progress: called after each candidate.

        Raises:
            BoxdropError: the collection or the destination fails. Stored images stay; run again to resume.
        """
        started = time.monotonic()
        summary = Summary(self.destination.location)
        with self.destination.open():
            for record in self.destination.kept():
                summary.images += 1
                self._seen.add(record.fingerprint, record.file)
                self._settled.add(digest_of(record.candidate.url))
            self._settled.update(map(digest_of, self.destination.rejected()))
            downloads = Downloads(self._fetch, self._given_up, self._manners, self._stop)
            try:
                for outcome in downloads.results(
                    self._candidates(summary), lambda: 1 << 30 if wanted is None else wanted - summary.images
                ):
                    self._settle(outcome, summary)
                    on_progress(summary)
            finally:
                self.destination.finish()
        summary.seconds = time.monotonic() - started
        return summary

    def _candidates(self, summary: Summary) -> Iterator[Candidate]:
        """The candidates to fetch: with an accepted licence, and not settled."""
        for candidate in self.source.candidates():
            summary.offered += 1
            if not self._licenses.takes(candidate.license):
                name = candidate.license.name or candidate.license.code
                summary.other_licenses[name] = summary.other_licenses.get(name, 0) + 1
                continue
            digest = digest_of(candidate.url)
            if digest in self._settled:
                summary.settled_before += 1
                continue
            self._settled.add(digest)
            yield candidate
        summary.exhausted = True

    def _fetch(self, candidate: Candidate) -> _Outcome:
        """Fetch, decode and check for duplicates, in a thread."""
        width, height = candidate.width, candidate.height
        if width is not None and height is not None and min(width, height) < self._min_side:
            return _Rejected(candidate, "too_small", f"{width}×{height} pixels, according to the collection")
        try:
            fetched = self.source.fetch(candidate)
            image = decode(fetched.data, self._limits)
        except (FetchError, ImageError) as error:
            return _Rejected(candidate, error.reason, str(error))
        if min(image.width, image.height) < self._min_side:
            return _Rejected(candidate, "too_small", f"{image.width}×{image.height} pixels")
        fingerprint = Fingerprint(
            hashlib.sha256(fetched.data).hexdigest(),
            None if self._seen.near is None else perceptual_hash(image.pixels),
        )
        name = file_name(candidate.title, fingerprint.sha256, image.format)
        if twin := self._seen.claim(fingerprint, name):
            return _Rejected(candidate, "duplicate" if twin[1] else "near_duplicate", f"of {twin[0]}")
        record = SourceRecord(
            file=name,
            candidate=candidate,
            caption=self._caption,
            width=image.width,
            height=image.height,
            size=len(fetched.data),
            fingerprint=fingerprint,
            retrieved_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            final_url=fetched.url,
        )
        self.destination.place(record, fetched.data, image.format)
        return _Kept(record)

    @staticmethod
    def _given_up(candidate: Candidate, busy: Busy) -> _Outcome:
        return _Rejected(candidate, busy.reason, str(busy))

    def _settle(self, outcome: _Outcome, summary: Summary) -> None:
        if isinstance(outcome, _Kept):
            self.destination.keep(outcome.record)
            summary.kept += 1
            summary.images += 1
            summary.bytes += outcome.record.size
            return
        match outcome.reason:
            case "duplicate":
                summary.duplicates += 1
            case "near_duplicate":
                summary.near_duplicates += 1
            case "too_small":
                summary.too_small += 1
            case reason:
                summary.failures[reason] = summary.failures.get(reason, 0) + 1
                if reason in _PASSING or reason.startswith("http_5") or reason == "http_429":
                    return  # the next run may have more luck
        self.destination.reject(outcome.candidate.url, outcome.reason, outcome.message)


_PASSING: Final = ("timeout", "connection", "too_slow")
