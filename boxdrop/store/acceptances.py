"""Which images of a project were accepted without a person, and why: one object per project."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from boxdrop.aws.s3 import Bucket
from boxdrop.documents import DocumentError, from_json, to_json
from boxdrop.store.layout import acceptance_key

if TYPE_CHECKING:
    from boxdrop.domain.labels import LabelSet
    from boxdrop.ledger import Project


@dataclass(frozen=True, slots=True)
class AcceptedImage:
    """An image and the prediction that was judged: accepted, or to be audited."""

    image_id: str
    version: str
    prediction_id: str


@dataclass(frozen=True, slots=True)
class StoredAcceptance:
    """What `boxdrop accept` decided last.

    Attributes:
        at: when.
        began: when the audit began.
        since: only images verified from then on teach the rule; None: all.
        basis: what the boxes depend on, see `basis_of`.
        promise: precision of the accepted boxes, 0 to 1.
        learned_from: verified images.
        proof_right, proof_boxes, proof_images: verified work that the promise was proven on.
        low: precision that it proves, the end of a one-sided 95 % interval.
        audited: verified images of the audit; with `audit_right` of `audit_boxes` boxes right.
        stopped: when the audit broke the promise; None: it holds.
        images: accepted; none where nothing is proven, or the rule stopped.
        audits: images that would have been accepted, and that people verify all the same.
    """

    at: datetime
    began: datetime
    since: datetime | None
    basis: str
    promise: float
    learned_from: int = 0
    proof_right: int = 0
    proof_boxes: int = 0
    proof_images: int = 0
    low: float = 0.0
    audited: int = 0
    audit_right: int = 0
    audit_boxes: int = 0
    stopped: datetime | None = None
    images: tuple[AcceptedImage, ...] = ()
    audits: tuple[AcceptedImage, ...] = ()


def basis_of(project: "Project", label_set: "LabelSet") -> str:
    """What accepted boxes depend on: the detector, the thresholds and the promise. A caption is not in it."""
    thresholds = [[label.name, label.threshold] for label in label_set]
    rule = label_set.review
    parts = [project.model_version, project.default_threshold, thresholds, rule.accept_above, rule.audit]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def write_acceptance(bucket: Bucket, project: str, acceptance: StoredAcceptance) -> None:
    """Store it in place of the one before; call it under the project's lease."""
    bucket.put(acceptance_key(project), to_json(acceptance).encode())


def read_acceptance(bucket: Bucket, project: str) -> StoredAcceptance | None:
    """Read it; None if there is none, or another version of boxdrop wrote it."""
    stored = bucket.get(acceptance_key(project))
    if stored is None:
        return None
    try:
        return from_json(StoredAcceptance, stored.body)
    except DocumentError:
        return None
