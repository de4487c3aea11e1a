"""Detector bundles in the data bucket, where jobs fetch them from.

A bundle's files never change, and its bundle.json is written last. One pointer per name records which digest
the name means (``{"digest": …}``), and one records the default: the name that a project uses whose
labels.yaml names no detector (``{"name": …}``). `Bundle.digest` covers all that determines a detector's
predictions. See `boxdrop.store.layout` for the keys.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from boxdrop.aws.s3 import Bucket, Put
from boxdrop.detect.allotment import merged_defaults, shift_between
from boxdrop.detect.bundle import CARD, Bundle, Defaults, Trained, is_valid_name
from boxdrop.detect.settings import HELD_OUT
from boxdrop.detect.vocabulary import DEMO, VOCABULARY, Vocabulary, read_vocabulary, vocabulary_of
from boxdrop.documents import from_json, to_json
from boxdrop.domain.detector_names import joined, joined_digests, split_digests, split_names
from boxdrop.domain.errors import BoxdropError, BundleError
from boxdrop.store.layout import (
    BUNDLE_DIGITS,
    BUNDLES,
    DEFAULT_BUNDLE_KEY,
    bundle_prefix,
    bundle_versions_prefix,
    latest_bundle_key,
)

_DIGEST = re.compile(r"[0-9a-f]{16}(?:[0-9a-f]{48})?")
_AT_ONCE = 4  # files; boto3 copies each large one in several parts at once

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BundleRef:
    """A bundle in the data bucket.

    Attributes:
        name, digest, family, precision: the bundle's own; `digest` has 64 hexadecimal digits.
        floor: the lowest score that the detector keeps.
        threshold: the lowest score that is shown, for labels that set none.
        prefix: of its files' keys.
        classes: all that it can find, if its classes are fixed; empty for a detector that reads words.
        parts: of two detectors that work together; empty for one.
        trained: what `boxdrop train` trained it on; None for other detectors.
    """

    name: str
    digest: str
    family: str
    precision: str
    floor: float
    threshold: float
    prefix: str
    classes: tuple[str, ...] = ()
    parts: tuple["BundleRef", ...] = ()
    trained: Trained | None = None

    @property
    def singles(self) -> tuple["BundleRef", ...]:
        """The detectors one by one."""
        return self.parts or (self,)


@dataclass(frozen=True, slots=True)
class _Latest:
    digest: str


@dataclass(frozen=True, slots=True)
class _Default:
    name: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A bundle as ``boxdrop bundle list`` shows it.

    Attributes:
        latest: whether its name refers to this one.
        default: whether it is used by projects whose labels.yaml names no detector.
    """

    bundle: BundleRef
    latest: bool
    default: bool


def _ignore(_: str) -> None:
    """Ignore the progress of a copy."""


def push(bucket: Bucket, folder: Path, on_file: Callable[[str], None] = _ignore) -> BundleRef:
    """Upload a bundle to the data bucket; from now on its name refers to this one.

    The very first bundle becomes the default. After an interrupted push, push again.

    Args:
        bucket: the data bucket.
        folder: the bundle; every file's sha256 is checked first.
        on_file: called with the name of each file once it is uploaded.

    Raises:
        BundleError: the folder has no bundle or a damaged one, or the bucket has the same detector under this
            name with a different bundle.json (another default threshold or report).
    """
    bundle = Bundle.load(folder, verify=True)
    ref = _reference(bundle)
    card = (folder / CARD).read_bytes()
    there = bucket.get(ref.prefix + CARD)
    if there is None:
        beside = [*folder.glob("*.md"), *folder.glob(VOCABULARY)]
        names = sorted({*bundle.files, *(file.name for file in beside)})
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            copies = pool.map(lambda name: bucket.upload(ref.prefix + name, folder / name), names)
            for name, _ in zip(names, copies, strict=True):
                on_file(name)
        if bucket.create(ref.prefix + CARD, card) == Put.REFUSED:
            there = bucket.get(ref.prefix + CARD)
    if there is not None and there.body != card:
        raise BundleError(
            f"s3://{bucket.name}/{ref.prefix} holds the same detector with another {CARD} (its default "
            "threshold, source or parity report differs); export it under another --name"
        )
    bucket.put(latest_bundle_key(ref.name), to_json(_Latest(ref.digest)).encode())
    bucket.create(DEFAULT_BUNDLE_KEY, to_json(_Default(ref.name)).encode())
    return ref


def use(bucket: Bucket, detector: str, *, after_canary: bool = False) -> BundleRef:
    """Make a bundle the default for projects whose labels.yaml names no detector.

    Args:
        bucket: the data bucket.
        detector: a name, or two with a + between them; with a digest (``NAME@DIGEST16``), the name refers to
            that bundle from now on.
        after_canary: whether people have verified its boxes on new images.

    Raises:
        BundleError: it is not in the bucket, or was never measured on images that it was not trained on.
    """
    ref = resolve(bucket, detector)
    for single in () if after_canary else ref.singles:
        check_measured(single)
    for single in ref.singles:
        bucket.put(latest_bundle_key(single.name), to_json(_Latest(single.digest)).encode())
    bucket.put(DEFAULT_BUNDLE_KEY, to_json(_Default(ref.name)).encode())
    return ref


def check_measured(ref: BundleRef) -> None:
    """Check that a detector was measured on images that it was not trained on.

    Raises:
        BundleError: it was not.
    """
    if ref.trained is not None and not ref.trained.held_out:
        raise BundleError(
            f"{ref.name} was never measured on images that it was not trained on: the data set "
            f"{ref.trained.dataset} has no split {HELD_OUT} with boxes. Freeze one that has and train again, "
            f"or measure it on new images first: boxdrop bundle use {ref.name} --canary 5%"
        )


def resolve(bucket: Bucket, detector: str | None) -> BundleRef:
    """Find the bundle that a label set selects.

    Args:
        bucket: the data bucket.
        detector: from labels.yaml: a name, ``NAME@DIGEST16``, two of these with a + between them, or None
            for the default.

    Raises:
        BundleError: it is not in the bucket.
    """
    if detector is None:
        default = _pointer(bucket, DEFAULT_BUNDLE_KEY, _Default)
        if default is None:
            raise BundleError(
                f"s3://{bucket.name}: there is no detector yet; upload one with: boxdrop bundle push FOLDER"
            )
        detector = default.name
    return _together([_resolve_one(bucket, each) for each in split_names(detector)])


def _resolve_one(bucket: Bucket, detector: str) -> BundleRef:
    name, _, digest = detector.partition("@")
    if not is_valid_name(name) or (digest and not _DIGEST.fullmatch(digest)):
        raise BundleError(
            f"detector {detector!r}: write the name of a bundle, or NAME@DIGEST with 16 hexadecimal digits; "
            "boxdrop bundle list shows them"
        )
    if not digest:
        latest = _pointer(bucket, latest_bundle_key(name), _Latest)
        if latest is None:
            raise _unknown(bucket, detector)
        digest = latest.digest
    return _describe_one(bucket, name, digest)


def describe(bucket: Bucket, name: str, digest: str) -> BundleRef:
    """Read the description of a bundle in the data bucket.

    Args:
        bucket: the data bucket.
        name: the bundle's, or two with a + between them.
        digest: 64 hexadecimal digits, or the first 16; of two as `BundleRef.digest` has it.

    Raises:
        BundleError: it is not there, or its bundle.json is not valid or describes another bundle.
    """
    names, digests = split_names(name), split_digests(digest)
    if len(names) != len(digests):
        raise BundleError(f"detector {name}: {digest!r} is not the digest of {len(names)}")
    return _together([_describe_one(bucket, *each) for each in zip(names, digests, strict=True)])


def _describe_one(bucket: Bucket, name: str, digest: str) -> BundleRef:
    prefix = bundle_prefix(name, digest)
    stored = bucket.get(prefix + CARD)
    if stored is None:
        raise _unknown(bucket, f"{name}@{digest[:BUNDLE_DIGITS]}")
    bundle = Bundle.parse(stored.body, Path(prefix), f"s3://{bucket.name}/{prefix}{CARD}")
    if bundle.name != name or not bundle.digest.startswith(digest):
        raise BundleError(
            f"s3://{bucket.name}/{prefix}{CARD} was altered: it describes {bundle.name}@{bundle.digest}; "
            "push the bundle again under another name"
        )
    return _reference(bundle)


def fetch(bucket: Bucket, ref: BundleRef, cache: Path) -> Bundle:
    """Download a bundle, unless it is cached, and check the sha256 of every file.

    The folder appears atomically: several processes may share a cache, and be killed at any moment.

    Args:
        bucket: the data bucket.
        ref: which one; of two, one of its `singles`.
        cache: a folder; the bundle will be in NAME/DIGEST16 below it. An existing copy is checked and used,
            or fetched again if it fails the checks.

    Raises:
        BundleError: it is not in the bucket, or the downloaded files do not match its digest.
        BoxdropError: the bucket cannot be read, or the folder not be written.
    """
    folder = cache / ref.name / ref.digest[:BUNDLE_DIGITS]
    try:
        if folder.exists():
            try:
                return _checked(folder, ref)
            except BundleError:
                _remove(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as unfinished:
            arriving = Path(unfinished) / ref.digest[:BUNDLE_DIGITS]
            arriving.mkdir()
            _copy(bucket, ref, arriving)
            _checked(arriving, ref)
            try:
                arriving.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process was first
                    raise
        return _checked(folder, ref)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BoxdropError(f"{cache}: the disk is full; the detector needs room there") from None
        raise BoxdropError(f"{error.filename or cache}: cannot be written: {error.strerror}") from None


def vocabulary(bucket: Bucket, ref: BundleRef) -> Vocabulary | None:
    """The words that a bundle's detector knows; None if it has no list.

    The demo detector's list is part of boxdrop: earlier versions pushed it without one.

    Raises:
        BoxdropError: the bucket cannot be read.
    """
    stored = bucket.get(ref.prefix + VOCABULARY)
    if stored is not None:
        return read_vocabulary(stored.body.decode("utf-8", "replace"))
    if ref.name != DEMO:
        return None
    try:
        from boxdrop.demo import BUNDLE  # not part of the functions' packages, which never need it
    except ModuleNotFoundError:
        return None
    return vocabulary_of(BUNDLE)


def list_bundles(bucket: Bucket) -> Iterator[Listed]:
    """All bundles in the data bucket, by name.

    Raises:
        BundleError: a bundle.json is not valid.
        BoxdropError: the bucket cannot be read.
    """
    default = _pointer(bucket, DEFAULT_BUNDLE_KEY, _Default)
    for name in bucket.list_folders(BUNDLES):
        latest = _pointer(bucket, latest_bundle_key(name), _Latest)
        for digest in bucket.list_folders(bundle_versions_prefix(name)):
            if not bucket.exists(bundle_prefix(name, digest) + CARD):  # a push that was interrupted
                continue
            ref = describe(bucket, name, digest)
            is_latest = latest is not None and latest.digest == ref.digest
            is_default = is_latest and default is not None and name in split_names(default.name)
            yield Listed(ref, is_latest, is_default)


def _copy(bucket: Bucket, ref: BundleRef, folder: Path) -> None:
    stored = bucket.get(ref.prefix + CARD)
    if stored is None:
        raise _unknown(bucket, f"{ref.name}@{ref.digest[:BUNDLE_DIGITS]}")
    (folder / CARD).write_bytes(stored.body)
    names = list(Bundle.parse(stored.body, folder).files)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: bucket.download(ref.prefix + name, folder / name), names))


def _checked(folder: Path, ref: BundleRef) -> Bundle:
    bundle = Bundle.load(folder, verify=True)
    if bundle.digest != ref.digest:
        raise BundleError(
            f"{folder}: is bundle {bundle.name}@{bundle.digest}, not {ref.name}@{ref.digest}; push it again"
        )
    return bundle


def _remove(folder: Path) -> None:
    """Rename a folder, then delete it."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as gone:
        os.replace(folder, Path(gone) / folder.name)
        shutil.rmtree(gone, ignore_errors=True)


def _reference(bundle: Bundle) -> BundleRef:
    return BundleRef(
        name=bundle.name,
        digest=bundle.digest,
        family=bundle.family,
        precision=bundle.precision,
        floor=bundle.defaults.floor,
        threshold=bundle.defaults.threshold,
        prefix=bundle_prefix(bundle.name, bundle.digest),
        classes=bundle.classes,
        trained=bundle.trained,
    )


def _together(refs: Sequence[BundleRef]) -> BundleRef:
    """One detector as it is; two as one."""
    if len(refs) == 1:
        return refs[0]
    first, second = refs
    defaults = merged_defaults([Defaults(each.threshold, each.floor) for each in refs])
    return BundleRef(
        name=joined([each.name for each in refs]),
        digest=joined_digests(
            [each.digest for each in refs], shift_between(first.threshold, second.threshold)
        ),
        family=joined([each.family for each in refs]),
        precision=joined([*dict.fromkeys(each.precision for each in refs)]),
        floor=defaults.floor,
        threshold=defaults.threshold,
        prefix="",
        parts=tuple(refs),
    )


def _pointer(bucket: Bucket, key: str, kind: type[T]) -> T | None:
    stored = bucket.get(key)
    if stored is None:
        return None
    try:
        return from_json(kind, stored.body, where=f"s3://{bucket.name}/{key}", error=BundleError)
    except BundleError as error:
        raise BundleError(f"{error}; fix it with: boxdrop bundle use NAME@DIGEST") from None


def _unknown(bucket: Bucket, detector: str) -> BundleError:
    known = sorted(name for name in bucket.list_folders(BUNDLES))
    there = f"there are: {', '.join(known)}" if known else "there are none yet"
    return BundleError(
        f"s3://{bucket.name}: there is no detector {detector}; {there}. "
        "Upload it with: boxdrop bundle push FOLDER"
    )
