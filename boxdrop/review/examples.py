"""Examples of what people changed: a few boxes of each kind and label, cut out of their images."""

import base64
import hashlib
import io
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import PIL.Image

from boxdrop.assessment.outcomes import Change, Corners
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, decode
from boxdrop.review.reviewed import Reviewed

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket

KINDS: Final = (Change.RELABELLED, Change.DELETED, Change.ADDED, Change.ADJUSTED)
PER_KIND: Final = 8
_PER_LABEL: Final = 4
_MARGIN: Final = 0.8
"""Of the longer side of the boxes: what is shown around them."""
_LEAST_PX: Final = 120
_SIDE: Final = 340
_QUALITY: Final = 78


@dataclass(frozen=True, slots=True)
class Example:
    """A box that a person changed.

    Attributes:
        key, version: the image.
        label: offered label; of an added box, its own.
        became: the label that it got; None where it was deleted.
        score: of the offered box; None of an added one.
        before, after: where it was offered and where it is; None where it was not, or is no longer.
    """

    key: str
    version: str
    change: Change
    label: str
    became: str | None
    score: float | None
    before: Corners | None
    after: Corners | None


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of an image around an example.

    Attributes:
        jpeg: as a ``data:`` URL.
        corners: the part, in upright pixels of the image.
    """

    jpeg: str
    corners: Corners


class Picked:
    """Examples of several kinds, evenly over labels, in little memory. A hash decides which ones it keeps, so
    the same work gives the same examples.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[Change, str], list[tuple[str, Example]]] = defaultdict(list)

    def add(self, example: Example, identity: str) -> None:
        """Offer an example; `identity` is unique to it."""
        rank = hashlib.sha256(identity.encode()).hexdigest()
        kept = self._found[example.change, example.label]
        if len(kept) == _PER_LABEL and rank >= kept[-1][0]:
            return
        kept.append((rank, example))
        kept.sort(key=lambda each: each[0])
        del kept[_PER_LABEL:]

    def chosen(self, change: Change, most: int = PER_KIND) -> list[Example]:
        """The examples of one kind: one of each label in turn."""
        queues = [
            [example for _, example in found]
            for (kind, _), found in sorted(self._found.items(), key=lambda item: item[0][1])
            if kind == change
        ]
        turns = (each for turn in itertools.zip_longest(*queues) for each in turn if each is not None)
        return list(itertools.islice(turns, most))

    def pictures(self, bucket: "Bucket") -> Iterator[tuple[Example, Cut | None]]:
        """The chosen examples with their pictures; None where the image can no longer be read.

        Raises:
            UnavailableError: S3 does not answer.
        """
        for change in KINDS:
            for example in self.chosen(change):
                yield example, _cut(bucket, example)


class Examples(Picked):
    """Picks examples while a report is counted."""

    def __call__(self, reviewed: Reviewed) -> None:
        """Look at an image; see `boxdrop.review.figures.count`."""
        if reviewed.outcomes is None:
            return
        drawn: dict[str, Corners] = {}
        for verified in reviewed.outcomes.drawn:
            drawn.setdefault(verified.region, verified.xyxy)
            if verified.change == Change.ADDED:
                self._offer(reviewed, verified.region, Change.ADDED, verified.label, after=verified.xyxy)
        for box in reviewed.outcomes.offered:
            if box.change != Change.KEPT:
                after = None if box.change == Change.DELETED else drawn.get(box.region)
                self._offer(
                    reviewed, box.region, box.change, box.label, box.became, box.score, box.xyxy, after
                )

    def _offer(
        self,
        reviewed: Reviewed,
        region: str,
        change: Change,
        label: str,
        became: str | None = None,
        score: float | None = None,
        before: Corners | None = None,
        after: Corners | None = None,
    ) -> None:
        example = Example(
            reviewed.row.key, reviewed.annotation.version, change, label, became, score, before, after
        )
        self.add(example, f"{reviewed.row.image_id}/{region}")


def _cut(bucket: "Bucket", example: Example) -> Cut | None:
    try:
        image = decode(bucket.read_version(example.key, example.version, DEFAULT_LIMITS.max_bytes))
    except ImageError:
        return None
    shown = [box for box in (example.before, example.after) if box is not None]
    left, top = min(box[0] for box in shown), min(box[1] for box in shown)
    right, bottom = max(box[2] for box in shown), max(box[3] for box in shown)
    side = max(right - left, bottom - top)
    half = max(side * (0.5 + _MARGIN), _LEAST_PX / 2)
    x, y = (left + right) / 2, (top + bottom) / 2
    corners = (
        int(max(0.0, x - half)),
        int(max(0.0, y - half)),
        int(min(float(image.width), x + half)),
        int(min(float(image.height), y + half)),
    )
    picture = PIL.Image.fromarray(image.pixels[corners[1] : corners[3], corners[0] : corners[2]])
    picture.thumbnail((_SIDE, _SIDE), PIL.Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
    data = base64.b64encode(out.getvalue()).decode("ascii")
    return Cut(f"data:image/jpeg;base64,{data}", tuple(map(float, corners)))  # type: ignore[arg-type]
