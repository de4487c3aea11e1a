"""Credits of images that `boxdrop retrieve` brought: creators and licences go with a data set."""

from boxdrop.aws.s3 import Bucket
from boxdrop.retrieve.provenance import SOURCES, SourceRecord


def read_credits(bucket: Bucket, project: str) -> dict[str, SourceRecord]:
    """The retrieved images of a project by their keys; none if nothing was retrieved.

    Raises:
        BoxdropError: the bucket cannot be read, or a line is not a record.
    """
    key = f"{project}/{SOURCES}"
    stored = bucket.get(key)
    if stored is None:
        return {}
    where = f"s3://{bucket.name}/{key}"
    records = (
        SourceRecord.from_json(line, f"{where}: line {number}")
        for number, line in enumerate(stored.body.splitlines(), 1)
    )
    return {f"{project}/{record.file}": record for record in records}
