"""boxdrop's own format: one item per line, with all of its data."""

from collections.abc import Iterator
from pathlib import Path

from boxdrop.annotate.exports import AtomicFile
from boxdrop.datasets.formats.format import Source
from boxdrop.documents import to_json


class JsonLines:
    """``SPLIT.jsonl``; the fields are those of `boxdrop.datasets.items.Item`."""

    name = "jsonl"
    read_by = "your own programs, jq, pandas"
    keeps = "everything"
    drops = "nothing"
    min_image_side = 1

    def image_path(self, split: str, name: str) -> str:
        return f"images/{split}/{name}"

    def write(self, folder: Path, source: Source) -> Iterator[str]:
        for split in source.splits:
            path = f"{split}.jsonl"
            with AtomicFile(folder / path) as file:
                for entry in source.entries(split):
                    file.write(to_json(entry.item, image=entry.image) + "\n")
            yield path
