"""Credits of the images in a folder that `boxdrop retrieve` filled."""

from typing import Any

from boxdrop.retrieve.provenance import SOURCES, Credit, read_sources
from boxdrop.sources import Source


def read_credits(source: Source) -> dict[str, dict[str, Any]]:
    """Read the credits for tasks, by image name; empty for other sources."""
    folder = source.folder
    sources = read_sources(folder / SOURCES) if folder is not None else ()
    return {record.file: Credit.of(record.candidate).task_data() for record in sources}
