"""The whole loop in one command, `make loop`: from names found badly to a detector of one's own.

    python -m benchmarks.loop [--verified 150] [--remaining 60] [--epochs 40] [--seed 0] [--out FOLDER]

Scenes of kites, gears, arrows and rings are drawn; the demo detector has no such words. A simulated team
verifies some of them: it keeps boxes that are right (IoU 0.75), moves those that are nearly (0.5), deletes
the others and draws what is missing. Then come boxdrop's own steps: teach, `dataset freeze`, `train`,
`compare`, `bundle use`. Each detector looks at the scenes that nobody has verified, and what a person would
have to change in them is counted.

S3, DynamoDB and SQS are moto's. The team's work is stored as `collect` stores it, without Label Studio in
between. Detectors, data set, training, export and comparison are the real ones.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any, Final

import boto3
import numpy as np
from click.testing import CliRunner
from werkzeug.serving import make_server

from benchmarks.loop_scenes import NAMES, LoopScene, draw_scene
from boxdrop.assessment.evidence import Evidence
from boxdrop.assessment.outcomes import Change, compare, iou_matrix
from boxdrop.assessment.precision import IOUS, average_precisions
from boxdrop.cli import boxdrop
from boxdrop.demo import BUNDLE
from boxdrop.detect import Bundle, Detector
from boxdrop.domain.annotations import Annotation, DrawnBox, Offer, OfferedBox, to_json
from boxdrop.domain.detections import Detections, select
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import lesson_id
from boxdrop.domain.labels import LabelSet
from boxdrop.ledger import Ledger, create_table
from boxdrop.lessons import write_lesson_text
from boxdrop.pipeline.labels import apply_labels
from boxdrop.store.layout import annotation_key
from boxdrop.system import System
from boxdrop.teach.project import teach_project
from tests.integration.pipeline.world import World
from tests.moto_server import empty_moto

PROJECT: Final = "things"
LABELS: Final = LabelSet.from_short_form(", ".join(NAMES))
_KEPT, _MOVED = 0.75, 0.5
_WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """A detector on the scenes that nobody has verified.

    Attributes:
        changes: boxes to delete, move or add, per image.
        untouched: share of images that need none.
        seconds: that it took to make the detector.
    """

    name: str
    ap50: float
    ap: float
    changes: float
    untouched: float
    seconds: float


def work(found: Detections, scene: LoopScene) -> tuple[list[OfferedBox], list[DrawnBox]]:
    """What the team was offered, and what it leaves."""
    offered = [
        OfferedBox(NAMES[label], float(score), tuple(map(float, xyxy)), f"p{place}")  # type: ignore[arg-type]
        for place, (xyxy, score, label) in enumerate(
            zip(found.boxes, found.scores, found.labels, strict=True)
        )
    ]
    drawn = []
    free = {*range(len(offered))}
    overlaps = iou_matrix(
        [tuple(map(float, xyxy)) for xyxy in scene.boxes],  # type: ignore[misc]
        [each.xyxy for each in offered],
    )
    for number, (label, xyxy) in enumerate(zip(scene.labels, scene.boxes, strict=True)):
        truth = tuple(map(float, xyxy))
        fits = [place for place in free if found.labels[place] == label]
        best = max(fits, key=lambda place: overlaps[number, place], default=None)
        if best is None or overlaps[number, best] < _MOVED:
            drawn.append(DrawnBox(NAMES[label], truth, f"new{number}"))  # type: ignore[arg-type]
            continue
        free.discard(best)
        kept = overlaps[number, best] >= _KEPT
        place = offered[best].xyxy if kept else truth
        drawn.append(DrawnBox(NAMES[label], place, offered[best].region))  # type: ignore[arg-type]
    return offered, drawn


def measure(
    name: str, detector: Detector, label_set: LabelSet, scenes: Sequence[LoopScene], seconds: float
) -> Row:
    """What a detector finds in scenes, and what a person would change in them."""
    evidence, changes = [], []
    thresholds = np.array(detector.thresholds(label_set), np.float32)
    for scene in scenes:
        found = find(detector, label_set, scene)
        evidence.append(Evidence.of("", found, scene.boxes, scene.labels))
        outcomes = compare(*work(select(found, thresholds), scene))
        deleted = sum(each.change == Change.DELETED for each in outcomes.offered)
        changes.append(deleted + sum(each.change != Change.KEPT for each in outcomes.drawn))
    precisions = np.array([average_precisions(evidence, len(NAMES), iou) for iou in IOUS])
    counted = np.array(changes)
    return Row(
        name,
        float(precisions[0].mean()),
        float(precisions.mean()),
        float(counted.mean()),
        float((counted == 0).mean()),
        seconds,
    )


def find(detector: Detector, label_set: LabelSet, scene: LoopScene) -> Detections:
    """All that a detector finds, down to its floor."""
    height, width = scene.pixels.shape[:2]
    (found,) = detector.candidates([detector.preprocess(scene.pixels)], [(width, height)], label_set)
    return found


class Loop:
    """The system, and the steps of the loop.

    Args:
        out: the folder of boxdrop's home.
        seed: of scenes and training.
    """

    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        self.detector = Detector.load(BUNDLE, threads=1)
        server = make_server("127.0.0.1", 0, empty_moto(), threaded=False)
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        create_table(self.client("dynamodb"), "ledger")
        ledger = Ledger("ledger", client=self.client("dynamodb"), workers=4)
        self.world = World("loop", self.client, ledger, versioned=True)
        system = System(
            "local",
            "us-east-1",
            "ledger",
            self.world.images.name,
            self.world.data.name,
            endpoint_url=self.url,
        )
        out.mkdir(parents=True, exist_ok=True)
        (out / "system.json").write_text(system.to_json())
        os.environ |= {"BOXDROP_HOME": str(out), **system.environment()}
        os.environ.pop("BOXDROP_SYSTEM", None)
        self.world.dispatch(self.world.labels(PROJECT, f"labels: [{', '.join(NAMES)}]"))
        ledger.freeze_labels(PROJECT, {name: number + 1 for number, name in enumerate(NAMES)})
        apply_labels(self.world.services, PROJECT, limit=None)

    def client(self, service: str) -> Any:
        """boto3's client of a service."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def verify(self, scenes: Sequence[LoopScene]) -> None:
        """Upload scenes, show their boxes to the team, and store its work."""
        keys = [f"{PROJECT}/{number:04}.jpg" for number in range(len(scenes))]
        self.world.dispatch(
            *(self.world.put(key, scene.jpeg()) for key, scene in zip(keys, scenes, strict=True))
        )
        for number, (key, scene) in enumerate(zip(keys, scenes, strict=True)):
            self._verify(number, key, scene)

    def _verify(self, number: int, key: str, scene: LoopScene) -> None:
        row = self.world.row(key)
        assert row.version is not None
        thresholds = np.array(self.detector.thresholds(LABELS), np.float32)
        offered, drawn = work(select(find(self.detector, LABELS, scene), thresholds), scene)
        height, width = scene.pixels.shape[:2]
        document = Annotation(
            image=row.key,
            image_id=row.image_id,
            version=row.version,
            task_id=number + 1,
            annotation_id=number + 1,
            order=_WHEN,
            updated_at=_WHEN,
            user=1,
            lead_time=5.0,
            width=width,
            height=height,
            boxes=tuple(drawn),
            offer=Offer("p", self.detector.model_version(LABELS), tuple(offered)),
        )
        self.world.data.put(annotation_key(PROJECT, row.image_id), to_json(document).encode())
        self.world.ledger.record_verified(row.image_id, row.version, _WHEN)

    def taught(self, scenes: Sequence[LoopScene]) -> Row | None:
        """The demo detector with a lesson from the verified scenes."""
        began = time.perf_counter()
        try:
            lesson, _ = teach_project(self.world.services, PROJECT)
        except BoxdropError as error:
            say(f"teach: {error}")
            return None
        seconds = time.perf_counter() - began
        number = lesson_id(write_lesson_text(lesson))
        self.detector.learn(number, lesson)
        return measure("demo, taught", self.detector, replace(LABELS, lesson=number), scenes, seconds)


def call(*arguments: str) -> str:
    """Run a boxdrop command; ends the loop if it fails."""
    say(f"$ boxdrop {' '.join(arguments)}")
    done = CliRunner().invoke(boxdrop, [*arguments], catch_exceptions=False)
    if done.exit_code:
        raise SystemExit(done.output)
    return done.stdout


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def run(out: Path, verified: int, remaining: int, epochs: int, seed: int) -> list[Row]:
    """The loop; returns the table."""
    first = 1_000_000 * (seed + 1)
    say(f"drawing {verified + remaining} scenes")
    scenes = [draw_scene(first + number) for number in range(verified + remaining)]
    rest = scenes[verified:]
    loop = Loop(out, seed)
    say(f"a simulated team verifies {verified} of them")
    loop.verify(scenes[:verified])
    rows = [measure("demo, words", loop.detector, LABELS, rest, 0.0)]
    taught = loop.taught(rest)
    rows += [] if taught is None else [taught]
    splits = ("--split", "train=70,val=15,test=15", "--near-duplicates", "ignore")
    say(call("dataset", "freeze", PROJECT, "v1", *splits).strip())
    began = time.perf_counter()
    settings = ("--from", "small", "--epochs", str(epochs), "--patience", str(epochs), "--rate", "0.001")
    threads = ("--threads", os.environ.get("OMP_NUM_THREADS") or "2")
    said = call("train", PROJECT, "v1", "--name", "mine", *settings, *threads, "--seed", str(seed), "--json")
    seconds = time.perf_counter() - began
    trained: dict[str, Any] = json.loads(said)
    mine = Detector.load(Bundle.load(trained["bundle"]["path"]), threads=1)
    rows.append(measure("own detector", mine, LABELS, rest, seconds))
    for split, each in trained["figures"].items():
        say(f"{split}: {each['images']} images, AP50 {each['ap50']}, AP {each['ap']}")
    compared = json.loads(call("compare", PROJECT, "now", "mine", "--json"))
    difference = compared["f1_difference"]
    say(
        f"compared on {compared['images']} images that it has not seen ({compared['trained_on']} left out): "
        f"F1 {compared['a']['f1']:.3f} → {compared['b']['f1']:.3f}, difference {difference['low']:+.3f} to "
        f"{difference['high']:+.3f}"
    )
    if difference["low"] > 0:
        say(call("bundle", "use", "mine").strip())
    else:
        say("not promoted: the comparison does not show that it is better")
    return rows


def table(rows: Sequence[Row]) -> str:
    """The table of docs/own-detector.md."""
    lines = [
        "| detector | AP50 | AP | changes per image | images without a change | made in |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {each.name} | {each.ap50:.3f} | {each.ap:.3f} | {each.changes:.2f} | {each.untouched:.0%} | "
        f"{f'{each.seconds:,.0f} s' if each.seconds else ''} |"
        for each in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the loop and print its table."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser("python -m benchmarks.loop")
    parser.add_argument("--verified", type=int, default=150)
    parser.add_argument("--remaining", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="boxdrop-loop-"))
    began = time.perf_counter()
    rows = run(out, options.verified, options.remaining, options.epochs, options.seed)
    say(f"\nOn {options.remaining} scenes that nobody has verified:\n")
    say(table(rows))
    say(f"\n{time.perf_counter() - began:.0f} s in all; everything is in {out}")


if __name__ == "__main__":
    main()
