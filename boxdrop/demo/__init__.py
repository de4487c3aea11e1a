"""What ships with boxdrop, so that it can be tried offline: a small detector and scenes of fruit baskets.

Both are made by `model_export.demo`. The detector's model card is ``bundle/README.md``; the licences of the
art are in ``scenes/ATTRIBUTION.md``.
"""

from pathlib import Path
from typing import Final

BUNDLE: Final = Path(__file__).parent / "bundle"
"""The demo detector: OWL-ViT architecture, trained on drawings. For photographs, export OWLv2."""

SCENES: Final = Path(__file__).parent / "scenes"
"""Sample images with a labels.yaml."""
