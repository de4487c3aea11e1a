"""The one family of exceptions that boxdrop raises on purpose.

Each message names the thing that is wrong and the way out of it; the command line prints the message alone.
"""


class BoxdropError(Exception):
    """Base of everything that boxdrop raises on purpose. The text is written for the user."""


class LabelSetError(BoxdropError):
    """A label set that cannot be used: names the file, the line and the fix."""


class LessonError(LabelSetError):
    """A lesson that is missing, altered, cannot be taught, or was taught on another detector."""


class ImageError(BoxdropError):
    """An image that cannot be used. It fails alone: the run it is part of goes on.

    Attributes:
        reason: a short stable word for tables and metrics (``truncated``, ``too_many_pixels``, …).
        width, height: upright size in pixels where the header told it before the failure, else None.
    """

    def __init__(self, reason: str, message: str, *, width: int | None = None, height: int | None = None):
        super().__init__(message)
        self.reason = reason
        self.width = width
        self.height = height


class BundleError(BoxdropError):
    """A detector bundle that is missing, incomplete, altered or of an unknown format."""


class PredictionError(BoxdropError):
    """A prediction record that is not valid: names the record and the field."""


class RunError(BoxdropError):
    """A run's manifest, part, report or summary that is missing or not valid, or does not fit the others."""


class UnavailableError(BoxdropError):
    """A service did not answer, or said that it has too much to do: nobody's fault, try again later."""


class LabelStudioError(BoxdropError):
    """Label Studio is unreachable, refused the call, or answered something that cannot be right."""


class RefusedError(LabelStudioError):
    """Label Studio refused the call for what it asked: the same call is refused again until a person acts."""


class LocalError(BoxdropError):
    """A service of the system on this machine could not be started, reached or stopped."""


class TrackingError(BoxdropError):
    """ZenML is not installed, unreachable, refused the call, or is not what boxdrop can talk to."""
