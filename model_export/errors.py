"""What can go wrong in an export, in words for the user."""

from boxdrop.domain.errors import BoxdropError


class ExportError(BoxdropError):
    """A model that cannot be exported: missing, of an unknown kind, or different after the export."""
