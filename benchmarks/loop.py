"""The whole loop in one command, `make loop`: from names found badly to a detector of one's own.

    python -m benchmarks.loop [--verified 150] [--remaining 60] [--epochs 30] [--seed 0] [--from drawn-s]

Scenes of kites, gears, arrows and rings are drawn; the demo detector has no such words. A simulated team
verifies some of them: it keeps boxes that are right (IoU 0.75), moves those that are nearly (0.5), deletes
the others and draws what is missing. Then come boxdrop's own steps: teach, `dataset freeze`, `train`,
`compare`, `bundle use`. Each detector looks at the scenes that nobody has verified, and what a person would
have to change in them is counted. If the new detector was promoted, these scenes are uploaded, and the job
finds boxes in them with what is in force.

S3, DynamoDB and SQS are moto's. The team's work is stored as `collect` stores it, without Label Studio in
between. Detectors, data set, training, export, comparison and job are the real ones.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any, Final

import boto3
import numpy as np
from click.testing import CliRunner
from werkzeug.serving import make_server

from benchmarks.loop_scenes import NAMES, LoopScene, draw_scene
from benchmarks.loop_team import Row, changes_in, find, measure, offer, table, work
from boxdrop.aws.s3 import Bucket
from boxdrop.cli import boxdrop
from boxdrop.demo import BUNDLE
from boxdrop.detect import Bundle, Detector
from boxdrop.domain.annotations import Annotation, Offer, OfferedBox, to_json
from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.identity import lesson_id
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Prediction, reselect
from boxdrop.job.detectors import Detectors
from boxdrop.job.host import Host
from boxdrop.job.job import Job
from boxdrop.ledger import Ledger, create_table
from boxdrop.lessons import write_lesson_text
from boxdrop.pipeline.labels import apply_labels
from boxdrop.store.layout import annotation_key
from boxdrop.store.parts import list_parts, read_part
from boxdrop.system import System
from boxdrop.teach.project import teach_project
from boxdrop.training.plan import DRAWN
from tests.integration.pipeline.world import World
from tests.moto_server import empty_moto

PROJECT: Final = "things"
LABELS: Final = LabelSet.from_short_form(", ".join(NAMES))
SPLITS: Final = ("--split", "train=70,val=15,test=15", "--near-duplicates", "ignore")
_WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Detected:
    """The scenes that nobody has verified, as the job found boxes in them.

    Attributes:
        model_versions: of the predictions.
        changes: boxes that the team would delete, move or add, per image.
    """

    model_versions: tuple[str, ...]
    changes: float


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the loop.

    Attributes:
        rows: the detectors.
        difference: the interval of the difference of F1 that `compare` shows.
        promoted: whether the new detector is in force.
        detected: what the job found after that; None if it was not promoted.
    """

    verified: int
    seed: int
    rows: tuple[Row, ...]
    difference: tuple[float, float]
    promoted: bool
    detected: Detected | None


class Loop:
    """The system, and the steps of the loop.

    Args:
        out: the folder of boxdrop's home.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
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

    def upload(self, scenes: Sequence[LoopScene], folder: str) -> list[str]:
        """Upload scenes; returns their keys."""
        keys = [f"{PROJECT}/{folder}/{number:04}.jpg" for number in range(len(scenes))]
        self.world.dispatch(
            *(self.world.put(key, scene.jpeg()) for key, scene in zip(keys, scenes, strict=True))
        )
        return keys

    def verify(self, scenes: Sequence[LoopScene]) -> None:
        """Upload scenes, show their boxes to the team, and store its work."""
        for number, (key, scene) in enumerate(zip(self.upload(scenes, "first"), scenes, strict=True)):
            self._verify(number, key, scene)

    def _verify(self, number: int, key: str, scene: LoopScene) -> None:
        row = self.world.row(key)
        assert row.version is not None
        offered = offer(
            find(self.detector, LABELS, scene), np.array(self.detector.thresholds(LABELS), np.float32)
        )
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
            boxes=tuple(work(offered, scene)),
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

    def detect(self, scenes: Sequence[LoopScene], threshold: float) -> Detected:
        """Upload scenes, let the job find boxes in them, and count what the team would change.

        Args:
            threshold: the lowest score that is shown: that of the detector in force.
        """
        world = self.world
        apply_labels(world.services, PROJECT, limit=None)
        by_id = {
            world.id_of(key): scene for key, scene in zip(self.upload(scenes, "rest"), scenes, strict=True)
        }
        world.launch_all()
        detectors = Detectors(world.data, self.out / "bundles", threads=1)
        job = Job(world.data, lambda name: Bucket(name, client=world.s3), detectors, Host())
        versions, changes = set(), []
        for run_id, _, _ in world.launcher.submitted:
            job.work(run_id)
            for name in list_parts(world.data, PROJECT, run_id):
                for record in read_part(world.data, name.key).records:
                    assert isinstance(record, Prediction)
                    versions.add(record.model_version)
                    shown = reselect(record, LABELS, threshold).boxes
                    offered = [
                        OfferedBox(each.label, each.score, each.xyxy, f"p{place}")
                        for place, each in enumerate(shown)
                    ]
                    changes.append(changes_in(offered, by_id.pop(record.image_id)))
        assert not by_id, "every scene has a prediction"
        return Detected(tuple(sorted(versions)), sum(changes) / len(changes))


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


def run(
    out: Path, verified: int, remaining: int, epochs: int, seed: int, start: str, teaches: bool
) -> Result:
    """The whole loop."""
    first = 1_000_000 * (seed + 1)
    say(f"drawing {verified + remaining} scenes")
    scenes = [draw_scene(first + number) for number in range(verified + remaining)]
    rest = scenes[verified:]
    loop = Loop(out)
    say(f"a simulated team verifies {verified} of them")
    loop.verify(scenes[:verified])
    rows = [measure("demo, words", loop.detector, LABELS, rest, 0.0)]
    taught = loop.taught(rest) if teaches else None
    rows += [] if taught is None else [taught]
    say(call("dataset", "freeze", PROJECT, "v1", *SPLITS).strip())
    began = time.perf_counter()
    settings = ("--from", start, "--epochs", str(epochs), "--patience", str(epochs), "--seed", str(seed))
    threads = ("--threads", os.environ.get("OMP_NUM_THREADS") or "2")
    said = call("train", PROJECT, "v1", "--name", "mine", *settings, *threads, "--device", "cpu", "--json")
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
    detected = None
    if difference["low"] > 0:
        say(call("bundle", "use", "mine").strip())
        detected = loop.detect(rest, trained["bundle"]["threshold"])
        say(
            f"the job looked at the {remaining} others with {', '.join(detected.model_versions)}: "
            f"{detected.changes:.2f} changes per image"
        )
    else:
        say("not promoted: the comparison does not show that it is better")
    interval = difference["low"], difference["high"]
    return Result(verified, seed, tuple(rows), interval, detected is not None, detected)


def main() -> None:
    """Run the loop and print its table."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser("python -m benchmarks.loop")
    parser.add_argument("--verified", type=int, default=150)
    parser.add_argument("--remaining", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="start", default=DRAWN)
    parser.add_argument("--no-teach", action="store_true", help="leave teaching out")
    parser.add_argument("--json", type=Path, help="write the result here, too")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="boxdrop-loop-"))
    began = time.perf_counter()
    result = run(
        out,
        options.verified,
        options.remaining,
        options.epochs,
        options.seed,
        options.start,
        not options.no_teach,
    )
    say(f"\nOn {options.remaining} scenes that nobody has verified:\n")
    say(table(result.rows))
    say(f"\n{time.perf_counter() - began:.0f} s in all; everything is in {out}")
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(result)) + "\n")


if __name__ == "__main__":
    main()
