"""A Hugging Face data set of a project's verified images, offline. Needs `pip install datasets pillow`.

boxdrop export fruit-baskets --format huggingface --out fruit/ --split train=80,val=20
python examples/huggingface_dataset.py fruit/
"""

import argparse

from datasets import load_dataset


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="what boxdrop exported")
    options = parser.parse_args()
    for split, data in load_dataset("imagefolder", data_dir=options.folder).items():
        print(f"{split}: {len(data)} images")
        for row in data:
            objects = row["objects"]
            print(f"  {row['image'].size}: {len(objects['bbox'])} boxes of {sorted(set(objects['label']))}")


if __name__ == "__main__":
    main()
