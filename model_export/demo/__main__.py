"""``python -m model_export.demo``: how the demo detector and its sample scenes were made, step by step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from boxdrop.domain.errors import BoxdropError

_CONTEXT = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}


def _folder_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--folder",
        type=click.Path(path_type=Path),
        help="Where icons, scenes and checkpoints lie. Default: $BOXDROP_HOME/demo-training, or "
        ".boxdrop/demo-training.",
    )(command)


def _cache(folder: Path | None) -> Path:
    from model_export.demo.art import cache_folder

    return folder or cache_folder()


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """A missing extra or icon set is said in a sentence, not in a traceback."""
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        try:
            return super().invoke(ctx)
        except (BoxdropError, FileNotFoundError) as error:
            raise click.ClickException(str(error)) from None
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f'{error.name} is not installed: pip install "boxdrop[export,demo-training]"'
            ) from None


@click.group(cls=_Group, context_settings=_CONTEXT)
def main() -> None:
    """Make the demo detector: a small OWL-ViT trained on drawn scenes, and the scenes that ship with it.

    \b
    The whole way, two hours on two cores:
      python -m model_export.demo fetch
      python -m model_export.demo draw
      python -m model_export.demo train
      python -m model_export .boxdrop/demo-training/hf --out boxdrop/demo/bundle --force \\
        --name demo --template "{}" --threshold 0.5 --floor 0.02 --portable
      python -m model_export.demo evaluate boxdrop/demo/bundle
      python -m model_export.demo card
      python -m model_export.demo samples
    """


@main.command()
@_folder_option
def fetch(folder: Path | None) -> None:
    """Fetch the icon sets with npm, about 45 MB, at pinned versions."""
    from model_export.demo import art

    for package in art.fetch(_cache(folder)):
        click.echo(f"{package.name}: {art.icon_set(package.name).licence}, {package}")


@main.command()
@_folder_option
@click.option("--shards", default=8, show_default=True, help="Of 4,500 scenes and 680 MB each.")
@click.option("--processes", default=os.cpu_count() or 1, show_default=True)
@click.option("--seed", default=20261123, show_default=True)
def draw(folder: Path | None, shards: int, processes: int, seed: int) -> None:
    """Draw the training scenes; shards that are there already are kept."""
    from model_export.demo.pools import draw_pool, open_pool

    draw_pool(_cache(folder), seed, shards, processes)
    click.echo(f"{len(open_pool(_cache(folder)))} scenes in {_cache(folder) / 'pool'}")


@main.command()
@_folder_option
@click.option("--minutes", default=100.0, show_default=True, help="Of wall clock, checks included.")
@click.option("--seed", default=20261123, show_default=True)
@click.option(
    "--check-minutes", default=10.0, show_default=True, help="Between checks; each saves the model."
)
@click.option("--first-names", default=0, help="Teach only so many names, fruit first. Default: all.")
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Go on from an earlier training, such as model_export/demo/weights, at half the learning rate.",
)
@click.option("--resume", is_flag=True, help="Go on from checkpoint.pt; --minutes is the sum of both runs.")
def train(
    folder: Path | None,
    minutes: float,
    seed: int,
    check_minutes: float,
    first_names: int,
    start: Path | None,
    resume: bool,
) -> None:
    """Train against the clock. The model is in FOLDER/hf from the first check on.

    The same seed gives the same scenes, prompts and start; how many steps fit into the minutes is the
    machine's.
    """
    from model_export.demo.train import Settings
    from model_export.demo.train import train as run

    settings = Settings(
        minutes=minutes,
        rate=0.5 if start else 1.0,
        seed=seed,
        check_minutes=check_minutes,
        first_names=first_names,
    )
    click.echo(f"the model is in {run(_cache(folder), settings, resume, start)}")


@main.command()
@_folder_option
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--scenes", default=300, show_default=True, help="In each set.")
@click.option("--threshold", type=float, help="Default: the bundle's.")
@click.option("--first-names", default=0, help="How many names it was taught. Default: all.")
@click.option("--choose-threshold", "choosing", is_flag=True, help="Only try thresholds, on other scenes.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: FOLDER/results.json.")
def evaluate(
    folder: Path | None,
    bundle: Path,
    scenes: int,
    threshold: float | None,
    first_names: int,
    choosing: bool,
    out: Path | None,
) -> None:
    """Measure an exported BUNDLE on scenes that training never saw, and write the figures as JSON."""
    from boxdrop.detect import Detector
    from model_export.demo import evaluate as evaluation

    if choosing:
        click.echo(
            json.dumps(
                evaluation.choose_threshold(Detector.load(bundle), _cache(folder), taught=first_names),
                indent=1,
            )
        )
        return
    results = evaluation.evaluate(bundle, _cache(folder), scenes, threshold, first_names)
    file = out or _cache(folder) / "results.json"
    file.write_text(json.dumps(results, indent=1) + "\n")
    brief = {
        title: {k: v for k, v in part.items() if k != "ap"} if isinstance(part, dict) else part
        for title, part in results.items()
    }
    click.echo(json.dumps(brief, indent=1))


@main.command()
@_folder_option
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("boxdrop/demo/scenes"), show_default=True
)
def samples(folder: Path | None, out: Path) -> None:
    """Draw the fruit-basket scenes that ship with boxdrop, with truth.json and ATTRIBUTION.md."""
    from model_export.demo.samples import SHIPPED_NUMBERS, write_samples

    files = write_samples(_cache(folder), out, SHIPPED_NUMBERS)
    click.echo(f"{len(files)} scenes, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB, in {out}")


@main.command()
@_folder_option
@click.option("--results", type=click.Path(path_type=Path), help="Default: FOLDER/results.json.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("boxdrop/demo/bundle/README.md"), show_default=True
)
def card(folder: Path | None, results: Path | None, out: Path) -> None:
    """Write the model card from the figures of `evaluate`."""
    from model_export.demo.card import write_card

    figures = json.loads((results or _cache(folder) / "results.json").read_text())
    curve = _cache(folder) / "curve.jsonl"
    lines = [json.loads(line) for line in curve.read_text().splitlines()] if curve.exists() else []
    out.write_text(write_card(figures, lines))
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
