"""Whom to credit for the images of a folder that `boxdrop retrieve` filled."""

from typing import Any

from boxdrop.retrieve.provenance import SOURCES, Credit, read_sources
from boxdrop.sources import Source


def read_credits(source: Source) -> dict[str, dict[str, Any]]:
    """Read what tasks show about whom to credit, by image name; empty for other sources."""
    folder = source.folder
    sources = read_sources(folder / SOURCES) if folder is not None else ()
    return {record.file: Credit.of(record.candidate).task_data() for record in sources}
