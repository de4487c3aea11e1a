"""What the name of a file or an object says: an image, or what else.

This is the rule for buckets, where a listing shows only names. In a folder, the content of a file that is
not named like an image decides (`boxdrop.domain.image_formats`). Separate from `boxdrop.domain.images`,
because functions that only read names need no decoder.
"""

from typing import Final

from boxdrop.domain.left_out import LeftOut

SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".heic", ".heif", ".hif", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".ico"),
)
"""The file extensions, in lower case, that `is_image_name` accepts."""

OWN_FILES: Final = ("labels.yaml", "sources.jsonl")
"""What boxdrop itself keeps beside images: never an image, and never counted as left out."""

_KINDS: Final = {
    LeftOut.VIDEO: "mp4 m4v mov avi mkv webm wmv flv mpg mpeg mts m2ts 3gp ogv insv lrv",
    LeftOut.SOUND: "mp3 wav flac ogg oga opus m4a aac wma aif aiff",
    LeftOut.PDF: "pdf",
    LeftOut.DOCUMENT: "doc docx odt rtf xls xlsx ods ppt pptx odp key pages numbers epub htm html mhtml",
    LeftOut.TEXT: "txt md rst csv tsv json jsonl xml yaml yml toml ini log py ipynb xmp aae srt",
    LeftOut.ARCHIVE: "zip tar gz tgz bz2 xz zst 7z rar tfrecord",
    LeftOut.DRAWING: "svg svgz eps ps ai wmf emf dxf dwg",
    LeftOut.RAW: (
        "cr2 cr3 crw nef nrw arw srf sr2 dng orf rw2 pef raf raw rwl srw x3f 3fr iiq kdc dcr mrw erf mef mos"
    ),
    LeftOut.UNSUPPORTED: (
        "psd psb xcf jxl jxr wdp hdp qoi dds exr hdr tga pcx pnm pbm pgm ppm pam pfm fits fit fts dcm dicom "
        "h5 hdf5 cur icns sgi svs ndpi"
    ),
    LeftOut.OTHER: "db bin dat exe dll so npy npz pkl pt pth onnx lnk",
}
_BY_EXTENSION: Final = {
    extension: kind for kind, extensions in _KINDS.items() for extension in extensions.split()
}


def is_image_name(name: str) -> bool:
    """Whether a name is that of an image, and not hidden.

    Args:
        name: a file's name, or a path or key with ``/``; only the last part counts. Hidden files do not match
            (macOS leaves a ``._photo.jpg`` beside each photo on other file systems).
    """
    last = name.rpartition("/")[2]
    return not last.startswith(".") and last.lower().endswith(SUFFIXES)


def is_own_file(name: str) -> bool:
    """Whether boxdrop keeps this file beside images, or the key ends in ``/`` and marks a folder."""
    return name.rpartition("/")[2] in ("", *OWN_FILES)


def kind_of_extension(name: str) -> LeftOut | None:
    """What the extension of a name says that is no image's; None if it says nothing."""
    _, dot, extension = name.rpartition("/")[2].lower().rpartition(".")
    return _BY_EXTENSION.get(extension) if dot else None


def reason_of_name(name: str) -> LeftOut | None:
    """Why an object is left out by its name; None for an image.

    Args:
        name: a key, or what follows the listed prefix; hidden folders in it hide what is in them.
    """
    if any(part.startswith(".") for part in name.split("/")):
        return LeftOut.HIDDEN
    if is_image_name(name):
        return None
    known = kind_of_extension(name)
    if known is not None:
        return known
    return LeftOut.OTHER if "." in name.rpartition("/")[2] else LeftOut.NO_EXTENSION


def reason_of_key(key: str) -> LeftOut | None:
    """Why an object of the image bucket is left out by its key; None for an image in a folder.

    The first folder is a project, or holds some; that it begins with a dot hides nothing.
    """
    first, slash, rest = key.partition("/")
    if first and slash:
        return reason_of_name(rest)
    name = rest or first
    return LeftOut.NO_FOLDER if name in OWN_FILES else reason_of_name(name) or LeftOut.NO_FOLDER


def is_own_key(key: str) -> bool:
    """Whether boxdrop itself keeps this object in a folder of the image bucket, or it marks a folder."""
    first, slash, _ = key.partition("/")
    return bool(first and slash) and is_own_file(key)
