"""boxdrop's family of exceptions.

Each message names what is wrong and the way out; the command line prints only the message.
"""


class BoxdropError(Exception):
    """Base of all expected errors. The text is written for the user."""


class LabelSetError(BoxdropError):
    """A label set that cannot be used; the message names the file, the line and the fix."""


class LessonError(LabelSetError):
    """A lesson that is missing, altered, cannot be taught, or was taught on another detector."""


class ImageError(BoxdropError):
    """An image that cannot be used. Only this image fails; its run continues.

    Attributes:
        reason: a short stable word for tables and metrics (``truncated``, ``too_many_pixels``, …).
        width, height: upright size in pixels if the header was read before the failure, else None.
    """

    def __init__(self, reason: str, message: str, *, width: int | None = None, height: int | None = None):
        super().__init__(message)
        self.reason = reason
        self.width = width
        self.height = height


class BundleError(BoxdropError):
    """A detector bundle that is missing, incomplete, altered or of an unknown format."""


class PredictionError(BoxdropError):
    """An invalid prediction record; the message names the record and the field."""


class RunError(BoxdropError):
    """A run's manifest, part, report or summary is missing, invalid, or inconsistent with the others."""


class UnavailableError(BoxdropError):
    """A service did not respond, or is overloaded: a temporary fault, retry later."""


class LabelStudioError(BoxdropError):
    """Label Studio is unreachable, refused the call, or sent an invalid response."""


class RefusedError(LabelStudioError):
    """Label Studio refused the call because of its content: a retry fails until the user acts."""


class LocalError(BoxdropError):
    """A service of the local system could not be started, reached or stopped."""


class TrackingError(BoxdropError):
    """ZenML is not installed or unreachable, refused the call, or has an incompatible version."""
