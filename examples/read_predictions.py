"""Read predictions that `boxdrop annotate` wrote: boxes per label, the least certain images, failures.

python examples/read_predictions.py boxdrop-out/predictions.jsonl
"""

import argparse
from collections import Counter
from pathlib import Path

from boxdrop.domain.predictions import Failure, read_jsonl


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", type=Path)
    options = parser.parse_args()

    boxes: Counter[str] = Counter()
    least_certain: list[tuple[float, str]] = []
    failures: list[Failure] = []
    for record in read_jsonl(options.predictions):
        if isinstance(record, Failure):
            failures.append(record)
            continue
        boxes.update(box.label for box in record.boxes)
        if record.boxes:
            least_certain.append((min(box.score for box in record.boxes), record.image))

    for label, count in boxes.most_common():
        print(f"{label}: {count} boxes")
    for score, image in sorted(least_certain)[:5]:
        print(f"check {image}: a box with a score of only {score:.2f}")
    for failure in failures:
        print(f"{failure.image}: {failure.reason}: {failure.message}")


if __name__ == "__main__":
    main()
