"""The stream: order, batches, bad images, back-pressure, and ends of all kinds, on the toy detector."""

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from boxdrop.detect import Detector
from boxdrop.detect.stream import Found, Outcome, Stream, Unusable
from boxdrop.domain.errors import ImageError
from boxdrop.domain.images import Image
from boxdrop.domain.labels import LabelSet, Tiling

LABELS = LabelSet.from_short_form("red, green, blue")


def png(number: int) -> bytes:
    """A picture of which each number makes another one."""
    pixels = np.random.default_rng(number).integers(0, 256, (9 + number % 5, 12, 3), dtype=np.uint8)
    out = BytesIO()
    Pillow.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def rows(outcome: Outcome[int]) -> tuple[Any, ...]:
    if isinstance(outcome, Unusable):
        return (outcome.item, outcome.reason)
    found = outcome.candidates
    return (outcome.item, outcome.width, outcome.height, found.boxes.tolist(), found.scores.tolist())


def no_threads_left() -> bool:
    return not living_threads()


def living_threads() -> list[threading.Thread]:
    """Of the stream; without those that Ctrl-C kept from starting."""
    return [each for each in threading.enumerate() if each.name.startswith("boxdrop-") and each.is_alive()]


def test_every_item_has_one_outcome_in_the_order_of_the_items(toy_detector: Detector) -> None:
    slow_first = threading.Event()

    def fetch(number: int) -> bytes:
        if number == 0:
            slow_first.wait(10)  # the first comes last
        elif number == 5:
            slow_first.set()
        return png(number)

    stream = Stream(toy_detector, LABELS, fetch, batch_size=2, workers=4, fetchers=8)
    outcomes = list(stream.outcomes(range(50)))
    assert [outcome.item for outcome in outcomes] == list(range(50))
    for outcome in outcomes[::7]:
        alone = toy_detector.detect([np.asarray(Pillow.open(BytesIO(png(outcome.item))))], LABELS)
        assert isinstance(outcome, Found)
        best = outcome.candidates.scores.max()
        assert len(alone[0]) == 0 or best == pytest.approx(alone[0].scores[0], abs=1e-6)
    assert no_threads_left()


@settings(max_examples=25, deadline=None)
@given(
    bad=st.sets(st.integers(0, 19)),
    batch=st.integers(1, 7),
    workers=st.integers(1, 4),
    fetchers=st.integers(1, 6),
)
@pytest.mark.slow
def test_bad_images_stop_nothing_and_change_no_other_answer(
    toy_detector: Detector, bad: set[int], batch: int, workers: int, fetchers: int
) -> None:
    def fetch(number: int) -> bytes:
        if number in bad and number % 2:
            raise ImageError("gone", "it is not there any more")
        return b"no image" if number in bad else png(number)

    stream = Stream(toy_detector, LABELS, fetch, batch_size=batch, workers=workers, fetchers=fetchers)
    alone = Stream(toy_detector, LABELS, png, batch_size=1, workers=1)
    outcomes = list(stream.outcomes(range(20)))
    for outcome, right in zip(outcomes, alone.outcomes(range(20)), strict=True):
        if outcome.item in bad:
            assert isinstance(outcome, Unusable)
            assert outcome.reason == ("gone" if outcome.item % 2 else "not_an_image")
        else:
            assert rows(outcome) == rows(right)


def test_an_answer_that_is_not_finite_is_the_fault_of_its_image_alone(toy: Callable[..., Path]) -> None:
    black = BytesIO()
    Pillow.new("RGB", (8, 8)).save(black, "PNG")

    def fetch(number: int) -> bytes:
        return black.getvalue() if number == 2 else png(number)

    stream = Stream(Detector.load(toy(poisoned_by_black=True)), LABELS, fetch, batch_size=4)
    outcomes = list(stream.outcomes(range(4)))
    assert [isinstance(outcome, Found) for outcome in outcomes] == [True, True, False, True]
    assert isinstance(outcomes[2], Unusable)
    assert (outcomes[2].reason, outcomes[2].width, outcomes[2].height) == ("detector", 8, 8)


def shapes_by_height(image: NDArray[np.uint8], reduction: int) -> NDArray[np.float32]:
    return np.zeros((3, image.shape[0], 8), np.float32)


def test_a_batch_holds_inputs_of_one_shape_and_no_image_waits_for_ever(
    toy_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One shape comes once, another one 59 times: the lonely one is not kept back until the end."""
    batches: list[tuple[int, ...]] = []
    answer = toy_detector.infer(np.zeros((1, 3, 8, 8), np.float32), LABELS)

    def infer(pixels: NDArray[np.float32], *_: object) -> list[NDArray[np.float32]]:
        batches.append(pixels.shape)
        return [np.repeat(output, len(pixels), axis=0) for output in answer]

    monkeypatch.setattr(toy_detector, "infer", infer)
    monkeypatch.setattr(toy_detector, "preprocess", shapes_by_height)

    def fetch(number: int) -> bytes:
        return png(1) if number == 3 else png(5)

    stream = Stream(toy_detector, LABELS, fetch, batch_size=4, workers=2)
    assert len(list(stream.outcomes(range(60)))) == 60
    assert sum(shape[0] for shape in batches) == 60
    assert batches.count((4, 3, 9, 8)) == 14
    lonely = batches.index((1, 3, 10, 8))
    assert lonely <= 4


def test_the_same_items_make_the_same_batches_whatever_the_timing(
    toy_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = toy_detector.infer(np.zeros((1, 3, 8, 8), np.float32), LABELS)
    seen: list[tuple[int, ...]] = []

    def infer(pixels: NDArray[np.float32], *_: object) -> list[NDArray[np.float32]]:
        seen.append(pixels.shape)
        return [np.repeat(output, len(pixels), axis=0) for output in answer]

    monkeypatch.setattr(toy_detector, "infer", infer)
    monkeypatch.setattr(toy_detector, "preprocess", shapes_by_height)
    histories = []
    for seed in range(4):
        jitter = np.random.default_rng(seed)
        delays = jitter.uniform(0, 0.004, 60)

        def fetch(number: int, delays: NDArray[np.float64] = delays) -> bytes:
            time.sleep(delays[number])
            return png(number)

        seen.clear()
        list(Stream(toy_detector, LABELS, fetch, batch_size=3, workers=4, fetchers=4).outcomes(range(60)))
        histories.append(list(seen))
    assert all(history == histories[0] for history in histories)


def test_tiles_and_the_whole_image_share_batches_and_their_boxes_one_image(
    toy_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A red dot that fills a quarter of one tile: the toy sees nothing of it in the whole image."""
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[0:100, 400:500] = (255, 0, 0)
    out = BytesIO()
    Pillow.fromarray(pixels).save(out, "PNG")
    batches: list[int] = []
    infer = toy_detector.infer

    def counted(batch: NDArray[np.float32], *rest: Any) -> list[NDArray[np.float32]]:
        batches.append(len(batch))
        return infer(batch, *rest)

    monkeypatch.setattr(toy_detector, "infer", counted)
    labels = replace(LABELS, tiling=Tiling("fixed", 200, 0.0))
    stream: Stream[int] = Stream(toy_detector, labels, lambda _: out.getvalue(), batch_size=4)
    first, second = stream.outcomes(range(2))
    assert batches == [4, 4, 4, 2]  # of 2 × (1 + 6) views
    for outcome in (first, second):
        assert isinstance(outcome, Found)
        shown = outcome.candidates.take(outcome.candidates.scores > 0.5)
        assert shown.boxes.tolist() == [[400, 0, 500, 100]]


@pytest.mark.slow
def test_an_image_of_more_tiles_than_there_is_room_for_gets_through(toy_detector: Detector) -> None:
    out = BytesIO()
    Pillow.new("RGB", (64 * 12, 64 * 9), (255, 0, 0)).save(out, "PNG")
    labels = replace(LABELS, tiling=Tiling("fixed", 64, 0.0))
    stream: Stream[int] = Stream(toy_detector, labels, lambda _: out.getvalue(), batch_size=1, workers=3)
    assert [outcome.item for outcome in stream.outcomes(range(5))] == list(range(5))


def test_a_slow_reader_holds_back_the_fetching(toy_detector: Detector) -> None:
    fetched: list[int] = []

    def fetch(number: int) -> bytes:
        fetched.append(number)
        return png(number)

    taken: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    stream = Stream(toy_detector, LABELS, fetch, batch_size=2, workers=2, fetchers=3)
    outcomes = stream.outcomes(endless())
    for _ in range(10):
        next(outcomes)
    outcomes.close()
    assert len(taken) <= 10 + 2 * (2 * 2 + 2 * 2 + 2 + 3)
    assert len(fetched) <= len(taken)
    assert no_threads_left()


def test_a_fetch_that_fails_for_another_reason_ends_the_stream_in_its_place(toy_detector: Detector) -> None:
    def fetch(number: int) -> bytes:
        if number == 7:
            raise ConnectionError("the bucket is unreachable")
        return png(number)

    seen = []

    def read() -> None:
        for outcome in Stream(toy_detector, LABELS, fetch, batch_size=4).outcomes(range(100)):
            seen.append(outcome.item)

    with pytest.raises(ConnectionError, match="unreachable"):
        read()
    assert seen == list(range(7))
    assert no_threads_left()


def test_a_runtime_that_fails_ends_the_stream(
    toy_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infer(*_: object) -> None:
        raise RuntimeError("out of GPU memory")

    monkeypatch.setattr(toy_detector, "infer", infer)
    with pytest.raises(RuntimeError, match="out of GPU memory"):
        list(Stream(toy_detector, LABELS, png).outcomes(range(100)))
    assert no_threads_left()


def test_an_exception_in_the_reader_stops_all_threads(toy_detector: Detector) -> None:
    class ReaderError(Exception):
        pass

    def read() -> None:
        for outcome in Stream(toy_detector, LABELS, png).outcomes(range(1000)):
            if outcome.item == 3:
                raise ReaderError

    with pytest.raises(ReaderError):
        read()
    assert no_threads_left()


def test_a_listing_that_fails_stops_all_threads(toy_detector: Detector) -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise PermissionError("no listing")

    with pytest.raises(PermissionError):
        list(Stream(toy_detector, LABELS, png).outcomes(items()))
    assert no_threads_left()


def test_a_run_of_the_model_is_called_off_when_the_stream_is_closed(
    toy_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, called_off = threading.Event(), threading.Event()

    def infer(pixels: NDArray[np.float32], labels: LabelSet, options: Any) -> None:
        running.set()
        while not options.terminate:
            time.sleep(0.001)
        called_off.set()
        raise RuntimeError("called off")

    monkeypatch.setattr(toy_detector, "infer", infer)

    def stop() -> Iterator[int]:
        yield 0
        assert running.wait(60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Stream(toy_detector, LABELS, png, batch_size=1, workers=1).outcomes(stop()))
    assert called_off.is_set()
    assert no_threads_left()


@pytest.mark.slow
def test_ctrl_c_ends_a_program_at_once(toy: Callable[..., Path]) -> None:
    program = f"""
import itertools
from boxdrop.detect import Detector
from boxdrop.detect.stream import Stream
from boxdrop.domain.labels import LabelSet
from tests.unit.detect.test_stream import png
stream = Stream(Detector.load({str(toy())!r}), LabelSet.from_short_form("red"), png)
for outcome in stream.outcomes(itertools.count()):
    if outcome.item == 20:
        print("under way", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "under way\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT


def interrupted_at(moment: int, outcomes: Iterator[Outcome[int]]) -> bool:
    """Read the outcomes, with Ctrl-C at one moment of the caller's thread; False if they end before that.

    CPython runs signal handlers where a Python function begins and where one written in C has returned, and
    a profile function sees exactly these moments. Python's own `Thread.start` may then complain of its lock,
    and a weak reference's callback ignore the interrupt.
    """
    passed = 0

    def interrupt(_frame: FrameType, event: str, _function: object) -> None:
        nonlocal passed
        passed += event in ("call", "c_return")
        if passed > moment:
            sys.setprofile(None)
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt, RuntimeError):
        sys.setprofile(interrupt)
        for _ in outcomes:
            pass
        sys.setprofile(None)
    return passed > moment


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_at_any_moment_leaves_no_thread_waiting(toy_detector: Detector) -> None:
    for moment in itertools.count():
        stream = Stream(toy_detector, LABELS, png, batch_size=2, workers=1)
        if not interrupted_at(moment, stream.outcomes(range(5))):
            break
        for thread in living_threads():
            thread.join(60)
            assert not thread.is_alive(), f"{thread.name} waits for ever after moment {moment}"
    assert moment > 100


def test_the_work_of_each_stage_is_counted(toy_detector: Detector) -> None:
    thumbnails: list[int] = []

    def on_image(number: int, image: Image) -> None:
        with stream.clock("thumbnail"):
            thumbnails.append(image.width)

    stream = Stream(toy_detector, LABELS, png, on_image=on_image)
    list(stream.outcomes(range(10)))
    assert thumbnails == [12] * 10
    assert set(stream.clock.seconds) == {
        "fetch", "decode", "thumbnail", "preprocess", "detect", "postprocess",
    }  # fmt: skip
    assert all(seconds >= 0 for seconds in stream.clock.seconds.values())


def test_two_lanes_answer_as_one_does(toy_detector: Detector) -> None:
    """On a GPU two batches are under way at a time; the lanes know nothing of GPUs."""
    one: Stream[int] = Stream(toy_detector, LABELS, png, batch_size=2)
    two: Stream[int] = Stream(toy_detector, LABELS, png, batch_size=2)
    assert one.lanes == 1
    two.lanes = 2
    assert [rows(outcome) for outcome in two.outcomes(range(41))] == [
        rows(outcome) for outcome in one.outcomes(range(41))
    ]
    assert no_threads_left()


def test_an_empty_stream_ends(toy_detector: Detector) -> None:
    assert list(Stream(toy_detector, LABELS, png).outcomes([])) == []
