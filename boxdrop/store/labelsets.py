"""Label sets, stored permanently under the sha256 of their text, to which manifests and the ledger refer."""

import hashlib

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import LabelSetError
from boxdrop.domain.labels import LabelSet
from boxdrop.store.layout import label_set_key


def write_label_set(bucket: Bucket, label_set: LabelSet) -> str:
    """Store a label set in the data bucket; returns its digest, the sha256 of its text.

    Raises:
        BoxdropError: it may not be written.
    """
    body = label_set.to_yaml().encode()
    digest = hashlib.sha256(body).hexdigest()
    # Refused: it exists, or another writer is writing the same text. Dispatch has no permission to read it.
    bucket.create(label_set_key(digest), body, "application/yaml")
    return digest


def read_label_set(bucket: Bucket, digest: str) -> LabelSet:
    """Read a label set of the data bucket, and check that it is the one of this digest.

    Raises:
        LabelSetError: it is not there, or was altered.
        BoxdropError: the bucket cannot be read.
    """
    return LabelSet.from_snapshot(read_label_set_text(bucket, digest), _where(bucket, digest))


def read_label_set_text(bucket: Bucket, digest: str) -> str:
    """Read the YAML text of a label set, checked as `read_label_set` checks it.

    Raises:
        LabelSetError: it is not there, or was altered.
        BoxdropError: the bucket cannot be read.
    """
    stored = bucket.get(label_set_key(digest))
    where = _where(bucket, digest)
    if stored is None:
        raise LabelSetError(f"{where}: there is no such label set; put the project's labels.yaml again")
    if hashlib.sha256(stored.body).hexdigest() != digest:
        raise LabelSetError(f"{where}: was altered; put the project's labels.yaml again")
    return stored.body.decode()


def _where(bucket: Bucket, digest: str) -> str:
    return f"s3://{bucket.name}/{label_set_key(digest)}"
