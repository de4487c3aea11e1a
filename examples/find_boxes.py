"""Find boxes in a folder of images, from Python.

    python examples/find_boxes.py PHOTOS "dog, cat, bicycle" bundles/owlv2

Without a bundle, the demo detector is used, which knows drawings of everyday things.
"""

import argparse
from pathlib import Path

from boxdrop.demo import BUNDLE
from boxdrop.detect import Detector
from boxdrop.domain.errors import ImageError
from boxdrop.domain.image_names import is_image_name
from boxdrop.domain.images import decode, read_file
from boxdrop.domain.labels import LabelSet


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", nargs="?", default="pineapple, banana, apple")
    parser.add_argument("bundle", nargs="?", type=Path, default=BUNDLE)
    options = parser.parse_args()

    label_set = LabelSet.from_short_form(options.labels)
    detector = Detector.load(options.bundle)
    for path in sorted(path for path in options.images.iterdir() if is_image_name(path.name)):
        try:
            image = decode(read_file(path))
        except ImageError as error:
            print(f"{path.name}: {error}")
            continue
        (detections,) = detector.detect([image.pixels], label_set)
        print(f"{path.name}: {len(detections)} boxes")
        for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
            left, top, right, bottom = (round(float(edge)) for edge in box)
            print(f"  {label_set.names[label]} {score:.2f} at {left},{top} to {right},{bottom}")


if __name__ == "__main__":
    main()
