"""``python -m model_export SOURCE --out BUNDLE``"""

import os
import sys
from pathlib import Path

import click

from boxdrop.cli.numbers import SCORE
from boxdrop.domain.errors import BoxdropError

PRECISIONS = ("fp32", "fp16", "int8")  # as in model_export.precision, whose imports may not be installed


@click.command(context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The bundle's folder, which is created."
)
@click.option("--name", help="The bundle's name, part of model_version. Default: the last part of SOURCE.")
@click.option("--revision", help="Branch, tag or commit on the hub. The bundle records the commit.")
@click.option(
    "--template",
    help='Sentence that every prompt is put into, unless it begins like it. Default: "a photo of a {}" '
    'for OWL, and for the others "{}", which gives prompts as they are.',
)
@click.option(
    "--threshold",
    type=SCORE,
    help="Lowest score shown for labels that set no threshold. Default: transformers', 0.1 for OWL, 0.25 for "
    "Grounding DINO, 0.3 for OmDet-Turbo.",
)
@click.option(
    "--floor",
    type=SCORE,
    help="Lowest score stored; labels may set thresholds down to it. Default: a fifth of the family's "
    "threshold, or --threshold if that is lower.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Precision of the weights: fp32 gives PyTorch's results; int8 is for CPUs; fp16 for CUDA.",
)
@click.option(
    "--card",
    type=click.Path(path_type=Path),
    help="A model card (Markdown) to add to the bundle as README.md.",
)
@click.option(
    "--opset", type=click.IntRange(17, 20), default=17, show_default=True, help="Opset of the ONNX graphs."
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads. Default: all cores.")
@click.option(
    "--portable",
    is_flag=True,
    help="Leave out the graphs that are optimised for the installed ONNX Runtime: a small model's bundle is "
    "half as large, but a large model starts slower.",
)
@click.option("--force", is_flag=True, help="Replace the bundle at --out, once the new one is complete.")
def main(
    source: str,
    out: Path,
    name: str | None,
    revision: str | None,
    template: str | None,
    threshold: float | None,
    floor: float | None,
    precision: str,
    card: Path | None,
    opset: int,
    threads: int | None,
    portable: bool,
    force: bool,
) -> None:
    """Export a detector of transformers as a bundle for boxdrop.

    SOURCE is an id on the Hugging Face hub, or a folder that save_pretrained() wrote, of one of these
    families: OWL-ViT, OWLv2, Grounding DINO, MM-Grounding-DINO (including LLMDet) and OmDet-Turbo, which find
    any words; or RT-DETR, RT-DETRv2, D-FINE, DEIMv2, LW-DETR, RF-DETR, DETR, Deformable DETR and YOLOS, which
    find their classes. docs/detectors.md compares their accuracy, speed and licences.

    The bundle contains two ONNX graphs (text and images) and the tokenizer, or one graph and the names of its
    classes, and bundle.json, which describes the preprocessing. Before it is stored at --out, drawn images go
    through transformers and through the bundle, with 1 to 80 labels: both must give the same detections, with
    scores within 0.0001 and boxes within 0.1 pixel. Otherwise there is no bundle, and a table shows the
    differences. With --precision int8 or fp16 the graphs are converted after that, and bundle.json records
    the drift.

    \b
    Examples:
      python -m model_export google/owlv2-base-patch16-ensemble --out bundles/owlv2
      python -m model_export google/owlvit-base-patch32 --out bundles/owlvit --precision int8
      python -m model_export IDEA-Research/grounding-dino-tiny --out bundles/gdino --precision fp16
      python -m model_export my-checkpoint/ --out bundles/mine --template "{}" --card CARD.md

    OWL-ViT B/32 takes a minute and 1.2 GB of disk; OWLv2 B/16 and Grounding DINO take several minutes and
    4 GB of memory.
    """
    # transformers' progress bars and advice do not concern an export.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from model_export.exporter import Choices, export
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is not installed; the export needs torch and transformers: "
            'pip install "boxdrop[export]"'
        ) from None
    try:
        choices = Choices(
            name, revision, template, threshold, floor, card, precision, opset, force, threads, portable
        )
        bundle = export(source, out, choices, say=lambda line: click.echo(line, err=True))
    except BoxdropError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{bundle.path}: {bundle.name}, digest {bundle.digest[:8]}")


if __name__ == "__main__":
    sys.exit(main())
