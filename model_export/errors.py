"""The errors of an export."""

from boxdrop.domain.errors import BoxdropError


class ExportError(BoxdropError):
    """A model that cannot be exported: missing, of an unknown family, or different after the export."""
