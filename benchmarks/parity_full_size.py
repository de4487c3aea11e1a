"""Parity of full-size models with transformers, and drift of reduced precisions. Run by hand: hours for all
families on 2 cores. Families that read words, and those with fixed classes.

    python benchmarks/parity_full_size.py [--family owlv2] [--precision int8] [--keep FOLDER] [--quick]

The hub may not be reachable, so the models are made from the published configurations with random weights in
a trained model's range (`model_export.stand_ins`). They go through the real export, whose parity check is the
benchmark: batches of 1 and 4; 1, 3 and 80 labels; four image shapes. One table per family; with
``--precision``, also the drift.

    python benchmarks/parity_full_size.py --explain-wild-weights

shows, for the OWL families, where the box difference of 2.8e-3 of an earlier study with transformers' own
initialisation comes from: it compares torch in 32 bits and ONNX Runtime with torch in 64 bits. If both differ
equally from it, neither is wrong.
"""

import os
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import click

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

NAMES = {
    "owlvit": "OWL-ViT B/32",
    "owlv2": "OWLv2 B/16",
    "grounding-dino": "Grounding DINO, Swin-T",
    "mm-grounding-dino": "MM-Grounding-DINO, Swin-T",
    "omdet-turbo": "OmDet-Turbo, Swin-T",
    "rt_detr": "RT-DETR, R50",
    "rt_detr_v2": "RT-DETRv2, R50",
    "d_fine": "D-FINE",
    "deimv2": "DEIMv2",
    "lw_detr": "LW-DETR",
    "rf_detr": "RF-DETR",
    "deformable_detr": "Deformable DETR, R50",
    "detr": "DETR, R50",
    "yolos": "YOLOS base",
}


@click.command()
@click.option("--family", type=click.Choice(list(NAMES)), help="Only this family.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    help="Precision of the bundle.",
)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep models and bundles in this folder.")
@click.option(
    "--explain-wild-weights", is_flag=True, help="Compare 32-bit errors under wild weights instead."
)
@click.option("--quick", is_flag=True, help="Two image shapes instead of four.")
def main(
    family: str | None, precision: str, keep: Path | None, explain_wild_weights: bool, quick: bool
) -> None:
    """Print one table per family."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        for name in [family] if family else list(NAMES):
            if not explain_wild_weights:
                show_parity(name, precision, folder, quick)
            elif name.startswith("owl"):
                explain(name, folder)


def show_parity(family: str, precision: str, folder: Path, quick: bool) -> None:
    """Export a full-size model and print its parity table and drift with time, memory and sizes."""
    from model_export import exporter
    from model_export.errors import ExportError
    from model_export.exporter import Choices, export
    from model_export.fixed_stand_ins import FULL_FIXED, make_fixed
    from model_export.parity import compare
    from model_export.stand_ins import FULL_SIZE, make

    source = folder / f"{family}-hf"
    if not source.exists() and family in FULL_FIXED:
        make_fixed(source, family, FULL_FIXED[family], full_size=True)
    elif not source.exists():
        make(source, family, FULL_SIZE[family])
    if quick:
        vars(exporter).update(compare=partial(compare, pictures=("wide", "small")))
    lines: list[str] = []
    began = time.monotonic()

    def say(line: str) -> None:
        lines.append(line)
        click.echo(f"[{time.monotonic() - began:6.1f} s] {line.splitlines()[0]}", err=True)

    try:
        bundle = export(
            str(source), folder / f"{family}-{precision}", Choices(force=True, precision=precision), say
        )
        megabytes = f"bundle {sum(entry.bytes for entry in bundle.files.values()) / 1e6:.0f} MB"
    except ExportError:
        megabytes = "no bundle"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    click.echo(
        f"\n{NAMES[family]}, {precision}: {megabytes}, exported and compared in "
        f"{time.monotonic() - began:.0f} s, peak memory {peak:.1f} GB"
    )
    for line in lines:
        if "Δscore" in line:
            click.echo(line)


def explain(family: str, folder: Path) -> None:
    """Print how far torch in 32 bits and ONNX Runtime are from torch in 64 bits, for two scales of weights.

    The images are 240×240, so that it takes seconds: depth and width, which make the error grow, are the
    full ones.
    """
    import numpy as np
    import onnxruntime
    import torch

    from model_export.families.owl import Owl, OwlFamily
    from model_export.graphs import write_graph
    from model_export.source import resolve
    from model_export.stand_ins import FULL_SIZE, make

    vision = FULL_SIZE[family]["vision_config"] | {"image_size": 240}
    vision["patch_size"] = min(vision["patch_size"], 16)
    settings = {"text_config": {"num_hidden_layers": 1}, "vision_config": vision}
    origin = resolve(str(make(folder / f"{family}-240", family, settings)))
    scaled = OwlFamily(family).load(origin)
    torch.manual_seed(0)
    wild = Owl(family, origin, type(scaled.model)(scaled.model.config).eval(), scaled.processor)
    for weights, loaded in (("transformers' initialisation", wild), ("a trained model's range", scaled)):
        loaded.model.set_attn_implementation("eager")
        graph = loaded.image_graph()
        file = folder / f"{family}-240.onnx"
        write_graph(graph, file)
        feed = {name: tensor.numpy() for name, tensor in graph.inputs.items()}
        answers = onnxruntime.InferenceSession(str(file)).run(list(graph.outputs), feed)
        with torch.inference_mode():
            single = [tensor.numpy() for tensor in graph.module(*graph.inputs.values())]
            # Buffers such as the box bias are widened, not computed again: the same model in both precisions.
            wide = graph.module.double()
            double = [tensor.numpy() for tensor in wide(*(x.double() for x in graph.inputs.values()))]
        click.echo(f"{NAMES[family]}, weights in {weights}: largest difference from torch in 64 bits")
        for output, ours, theirs, truth in zip(graph.outputs, answers, single, double, strict=True):
            click.echo(
                f"  {output:7s} torch in 32 bits {np.abs(theirs - truth).max():.1e}   ONNX Runtime "
                f"{np.abs(ours - truth).max():.1e}   values up to {np.abs(truth).max():.3g}"
            )


if __name__ == "__main__":
    main()
