"""Projects whose keys have the earlier form, which begin like those of projects in folders of them.

New keys need none of this: see `boxdrop.store.layout.project_folder`.
"""

from collections.abc import Iterator

from boxdrop.aws.s3 import Bucket, StoredObject
from boxdrop.store.layout import earlier_key, prefixes_of


def get_own(bucket: Bucket, key: str, project: str) -> StoredObject | None:
    """Read the object of a project's key; where there is none, that of the key's earlier form.

    Raises:
        BoxdropError: the bucket cannot be read.
    """
    stored = bucket.get(key)
    earlier = earlier_key(key, project) if stored is None else None
    return stored if earlier is None else bucket.get(earlier)


def list_own(bucket: Bucket, prefix: str, project: str, *, levels: int = 0) -> Iterator[str]:
    """Stream a project's keys below a prefix, then those of the earlier form.

    Args:
        levels: of folders that the project's own keys have below the prefix; deeper keys of the earlier form
            belong to a nested project.

    Raises:
        BoxdropError: the bucket cannot be listed.
    """
    for each in prefixes_of(prefix, project):
        for listed in bucket.list(each):
            if listed.key.removeprefix(each).count("/") == levels:
                yield listed.key
