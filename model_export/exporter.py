"""The export: load, trace two graphs, compare, and only then move the bundle to its place."""

import errno
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from boxdrop.detect.bundle import (
    CARD,
    IMAGE_GRAPH,
    TEXT_GRAPH,
    TOKENIZER,
    Bundle,
    Defaults,
    Source,
    Text,
    cpu_graph,
    digest_of,
    is_valid_name,
)
from boxdrop.detect.contract import FIXED
from boxdrop.detect.detector import Detector
from model_export.drift import CHOOSING_LIMITS, LIMITS, measure
from model_export.errors import ExportError
from model_export.families import family_of
from model_export.families.fixed import FixedFamily, FixedModel
from model_export.graphs import OPSET, plain_attention, write_graph
from model_export.optimise import optimise
from model_export.parity import compare, label_sets_of
from model_export.precision import PRECISIONS, to_fp16, to_int8
from model_export.source import check_download, resolve


@dataclass(frozen=True, slots=True)
class Choices:
    """The user's options; None: the family's or the source's default.

    Attributes:
        name: of the bundle.
        revision: on the hub.
        template: the sentence around prompts.
        threshold, floor: default scores.
        card: a model card to add to the bundle as ``README.md``.
        precision: one of `model_export.precision.PRECISIONS`.
        opset: of the graphs.
        force: replace an existing bundle.
        threads: CPU threads for tracing and parity; None: all cores.
        portable: leave out the graphs that are optimised for this version of ONNX Runtime on a CPU.
    """

    name: str | None = None
    revision: str | None = None
    template: str | None = None
    threshold: float | None = None
    floor: float | None = None
    card: Path | None = None
    precision: str = "fp32"
    opset: int = OPSET
    force: bool = False
    threads: int | None = None
    portable: bool = False


def export(
    source: str, out: Path, choices: Choices | None = None, say: Callable[[str], None] = lambda _: None
) -> Bundle:
    """Export a model to a new bundle.

    The bundle is made in a folder beside `out` and renamed at the end, so `out` never has an incomplete
    bundle.

    Args:
        source: a folder that ``save_pretrained`` wrote, or a hub id.
        out: the bundle's folder.
        choices: see `Choices`.
        say: called with each stage.

    Raises:
        ExportError: the model cannot be exported, or the bundle gives different results; then nothing is left
            behind.
    """
    choices = choices or Choices()
    _check(out, choices)
    origin = resolve(source, choices.revision)
    family = family_of(origin)
    fixed = isinstance(family, FixedFamily)
    name = choices.name or _name_from(origin.id)
    if fixed and choices.template is not None:
        raise ExportError(f"--template: a {family.name} has fixed classes and reads no words; leave it out")
    template = "{}" if isinstance(family, FixedFamily) else family.template
    template = template if choices.template is None else choices.template
    threshold = family.threshold if choices.threshold is None else choices.threshold
    floor = min(family.floor, threshold) if choices.floor is None else choices.floor
    if not 0 < floor <= threshold <= 1:
        raise ExportError(f"threshold {threshold:g} and floor {floor:g}: need 0 < floor <= threshold <= 1")
    if template.count("{}") != 1:
        raise ExportError(f"--template {template!r}: must hold {{}} once, where the prompt goes")
    out.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        if choices.threads is not None:
            torch.set_num_threads(choices.threads)
        say(f"loading {origin.id} ({family.name}, {origin.revision})")
        try:
            loaded = family.load(origin)
        except ExportError:
            check_download(origin)  # a damaged file explains it
            raise
        check_download(origin)
        written: list[Path] = []
        text: Text | None = None
        if isinstance(loaded, FixedModel):
            say("tracing the model")
            image_graph = loaded.image_graph()
            written += write_graph(image_graph, workshop / IMAGE_GRAPH, choices.opset)
        else:
            text = loaded.text(template)
            loaded.tokenizer().save(str(workshop / TOKENIZER))
            written.append(workshop / TOKENIZER)
            with plain_attention(loaded.model):
                say("tracing the text encoder")
                written += write_graph(loaded.text_graph(), workshop / TEXT_GRAPH, choices.opset)
                say("tracing the image encoder and the heads")
                image_graph = loaded.image_graph()
                written += write_graph(image_graph, workshop / IMAGE_GRAPH, choices.opset)
        bundle = Bundle(
            path=workshop,
            name=name,
            family=FIXED if fixed else family.name,
            precision="fp32",
            source=Source(
                id=origin.id,
                revision=origin.revision,
                transformers=version("transformers"),
                torch=version("torch"),
                licence=origin.licence,
            ),
            preprocess=loaded.preprocess,
            text=text,
            defaults=Defaults(threshold, floor),
            files={file.name: digest_of(file) for file in written},
            classes=loaded.classes if isinstance(loaded, FixedModel) else (),
            contract=loaded.contract if isinstance(loaded, FixedModel) else None,
        )
        if not choices.portable:
            bundle = _rewritten(bundle, say)
        exact = Detector.load(bundle, threads=choices.threads)
        report = compare(loaded, exact, say=say)
        say(report.table())
        if not report.passed:
            raise ExportError(
                f"{origin.id}: the bundle's results differ from transformers', so no bundle was made:\n"
                f"{report.table()}"
            )
        parity = report.to_json()
        if choices.precision != "fp32":
            say(f"converting to {choices.precision}")
            bundle = _converted(bundle, workshop / "smaller", choices.precision, image_graph.heads)
            label_sets = label_sets_of(loaded, text)
            drift = measure(exact, Detector.load(bundle, threads=choices.threads), label_sets, say=say)
            say(drift.line())
            chooses = any(row.chosen for row in report.rows)
            limits = CHOOSING_LIMITS if chooses else LIMITS[choices.precision]
            if not drift.within(limits):
                raise ExportError(
                    f"{origin.id}: in {choices.precision} its results differ too much, so no bundle was made "
                    f"({drift.line()}; at least {limits.kept:.0%} must be kept, Δscore at most "
                    f"{limits.score:g} in the mean); use --precision fp32"
                )
            parity["drift"] = drift.to_json()
            warning = drift.warning()
            if warning:
                say(warning)
            for name in exact.bundle.files:
                (workshop / name).unlink()
            for file in bundle.path.iterdir():
                file.rename(workshop / file.name)
            bundle.path.rmdir()
        (workshop / CARD).write_text(replace(bundle, parity=parity).to_json(), encoding="utf-8")
        if choices.card is not None:
            shutil.copyfile(choices.card, workshop / "README.md")
        Bundle.load(workshop, verify=True)
        _put(workshop, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(
                f"{out.parent}: the disk is full; a bundle takes as much as the model, and as much again "
                "while it is made"
            ) from None
        raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    say(f"wrote {out}")
    return Bundle.load(out)


def _rewritten(bundle: Bundle, say: Callable[[str], None]) -> Bundle:
    """Add the graphs for a quick start on the CPU to the bundle's folder."""
    say("optimising the graphs for a quick start")
    graphs = [name for name in (TEXT_GRAPH, IMAGE_GRAPH) if name in bundle.files]
    written = [file for name in graphs for file in optimise(bundle.path / name)]
    files = {**bundle.files, **{file.name: digest_of(file) for file in written}}
    return replace(bundle, files=files, runtime=version("onnxruntime"))


def _converted(bundle: Bundle, folder: Path, precision: str, heads: Sequence[torch.Tensor]) -> Bundle:
    """The bundle in a reduced precision, in another folder. The optimised graphs are made again only for
    int8."""
    folder.mkdir()
    for name in bundle.files:
        shutil.copyfile(bundle.path / name, folder / name)
    of_image = [name for name in bundle.files if name.startswith("image.")]
    of_text = [name for name in bundle.files if name.startswith("text.")]
    if precision == "fp16":
        for name in of_image + of_text:
            if cpu_graph("") in name:
                (folder / name).unlink()
        for graph in (TEXT_GRAPH, IMAGE_GRAPH):
            if graph in bundle.files:
                to_fp16(folder / graph)
    else:
        for name in of_image:
            if cpu_graph("") in name:
                (folder / name).unlink()
        to_int8(folder / IMAGE_GRAPH, [weights.detach().numpy() for weights in heads])
        if bundle.runtime is not None:
            optimise(folder / IMAGE_GRAPH)
    return replace(
        bundle,
        path=folder,
        precision=precision,
        files={file.name: digest_of(file) for file in sorted(folder.iterdir())},
        runtime=None if precision == "fp16" else bundle.runtime,
    )


def _check(out: Path, choices: Choices) -> None:
    """Check at once what would otherwise fail after minutes."""
    if out.exists():
        if not choices.force:
            raise ExportError(f"{out}: exists; choose another --out, or replace it with --force")
        if not (out / CARD).is_file() and not (out.is_dir() and not any(out.iterdir())):
            raise ExportError(
                f"{out}: exists and is not a bundle, so it is not replaced; choose another --out"
            )
    if choices.precision not in PRECISIONS:
        raise ExportError(f"--precision {choices.precision}: use one of {', '.join(PRECISIONS)}")
    if choices.card is not None and not choices.card.is_file():
        raise ExportError(f"--card {choices.card}: there is no such file")
    if choices.name is not None and not is_valid_name(choices.name):
        raise ExportError(
            f"--name {choices.name!r}: use letters, digits, dots and dashes, beginning with a letter or digit"
        )


def _name_from(source: str) -> str:
    """``google/owlv2-base-patch16-ensemble`` gives ``owlv2-base-patch16-ensemble``."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", source.rstrip("/").split("/")[-1]).strip("-._")[:80]
    return name or "detector"


def _put(workshop: Path, out: Path) -> None:
    """Rename the finished folder; an older one is deleted only once the new one is in place."""
    workshop.chmod(0o755)  # mkdtemp makes it private
    if not out.exists():
        workshop.rename(out)
        return
    retired = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old.")) / out.name
    out.rename(retired)
    try:
        workshop.rename(out)
    except OSError:
        retired.rename(out)
        raise
    finally:
        shutil.rmtree(retired.parent, ignore_errors=True)
