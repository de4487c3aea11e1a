"""The differences between families of models at export, in one table by ``model_type``."""

from typing import TYPE_CHECKING, Any, Final, Protocol

from PIL import Image

from boxdrop.detect.bundle import Preprocess, Text
from model_export.errors import ExportError
from model_export.families.fixed import FIXED_FAMILIES, FixedFamily
from model_export.families.grounding import GroundingFamily
from model_export.families.omdet import OmDetFamily
from model_export.families.owl import OwlFamily
from model_export.reference import Reference
from model_export.source import Origin

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model_export.graphs import Graph


class LoadedModel(Protocol):
    """A loaded transformers model with its processor."""

    preprocess: Preprocess
    model: Any

    def text(self, template: str) -> Text:
        """How prompts are tokenised."""
        ...

    def tokenizer(self) -> "Tokenizer":
        """The tokenizer, without padding or truncation."""
        ...

    def image_graph(self) -> "Graph":
        """pixel_values and query_embeds to logits and boxes."""
        ...

    def text_graph(self) -> "Graph":
        """Tokens to query_embeds."""
        ...

    def reference(self, image: Image.Image, texts: list[str]) -> Reference:
        """Run transformers' own processor, model and post-processing on one image."""
        ...


class ExportFamily(Protocol):
    """How to load the models of one family.

    Attributes:
        name: the family's name in bundles, see ``boxdrop.detect.families``.
        template, threshold, floor: the defaults of its bundles; the floor, the lowest score kept, is a fifth
            of the
            threshold: how far a user may lower a threshold later.
    """

    name: str
    template: str
    threshold: float
    floor: float

    def load(self, origin: Origin) -> LoadedModel:
        """Load model and processor."""
        ...


FAMILIES: Final[dict[str, ExportFamily]] = {
    "owlvit": OwlFamily("owlvit"),
    "owlv2": OwlFamily("owlv2"),
    "grounding-dino": GroundingFamily("grounding-dino"),
    "mm-grounding-dino": GroundingFamily("mm-grounding-dino"),
    "omdet-turbo": OmDetFamily(),
}


def family_of(origin: Origin) -> ExportFamily | FixedFamily:
    """The family of a model.

    Raises:
        ExportError: it is of an unknown family.
    """
    family = FAMILIES.get(origin.model_type) or FIXED_FAMILIES.get(origin.model_type)
    if family is None:
        known = ", ".join((*FAMILIES, *FIXED_FAMILIES))
        raise ExportError(f"{origin.id}: its model_type is {origin.model_type!r}; boxdrop can export {known}")
    return family
