"""A short mix of attacks on the whole local system, judged from outside; `make judge` runs longer ones.

BOXDROP_JUDGE_SEED=7 pytest tests/judge/test_mix.py
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judge.attacks import buckets, people, webhook
from tests.judge.attacks import time as times
from tests.judge.court import judge, keep
from tests.judge.evidence import gather, tasks_of
from tests.judge.journal import Journal, image_id_of
from tests.judge.ring import Ring
from tests.judge.rounds import Attack, fight
from tests.judge.rules import violations
from tests.judge.system import System

pytestmark = [pytest.mark.slow, pytest.mark.alone]

PATIENCE_S = 240.0  # ten seconds on two idle cores
AT_ONCE = 5
MIX: tuple[Attack, ...] = (
    people.submit_while_labels_change,
    people.two_annotators,
    people.edit_delete_skip_and_draft,
    people.delete_tasks,
    people.rename_and_configure,
    people.own_tasks,
    buckets.overwrite_fifty_times,
    buckets.delete_and_create,
    buckets.there_and_back,
    buckets.rename,
    buckets.nested_projects_that_people_work_in,
    buckets.labels_mischief,
    buckets.broken_files,
    webhook.forged_and_replayed,
    webhook.half_open_sockets,
    times.kill("publish", "job"),
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    system = System(tmp_path_factory.mktemp("judge") / "home")
    system.start()
    yield system
    system.stop()


@pytest.fixture(scope="module")
def journal(system: System) -> Journal:
    return Journal(system.home.parent / "journal.jsonl")


def test_after_a_mix_of_attacks_the_judge_is_content(
    system: System, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("BOXDROP_JUDGE_SEED") or random.SystemRandom().randrange(10_000))
    attacks = random.Random(seed).sample(MIX, AT_ONCE)
    with capsys.disabled():
        print(f"\njudge: BOXDROP_JUDGE_SEED={seed}: {', '.join(each.__name__ for each in attacks)}")
    began = time.monotonic()
    wrong = fight(system, journal, seed, 0, attacks)
    fought_s = time.monotonic() - began
    found, evidence, content_s = judge(system.start(), journal, PATIENCE_S)
    wrong += map(str, found)
    folder = system.home.parent
    if wrong:
        keep(folder, found, evidence, f"BOXDROP_JUDGE_SEED={seed} pytest {Path(__file__).name}")
    assert not wrong, "\n".join([*wrong, f"journal and evidence: {folder}"])
    with capsys.disabled():
        print(f"judge: {fought_s:.0f} s of attacks, content {content_s:.1f} s after them")


def test_what_is_planted_in_a_running_system_is_found(system: System, journal: Journal) -> None:
    """The reading is right, too: what is changed in S3, DynamoDB and Label Studio is found there."""
    ring = Ring(system, system.start(), journal, random.Random(1), "planted")
    first, second, third = ring.drop_and_wait(3).items()
    ring.hands.submit(first[1])
    content, evidence, _ = judge(ring.at, ring.journal, PATIENCE_S)
    assert content == []
    identity = image_id_of(ring.at.images, first[0])
    document = next(key for key in evidence.documents if identity in key)
    s3, dynamodb = ring.at.client("s3"), ring.at.client("dynamodb")
    dynamodb_key = next(row for row in evidence.rows if row.get("key") == third[0])
    at, project = ring.at, ring.hands.number_of(ring.project)
    assert project is not None
    for page_size in (2, 3):  # with a last page that is full, too
        assert len(tasks_of(at, project, page_size)) == 3

    at.call("POST", f"/api/projects/{project}/import", body=[{"data": second[1]["data"]}])
    s3.delete_object(Bucket=at.data, Key=document)
    dynamodb.delete_item(TableName=at.table, Key={name: {"S": dynamodb_key[name]} for name in ("pk", "sk")})
    at.call("DELETE", f"/api/predictions/{third[1]['predictions'][0]['id']}/")
    found = {(each.invariant, each.about) for each in violations(gather(at), ring.journal.done())}
    assert found >= {
        ("one task per image", second[0]),
        ("the document is what Label Studio has, box for box", first[0]),
        ("each object has one row of the ledger, with its version", third[0]),
    }
