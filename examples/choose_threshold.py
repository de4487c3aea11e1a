"""Count the boxes that other thresholds would keep. The detector does not run again.

python examples/choose_threshold.py boxdrop-out/predictions.jsonl "pineapple, banana, apple"
"""

import argparse
from pathlib import Path

from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Prediction, read_jsonl, reselect

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", type=Path)
    parser.add_argument("labels")
    options = parser.parse_args()

    label_set = LabelSet.from_short_form(options.labels)
    records = [each for each in read_jsonl(options.predictions) if isinstance(each, Prediction)]
    for threshold in THRESHOLDS:
        kept = sum(len(reselect(record, label_set, threshold).boxes) for record in records)
        print(f"threshold {threshold}: {kept} boxes")


if __name__ == "__main__":
    main()
