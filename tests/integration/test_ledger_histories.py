"""Events in any order: a model that knows no order, the rules, and the ledger over HTTP end alike.

The model is the law: an object is what its last event made it, and the newest review counts. The histories
are what happens: events come shuffled and doubled, while runs claim, die, come late and fail, and labels
change.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any, Protocol

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.serving import make_server

from boxdrop.ledger import (
    FailedImage,
    Image,
    Ledger,
    Publication,
    Result,
    Sighting,
    State,
    create_table,
    states,
)
from tests.moto_server import empty_moto

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
TASK = 7


@dataclass(frozen=True)
class History:
    """What happened to one image, and what the pipeline did meanwhile.

    Attributes:
        object: contents in their order, None for a deletion; an event's sequencer is its place.
        reviews: verified contents in their order, None for "taken back".
        generation: of the labels at the end.
        steps: events by their place, reviews, and what the pipeline does, as it comes.
    """

    object: Sequence[str | None]
    reviews: Sequence[str | None]
    generation: int
    steps: Sequence[tuple[str, int]]

    @property
    def content(self) -> str | None:
        return self.object[-1]

    @property
    def state(self) -> State:
        """What the image must be once everything is heard of and the pipeline has come to rest."""
        verified = self.reviews[-1] if self.reviews else None
        if self.content is None:
            return State.GONE
        if verified is None:
            return State.TASKED
        return State.VERIFIED if verified == self.content else State.STALE


@st.composite
def histories(draw: st.DrawFn) -> History:
    contents = st.sampled_from(["A", "B", None])
    objects = draw(st.lists(contents, min_size=1, max_size=5))
    reviews = draw(st.lists(contents, max_size=2))
    generation = draw(st.integers(1, 2))
    events = [("event", i) for i in range(len(objects))]
    heard = events + [("review", i) for i in range(len(reviews))]
    heard += [("labels", i + 1) for i in range(generation)]
    doubled = draw(st.lists(st.sampled_from(heard), max_size=5))
    work = st.sampled_from(["launch", "launch", "publish", "die", "fail", "retry"])
    done = draw(st.lists(st.tuples(work, st.integers(0, 2)), min_size=2, max_size=8))
    first = draw(st.sampled_from(events))  # nobody reviews, and nothing runs, what nobody has seen
    steps = draw(st.permutations([*heard, *doubled, *done]))
    return History(objects, reviews, generation, [first, *steps])


class Port(Protocol):
    """The ledger of one image."""

    def sight(self, order: int, content: str | None, generation: int) -> Result[Image]: ...
    def renew(self, generation: int) -> None: ...
    def claim(self, run_id: str, generation: int) -> Image | None: ...
    def release(self, run_id: str) -> None: ...
    def publish(self, content: str, generation: int) -> None: ...
    def fail(self, content: str, generation: int, run_id: str) -> None: ...
    def retry(self) -> None: ...
    def review(self, order: int, content: str | None) -> None: ...
    def row(self) -> Image: ...


def sighting(image_id: str, order: int, content: str | None) -> Sighting:
    return Sighting(image_id, "fruit", "images", "fruit/a.jpg", content, f"{order:04X}")


def publication(image_id: str, content: str, generation: int) -> Publication:
    return Publication(image_id, content, generation, f"{content}@{generation}", TASK, 1)


def failure(image_id: str, content: str, generation: int, run_id: str) -> FailedImage:
    return FailedImage(image_id, content, generation, run_id, "truncated", "")


def reviewed_at(order: int) -> datetime:
    return START + timedelta(seconds=order)


@dataclass
class Rules:
    """The rules alone, on a row in a variable."""

    image_id: str = "0" * 32
    image: Image | None = None

    def _take(self, result: Result[Image]) -> Result[Image]:
        self.image = result.row
        return result

    def sight(self, order: int, content: str | None, generation: int) -> Result[Image]:
        return self._take(
            states.sight(self.image, sighting(self.image_id, order, content), generation, START)
        )

    def renew(self, generation: int) -> None:
        self._take(states.renew(self.image, generation, START))

    def claim(self, run_id: str, generation: int) -> Image | None:
        result = self._take(states.claim(self.image, run_id, generation, START))
        return result.row if result.outcome == "applied" else None

    def release(self, run_id: str) -> None:
        self._take(states.release(self.image, run_id, START))

    def publish(self, content: str, generation: int) -> None:
        self._take(states.publish(self.image, publication(self.image_id, content, generation), START))

    def fail(self, content: str, generation: int, run_id: str) -> None:
        self._take(states.fail(self.image, failure(self.image_id, content, generation, run_id), START))

    def retry(self) -> None:
        self._take(states.retry(self.image, START))

    def review(self, order: int, content: str | None) -> None:
        self._take(states.review(self.image, content, reviewed_at(order), START))

    def row(self) -> Image:
        assert self.image is not None
        return self.image


@dataclass
class OverHttp:
    """The ledger, with everything in DynamoDB."""

    ledger: Ledger
    image_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def project(self) -> str:
        return f"fruit-{self.image_id}"

    def sight(self, order: int, content: str | None, generation: int) -> Result[Image]:
        seen = [replace(sighting(self.image_id, order, content), project=self.project)]
        (result,) = self.ledger.mark_gone(seen) if content is None else self.ledger.want(seen, generation)
        return result

    def renew(self, generation: int) -> None:
        self.ledger.renew([self.image_id], generation)

    def claim(self, run_id: str, generation: int) -> Image | None:
        return next(iter(self.ledger.claim_wanted(self.project, run_id, generation, 1)), None)

    def release(self, run_id: str) -> None:
        self.ledger.release_run(self.project, run_id)

    def publish(self, content: str, generation: int) -> None:
        self.ledger.record_tasks([publication(self.image_id, content, generation)])

    def fail(self, content: str, generation: int, run_id: str) -> None:
        self.ledger.record_failures([failure(self.image_id, content, generation, run_id)])

    def retry(self) -> None:
        self.ledger.retry([self.image_id])

    def review(self, order: int, content: str | None) -> None:
        if content is None:
            self.ledger.record_unverified(self.image_id, reviewed_at(order))
        else:
            self.ledger.record_verified(self.image_id, content, reviewed_at(order))

    def row(self) -> Image:
        image = self.ledger.image(self.image_id)
        assert image is not None
        return image


def live(history: History, port: Port) -> Image:
    """Let it happen, checking at every step what must never move back; then let the pipeline come to rest."""
    runs: list[Image] = []
    generation = 0
    before: Image | None = None

    def hear(kind: str, place: int) -> None:
        nonlocal generation
        if kind == "event":
            port.sight(place, history.object[place], min(place, generation))  # may know older labels
        elif kind == "review":
            port.review(place, history.reviews[place])
        elif kind == "labels":
            generation = max(generation, place)
            port.renew(generation)

    def launch() -> None:
        claimed = port.claim(f"run-{len(runs)}", generation) if generation else None
        if claimed is not None:
            runs.append(claimed)

    def publish(run: Image) -> None:
        assert run.version is not None
        port.publish(run.version, run.generation)

    def step(kind: str, place: int) -> None:
        hear(kind, place)
        if kind == "launch":
            launch()
        elif kind == "retry":
            port.retry()
        elif place < len(runs):
            run = runs[place]
            assert run.run_id is not None
            assert run.version is not None
            if kind == "die":
                port.release(run.run_id)
            elif kind == "publish":
                publish(run)
            elif kind == "fail":
                port.fail(run.version, run.generation, run.run_id)

    for kind, place in history.steps:
        step(kind, place)
        now = port.row()
        if before is not None:
            assert now.sequencer >= before.sequencer
            assert now.generation >= before.generation
            assert now.revision >= before.revision
            assert now.task_id in (before.task_id, TASK)
        before = now
    port.renew(generation)
    port.retry()
    for run in runs:
        assert run.run_id is not None
        port.release(run.run_id)
    port.retry()  # the last of five dead runs failed it
    launch()
    for run in reversed(runs):  # what is late comes last
        publish(run)
    return port.row()


def check(history: History, row: Image) -> None:
    verified = history.reviews[-1] if history.reviews else None
    assert (row.state, row.version) == (history.state, history.content)
    assert row.sequencer == states.padded(f"{len(history.object) - 1:04X}")
    assert row.verified_version == verified
    if row.state == State.TASKED:
        assert (row.task_id, row.prediction_id) == (TASK, f"{history.content}@{history.generation}")


@settings(max_examples=500, deadline=None)
@given(histories())
def test_events_in_any_order_end_in_the_same_row(history: History) -> None:
    check(history, live(history, Rules()))


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    server = make_server("127.0.0.1", 0, empty_moto(), threaded=False)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    client: Any = boto3.client(
        "dynamodb",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    create_table(client, "ledger-histories")
    yield Ledger("ledger-histories", client=client, workers=4)
    server.shutdown()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories())
def test_events_in_any_order_end_in_the_same_row_over_http(ledger: Ledger, history: History) -> None:
    port = OverHttp(ledger)
    check(history, live(history, port))
    listed = ledger.list_images(port.project, history.state).rows
    assert [image.image_id for image in listed] == [port.image_id]
