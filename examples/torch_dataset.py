"""A PyTorch data set of what people verified in a project: upright pixels, boxes and classes.

python examples/torch_dataset.py fruit-baskets

A detector of torchvision takes such images and targets as they are. Images are read from the bucket when they
are asked for; for several epochs, export the project once and read the files instead.
"""

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import boxdrop


class VerifiedBoxes(Dataset[tuple[Tensor, dict[str, Tensor]]]):  # type: ignore[misc]
    """The verified images of a split: float32 [3, height, width], 0 to 1, and torchvision's targets."""

    def __init__(self, project: str, split: str, splits: str = "train=80,val=20") -> None:
        self.samples = list(boxdrop.verified(project, split=split, splits=splits))  # no pixels yet

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        sample = self.samples[index]
        target = {
            "boxes": torch.from_numpy(sample.boxes),
            "labels": torch.from_numpy(sample.classes),
            "image_id": torch.tensor(sample.item.number),
        }
        return torch.from_numpy(sample.read()).permute(2, 0, 1).float() / 255, target


def as_lists(batch: list[Any]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images differ in size, so a batch is two lists."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project")
    options = parser.parse_args()
    for split in ("train", "val"):
        data = VerifiedBoxes(options.project, split)
        print(f"{split}: {len(data)} images")
        for images, targets in DataLoader(data, batch_size=4, collate_fn=as_lists):
            for image, target in zip(images, targets, strict=True):
                print(f"  {tuple(image.shape)}: {len(target['boxes'])} boxes")


if __name__ == "__main__":
    main()
