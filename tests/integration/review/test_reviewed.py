"""The stream of verified images: whatever people do, each image counts once, as it is now."""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxdrop.domain.annotations import Annotation, Reason, from_json, to_json
from boxdrop.domain.predictions import Box, Candidate, Prediction
from boxdrop.labelstudio.annotations import ReviewedTask, document_of
from boxdrop.labelstudio.task_data import BLIND_KEY
from boxdrop.ledger import Ledger, Publication
from boxdrop.review.figures import count
from boxdrop.review.reviewed import LeftOut, Reviewed, Why, read_reviewed, read_with_predictions
from boxdrop.review.standing import standing_of
from boxdrop.store.acceptances import AcceptedImage, StoredAcceptance, basis_of, write_acceptance
from boxdrop.store.labelsets import read_label_set
from boxdrop.store.layout import PartName, annotation_key, annotations_prefix
from boxdrop.store.parts import Part, write_part
from tests.integration.pipeline.conftest import client, ledger, unique
from tests.integration.pipeline.world import World
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "client", "endpoint", "ledger"]

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
RUN = "20261120T115900Z-00000001"
NAMES = ("a.jpg", "b.jpg", "blind.jpg")
LABELS = "review: {accept_above: 0.9 precision}\nlabels: [banana]"
REGION = "offered"


@dataclass
class Work:
    """What happened on one image, in Label Studio's terms.

    Attributes:
        content: number of the object's content; None once it is deleted.
        shown: number of the content that the task shows; None where there is no task.
        annotations: by number: when it was saved, whether it is a skip, whether it keeps the box, and the
            content that the task showed.
    """

    content: int | None = 0
    shown: int | None = 0
    annotations: dict[int, tuple[int, bool, bool, int]] = field(default_factory=dict)

    @property
    def is_untouched(self) -> bool:
        """Whether the task shows what it showed at first, and nobody worked on it."""
        return self.content == self.shown == 0 and not self.annotations

    @property
    def counts(self) -> bool | None:
        """Whether its box must count as kept or as deleted; None where the image must not count."""
        submitted = [each for each in self.annotations.values() if not each[1]]
        if self.shown is None or not submitted:
            return None
        _, _, keeps, content = max(submitted)
        return keeps if content == self.content else None


class Team:
    """People at work on a project of three images; `collect` runs as in `boxdrop.pipeline.collect`."""

    def __init__(self, world: World) -> None:
        self.world, self.now = world, 0
        self._numbers = itertools.count(1)
        world.dispatch(world.labels("fruit", LABELS))
        world.launch_all()
        self.work: dict[str, Work] = {}

    def begin(self) -> None:
        """Three new images, each with a task that offers one box; the last one's is not shown.

        All of them are accepted, and the first one is audited, too.
        """
        for each in [*self.world.data.list(annotations_prefix("fruit"))]:  # of the examples before
            self.world.data.delete_all([each.key])
        number = next(self._numbers)
        self.work = {f"{number}-{name}": Work() for name in NAMES}
        self.tasks = {name: 10 * number + i for i, name in enumerate(self.work)}
        for name in self.work:
            self.world.dispatch(self.world.put(f"fruit/{name}", b"content 0"))
            self.publish(name)
        rows = {name: self.world.row(f"fruit/{name}") for name in self.work}
        judged = [AcceptedImage(row.image_id, row.version or "", "p") for row in rows.values()]
        stored = StoredAcceptance(
            START, START, None, self._basis(), 0.9, images=tuple(judged), audits=tuple(judged[:1])
        )
        write_acceptance(self.world.data, "fruit", stored)

    def _basis(self) -> str:
        project = self.world.ledger.project("fruit")
        assert project is not None
        assert project.labels is not None
        return basis_of(project, read_label_set(self.world.data, project.labels))

    def publish(self, name: str) -> None:
        row = self.world.row(f"fruit/{name}")
        if row.version is None:
            return
        self.work[name].shown = self.work[name].content
        shown = Publication(row.image_id, row.version, row.generation, "p", self.tasks[name], 1)
        self.world.ledger.record_tasks([shown])

    def act(self, name: str, what: str) -> None:
        work, row, self.now = self.work[name], self.world.row(f"fruit/{name}"), self.now + 1
        if what == "overwrite":
            work.content = self.now
            self.world.dispatch(self.world.put(f"fruit/{name}", f"content {self.now}".encode()))
        elif what == "remove":
            if work.content is not None:
                work.content = None
                self.world.dispatch(self.world.delete(f"fruit/{name}"))
        elif what == "publish":
            if work.shown is not None and not work.annotations:
                self.publish(name)
        elif work.shown is None:
            return
        elif what == "lose":
            work.shown, work.annotations = None, {}
        elif what in ("keep", "delete", "skip"):
            number = next(self._numbers)
            work.annotations[number] = (self.now, what == "skip", what == "keep", work.shown)
        elif what == "again" and work.annotations:
            number = max(work.annotations)
            _, skipped, keeps, _ = work.annotations[number]
            work.annotations[number] = (self.now, skipped, not keeps, work.shown)
        elif what == "retract" and work.annotations:
            del work.annotations[max(work.annotations)]
        assert row.image_id

    def collect(self, name: str) -> None:
        """Store what the task says, as `collect` does, and tell the ledger."""
        row = self.world.row(f"fruit/{name}")
        key = annotation_key("fruit", row.image_id)
        stored = self.world.data.get(key)
        before = from_json(stored.body) if stored else None
        document = document_of(self._task(name, row), before, self._time(self.now))
        if document is not None:
            self.world.data.put(key, to_json(document).encode())
            if isinstance(document, Annotation):
                self.world.ledger.record_verified(row.image_id, document.version, document.order)
            else:
                skipped = document.reason == Reason.SKIPPED
                self.world.ledger.record_unverified(row.image_id, document.order, skipped)
        if self.work[name].shown is None:
            self.world.ledger.record_lost_task(row.image_id, self.tasks[name])

    def _time(self, moment: int) -> datetime:
        return START + timedelta(minutes=moment)

    def _task(self, name: str, row: Any) -> ReviewedTask | None:
        work = self.work[name]
        if work.shown is None:
            return None
        is_blind = name.endswith(NAMES[-1])
        region = {
            "id": REGION,
            "type": "rectanglelabels",
            "from_name": "label",
            "original_width": 100,
            "original_height": 100,
            "score": 0.9,
            "value": {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["banana"]},
        }
        data = {
            "image_id": row.image_id,
            "file_name": f"fruit/{name}",
            "version": row.task_version or row.version or "gone",
            "prediction_id": "p",
            "model_version": "demo@00000000",
            "width": 100,
            "height": 100,
            **({BLIND_KEY: True} if is_blind else {}),
        }
        annotations = tuple(
            {
                "id": number,
                "was_cancelled": skipped,
                "updated_at": self._time(at).isoformat(),
                "created_at": self._time(at).isoformat(),
                "lead_time": 4.5,
                "result": [region] if keeps else [],
            }
            for number, (at, skipped, keeps, _) in work.annotations.items()
        )
        offer = {"id": 1, "model_version": "demo@00000000", "result": [] if is_blind else [region]}
        return ReviewedTask(self.tasks[name], data, annotations, (offer,))


@pytest.fixture
def team(aws: MakeClient, ledger: Ledger, request: pytest.FixtureRequest) -> Team:
    return Team(World(unique(request), aws, ledger))


ACTS = ("keep", "delete", "skip", "again", "retract", "overwrite", "remove", "publish", "lose")
acts = st.lists(st.tuples(st.sampled_from((0, 1, 2)), st.sampled_from(ACTS), st.booleans()), max_size=7)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts)
def test_each_image_counts_once_and_as_it_is_now(team: Team, done: list[tuple[int, str, bool]]) -> None:
    team.begin()
    for place, what, twice in done:
        name = list(team.work)[place]
        team.act(name, what)
        for _ in range(1 + twice):  # webhooks come twice
            team.collect(name)
    a, b, blind = (work.counts for work in team.work.values())
    report = count(read_reviewed(team.world.services, "fruit"))
    assert report.images == sum(each is not None for each in (a, b, blind))
    assert report.blind == (blind is not None)
    assert (report.whole.kept, report.whole.deleted) == ((a, b).count(True), (a, b).count(False))
    assert report.whole.added == 0  # of the blind one, nothing is known to be added

    project = team.world.ledger.project("fruit")
    assert project is not None
    standing = standing_of(team.world.ledger, team.world.data, project)
    assert standing is not None
    assert standing.accepted == sum(work.is_untouched for work in team.work.values())
    assert standing.audited == (a is not None)


def test_predictions_come_from_the_parts_with_all_their_candidates(team: Team) -> None:
    team.begin()
    predictions = {}
    for name in team.work:
        row = team.world.row(f"fruit/{name}")
        assert row.version is not None
        candidates = tuple(
            Candidate("banana", "banana", i, 0.9 - i / 2, (10.0, 10.0, 30.0, 30.0)) for i in range(2)
        )
        box = Box("banana", 0.9, (10.0, 10.0, 30.0, 30.0), "banana")
        image = f"s3://{team.world.images.name}/{row.key}"
        predictions[name] = Prediction(
            image, row.image_id, row.version, "demo@00000000", 100, 100, (box,), candidates
        )
    for run_id in (RUN, RUN.replace("1159", "1158")):  # a run that was repeated wrote it, too
        write_part(team.world.data, Part(PartName("fruit", run_id, 0, 2), tuple(predictions.values())))
    first, second, _ = team.work
    for name in (first, second):
        row = team.world.row(f"fruit/{name}")
        assert row.version is not None
        shown = Publication(row.image_id, row.version, row.generation, predictions[name].prediction_id, 5, 1)
        team.world.ledger.record_tasks([shown])
    team.act(first, "keep")
    team.collect(first)
    key = annotation_key("fruit", team.world.id_of(f"fruit/{first}"))
    stored = team.world.data.get(key)
    assert stored is not None
    body = stored.body.replace(
        b'"prediction_id":"p"', f'"prediction_id":"{predictions[first].prediction_id}"'.encode()
    )
    team.world.data.put(key, body)
    team.act(second, "skip")
    team.collect(second)
    found = list(read_with_predictions(team.world.services, "fruit"))
    skipped = [each for each in found if isinstance(each, LeftOut)]
    reviewed = [each for each in found if isinstance(each, Reviewed)]
    assert [each.why for each in skipped] == [Why.SKIPPED]
    assert [each.prediction for each in reviewed] == [predictions[first]]
    assert reviewed[0].outcomes is not None
    assert reviewed[0].model_version == "demo@00000000"


def test_an_image_whose_part_is_gone_comes_without_a_prediction(team: Team) -> None:
    team.begin()
    name = next(iter(team.work))
    team.act(name, "keep")
    team.collect(name)
    (reviewed,) = read_with_predictions(team.world.services, "fruit")
    assert isinstance(reviewed, Reviewed)
    assert reviewed.prediction is None
    assert reviewed.outcomes is not None
