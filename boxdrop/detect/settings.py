"""The parts of a bundle's description: where it comes from, how it sees images, how it reads prompts."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from boxdrop.domain.errors import LabelSetError

if TYPE_CHECKING:
    from boxdrop.domain.labels import LabelSet

RESIZES: Final = ("bicubic", "bilinear", "pad-square", "short-edge", "letterbox", "letterbox-corner")
"""Ways to resize to the model's size, see `boxdrop.detect.preprocess`."""

CHANNELS: Final = ("rgb", "bgr")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights come from.

    Attributes:
        id: the id on the Hugging Face hub, or the name of the local folder.
        revision: the hub's commit; for a folder ``sha256:…`` of its weights.
        transformers, torch: versions that exported it.
        licence: from the source's model card; None if it states none.
    """

    id: str
    revision: str
    transformers: str
    torch: str
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How an image becomes the model's input.

    Attributes:
        height, width: of the input in pixels. For ``short-edge``, which keeps the image's aspect ratio: the
            shorter side, and the maximum of the longer side.
        resize: one of `RESIZES`.
        mean, std: per channel, red green blue, of values scaled to 0 to 1.
        channels: their order in the input, ``rgb`` or ``bgr``.
        fill: 0 to 255, of what a letterbox leaves free.
        multiple: for ``short-edge``: both sides are cut to multiples of it.
    """

    height: int
    width: int
    resize: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: str = "rgb"
    fill: int = 0
    multiple: int = 1

    def settings(self) -> dict[str, Any]:
        """For ``bundle.json`` and the digest: without what is as it was before there was a choice."""
        fields = asdict(self)
        for name, before in (("channels", "rgb"), ("fill", 0), ("multiple", 1)):
            if fields[name] == before:
                del fields[name]
        return fields


@dataclass(frozen=True, slots=True)
class Text:
    """How prompts are tokenised.

    Attributes:
        max_length: tokens of a prompt, including begin and end; shorter ones are padded.
        pad_id: the padding token.
        template: the sentence around a prompt, which replaces ``{}``; ``"{}"`` leaves prompts unchanged.
    """

    max_length: int
    pad_id: int
    template: str

    def fill(self, prompt: str) -> str:
        """Put a prompt into the template, unless it already begins like the template.

        OWL's authors query with "a photo of a dog", and the model's scores are calibrated to such sentences,
        but users write "dog". If a user writes "a photo of a red dog", it stays unchanged.
        """
        opening = self.template.split("{}")[0].strip()
        if opening and prompt.lower().startswith(opening.lower()):
            return prompt
        return self.template.replace("{}", prompt)


@dataclass(frozen=True, slots=True)
class Defaults:
    """Scores, 0 < floor <= threshold <= 1.

    Attributes:
        threshold: lowest score that is shown, for labels that set none.
        floor: lowest score that is kept.
    """

    threshold: float
    floor: float


def thresholds_of(label_set: "LabelSet", defaults: Defaults, detector: str) -> list[float]:
    """The lowest score to show for each label: its own threshold, or the default.

    Args:
        label_set: the labels.
        defaults: of the detector.
        detector: its name, for messages.

    Raises:
        LabelSetError: a threshold is below the floor, under which nothing is kept.
    """
    for label in label_set:
        if label.threshold is not None and label.threshold < defaults.floor:
            raise LabelSetError(
                f"label {label.name!r}: threshold {label.threshold:g} is below {defaults.floor:g}, the floor "
                f"of detector {detector}, under which it keeps nothing; raise the threshold to "
                f"{defaults.floor:g} or more"
            )
    return [defaults.threshold if label.threshold is None else label.threshold for label in label_set]


@dataclass(frozen=True, slots=True)
class FileDigest:
    """The expected size and hash of a file."""

    sha256: str
    bytes: int


HELD_OUT: Final = "test"
"""The split whose images measure a detector of one's own; a training does not see them."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a detector of one's own was trained on.

    Attributes:
        project, dataset, digest: the frozen data set, see `boxdrop.datasets.frozen`.
        splits: those whose images it has seen: it learned from them, or they decided when it ended.
        held_out: images with boxes that it has not seen and that measured it.
    """

    project: str
    dataset: str
    digest: str
    splits: tuple[str, ...]
    held_out: int
