"""The page that shows people what was found: ``index.html`` of an output folder.

It needs no server and no network: data lie beside it as scripts, which a browser loads from ``file://`` too.
"""

from boxdrop.report.page import ReportWriter
from boxdrop.report.thumbnails import make_thumbnail, thumbnail_path

__all__ = ["ReportWriter", "make_thumbnail", "thumbnail_path"]
