"""Reading the boxes that other tools wrote: COCO, YOLO, Pascal VOC, Label Studio's JSON."""

from pathlib import Path

from boxdrop.datasets.items import DatasetError
from boxdrop.datasets.readers.coco import is_coco, read_coco
from boxdrop.datasets.readers.label_studio import is_label_studio, read_label_studio
from boxdrop.datasets.readers.reader import Fault, Files, ReadBox, ReadImage, Reading
from boxdrop.datasets.readers.voc import read_voc
from boxdrop.datasets.readers.yolo import class_names, read_yolo

__all__ = ["Fault", "ReadBox", "ReadImage", "Reading", "read_boxes"]


def read_boxes(path: Path) -> Reading:
    """Read a file or folder of boxes; its content tells the format.

    Args:
        path: COCO's or Label Studio's JSON, or a folder of YOLO's label files or VOC's XML files.

    Raises:
        DatasetError: it is none of these, or cannot be read.
    """
    files = Files(path)
    if path.is_dir():
        names = class_names(path, files)
        if names is not None:
            return read_yolo(path, names, files)
        xml = sorted(each for each in path.rglob("*.xml") if each.is_file())
        if xml:
            return read_voc(path, xml, files)
        raise DatasetError(
            f"{path}: no boxes found: a YOLO folder has a data.yaml or classes.txt, a VOC folder XML files"
        )
    document = files.json(path)
    if is_coco(document):
        return read_coco(path, document, files)
    if is_label_studio(document):
        return read_label_studio(document, files)
    if isinstance(document, list) and document and "bbox" in document[0]:
        raise DatasetError(
            f"{path}: these are COCO results, which do not name image files: give the dataset file with "
            "`images`, `categories` and `annotations`"
        )
    raise DatasetError(f"{path}: neither COCO's JSON nor Label Studio's export in the format JSON")
