"""A stream of images through a detector: fetch, decode, resize, detect and post-process, in parallel.

    stream = Stream(detector, label_set, fetch)
    for outcome in stream.outcomes(items):
        …                                  # in the order of the items, one outcome for each

Each stage has threads of its own, with bounded queues in between. So memory does not grow with the number of
images, and the model waits only if no file can be read. A bad image is an outcome (`Unusable`), not an error.
Batches contain inputs of one shape and depend only on the items, not on timing: the same items give
bit-identical results.

This module knows neither S3 nor files: `fetch` is any function from an item to the bytes of its image.

Ctrl-C may arrive at any line of the caller's thread. So this thread uses no lock that Python code releases
(`Future`, `Condition`, `ThreadPoolExecutor`): interrupted in between, such a lock stays locked, and the other
threads never end. `SimpleQueue`, and `with` on a `threading.Lock`, are safe: they are written in C.

It is long because its stages share queues, and must be read together to see how they end.
"""

import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Queue, SimpleQueue
from typing import Final, Generic, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from boxdrop.detect import tiles
from boxdrop.detect.detector import Share
from boxdrop.detect.merged import AnyDetector
from boxdrop.domain.detections import Detections
from boxdrop.domain.errors import BoxdropError, ImageError
from boxdrop.domain.images import DEFAULT_LIMITS, Image, Limits, decode
from boxdrop.domain.labels import LabelSet

PIXELS_PER_BATCH: Final = 2_400_000
"""Pixels of model input in a batch: 8 images for the demo detector, 4 for OWL-ViT, 2 for OWLv2. On a CPU,
larger batches cost memory and save no time; for a GPU, set `batch_size`."""

_BATCHES_WAITING = 2  # model outputs that wait to be decoded
_PATIENCE = 2  # how many batches a started batch may be behind the newest image

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was found in one image.

    Attributes:
        item: the fetched item.
        width, height: upright size in pixels.
        candidates: all boxes down to the detector's floor, after suppression; see
            `boxdrop.domain.detections.select`.
        display: the name of the copy for browsers that `on_image` made; None if it made none.
        damaged: see `boxdrop.domain.images.Image`.
    """

    item: T
    width: int
    height: int
    candidates: Detections
    display: str | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unusable(Generic[T]):
    """Why one image has no result.

    Attributes:
        reason, message: as in `boxdrop.domain.errors.ImageError`; also ``detector``, if the model's output
            for this image was invalid.
        width, height: upright size in pixels if the header was read, else None.
    """

    item: T
    reason: str
    message: str
    width: int | None = None
    height: int | None = None


Outcome = Found[T] | Unusable[T]


class StageClock:
    """Seconds of work by stage, summed over all threads, so the total may exceed the elapsed time.

    The largest one is the bottleneck, if it is close to the elapsed time multiplied by its stage's threads.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the ``with`` block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            with self._lock:
                self._seconds[stage] += spent

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, rounded to a millisecond: ``fetch``, ``decode``, ``preprocess``, ``detect``,
        ``postprocess``, and stages that callers add."""
        with self._lock:
            return {stage: round(seconds, 3) for stage, seconds in self._seconds.items()}


class Stream(Generic[T]):
    """Detects one label set in a stream of images.

    Args:
        detector: the detector, or two that work together.
        label_set: the labels to detect.
        fetch: reads the bytes of one item, in a thread; several run at once. An `ImageError` makes the item
            `Unusable`; any other exception ends the stream, since the next item will fail the same way.
        limits: maximum bytes and pixels of an image.
        batch_size: inputs per run of the model; None: by the model's input.
        workers: threads that decode and resize; None: one per core, at most 8.
        fetchers: threads that fetch; None: as many as `workers`, which is right for files. Use more if
            fetching mostly waits, as for S3.
        on_image: called in a worker with each decoded image (for a thumbnail, say); raises as `fetch` does.
            Returns the name of the copy for browsers, if it made one.

    Attributes:
        clock: the work of each stage so far; add your own stages to it.
        shares: what each detector looks for.

    Raises:
        LabelSetError: no detector knows a label.
    """

    def __init__(
        self,
        detector: AnyDetector,
        label_set: LabelSet,
        fetch: Callable[[T], bytes],
        *,
        limits: Limits = DEFAULT_LIMITS,
        batch_size: int | None = None,
        workers: int | None = None,
        fetchers: int | None = None,
        on_image: Callable[[T, Image], str | None] | None = None,
    ) -> None:
        self.detector = detector
        self.label_set = label_set
        self.fetch = fetch
        self.limits = limits
        self.shares = detector.shares(label_set)
        self.batch_sizes = [batch_size or _batch_size(share) for share in self.shares]
        self.batch_size = max(self.batch_sizes, default=1)
        self.workers = workers or min(8, os.cpu_count() or 1)
        self.fetchers = fetchers or self.workers
        # On a GPU, the next batch is copied while this one is computed. On a CPU, one run uses all cores, and
        # a second one would only slow it down.
        self.lanes = 2 if detector.provider == "cuda" else 1
        self.on_image = on_image
        self.clock = StageClock()

    def outcomes(self, items: Iterable[T]) -> Generator[Outcome[T], None, None]:
        """Process each item.

        Items are read in the caller's thread, a bounded number ahead. Closing this iterator, an exception in
        the caller and Ctrl-C end all threads; a running model is cancelled.

        Yields:
            one outcome per item, in order.

        Raises:
            LabelSetError: a prompt is too long for the detector.
            Exception: from `fetch`, `on_image` or the runtime, at the position of the item concerned; earlier
                outcomes have been yielded.
        """
        self.detector.embed(self.label_set)  # report an unusable label set before the first image
        run = _Run(self)
        try:
            run.start()
            for item in items:
                run.take(item)
                while run.next_is_ready or run.is_full:
                    yield run.next()
            run.end()
            while run.waiting:
                yield run.next()
        finally:
            try:
                run.stop()
                run.join()
            except KeyboardInterrupt:  # again: leave at once; the threads end by themselves
                run.stop()
                raise


def _batch_size(share: Share) -> int:
    settings = share.detector.bundle.preprocess
    return max(1, min(8, PIXELS_PER_BATCH // (settings.height * settings.width)))


@dataclass(frozen=True, slots=True, eq=False)
class _Input(Generic[T]):
    """One input of a model: view `number` of an image, for the detector of share `share`."""

    work: "_Work[T]"
    share: int
    number: int
    pixels: NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        return self.work.views[self.share][self.number].size


@dataclass(slots=True, eq=False)
class _Work(Generic[T]):
    """An item in progress.

    Attributes:
        number: place in the order of items.
        fetched: the bytes of its image, or why there are none.
        outcome: its outcome, or the error that ends the stream. The first one counts.
        inputs: its inputs as they are made, then None.
        size: upright width and height; set before the first input is there, as are `views`.
        views: by share, what the model looks at, the whole image first.
        display: what `on_image` returned; set before the first input is there, as is `damaged`.
        found: what was seen in each, by share and number, as far as there is an answer.
    """

    item: T
    number: int
    fetched: "SimpleQueue[bytes | BaseException]" = field(default_factory=SimpleQueue)
    outcome: "SimpleQueue[Outcome[T] | BaseException]" = field(default_factory=SimpleQueue)
    inputs: "SimpleQueue[_Input[T] | None]" = field(default_factory=SimpleQueue)
    size: tuple[int, int] = (0, 0)
    views: tuple[tuple[tiles.View, ...], ...] = ()
    display: str | None = None
    damaged: tuple[str, ...] = ()
    found: dict[tuple[int, int], Detections] = field(default_factory=dict)


def _part(pixels: NDArray[np.uint8], view: tiles.View) -> NDArray[np.uint8]:
    return pixels[view.top : view.bottom, view.left : view.right]


_Answered = tuple[list[_Input[T]], list[NDArray[np.float32]]]


class _StoppedError(Exception):
    """The stream is being closed: waiting threads end."""


class _Room:
    """Slots for inputs that are made but not yet detected.

    A worker reserves a slot before it makes an input. The earliest image that lacks slots never waits for
    later images, even if these have taken all others. Otherwise the model would wait for this image, and the
    image for the model.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._held: dict[int, int] = {}  # by image
        self._earliest = 0
        self._complete: set[int] = set()
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, number: int, count: int) -> None:
        """Wait for a slot for image `number`.

        Raises:
            _StoppedError: the stream is being closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._fits(number, count))
            if self._stopped:
                raise _StoppedError
            self._held[number] = self._held.get(number, 0) + count

    def _fits(self, number: int, count: int) -> bool:
        first = number == self._earliest
        taken = sum(held for owner, held in self._held.items() if not (first and owner > number))
        return taken + count <= self._places

    def complete(self, number: int) -> None:
        """Image `number` needs no more slots."""
        with self._changed:
            self._complete.add(number)
            while self._earliest in self._complete:
                self._complete.remove(self._earliest)
                self._earliest += 1
            self._changed.notify_all()

    def give_back(self, number: int) -> None:
        """One input of image `number` was detected."""
        with self._changed:
            self._held[number] -= 1
            if not self._held[number]:
                del self._held[number]
            self._changed.notify_all()

    def close(self) -> None:
        """No input will be detected any more: nobody waits."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class _Run(Generic[T]):
    """The threads of one pass over the items.

    `start`, `take`, `end`, `next`, `stop` and `join` are called in the caller's thread, the rest in others.
    """

    def __init__(self, stream: Stream[T]) -> None:
        self.stream = stream
        self.clock = stream.clock
        batch = stream.batch_size
        self._patience = _PATIENCE * batch
        self._ahead = self._patience + (1 + stream.lanes) * batch + stream.workers + stream.fetchers
        # More than incomplete batches can hold, so the model always gets its next input.
        self._most_pending = _PATIENCE * batch
        self._room = _Room(self._most_pending + stream.lanes * batch + stream.workers)
        self._order: deque[_Work[T]] = deque()
        self._taken = 0
        self._lock = threading.Lock()  # of the order and the error
        self._error: BaseException | None = None
        self._to_fetch: SimpleQueue[_Work[T] | None] = SimpleQueue()
        self._to_prepare: SimpleQueue[_Work[T] | None] = SimpleQueue()
        self._works: SimpleQueue[_Work[T] | None] = SimpleQueue()
        self._gathered: Queue[list[_Input[T]] | None] = Queue(1)
        self._answers: Queue[_Answered[T] | None] = Queue(_BATCHES_WAITING)
        self._stopping = False
        self._call_off = onnxruntime.RunOptions()
        stages = {
            self._fetch: stream.fetchers,
            self._prepare: stream.workers,
            self._gather: 1,
            self._detect: stream.lanes,
            self._postprocess: 1,
        }
        self._threads = [
            threading.Thread(target=work, name=f"boxdrop-{work.__name__.strip('_')}", daemon=True)
            for work, count in stages.items()
            for _ in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell all threads to end. May be repeated, and interrupted."""
        self._stopping = True
        self._call_off.terminate = True
        for work in self._order:
            work.inputs.put(None)
        self.end()

    def join(self) -> None:
        """Wait until all threads have ended."""
        for thread in self._threads:
            if thread.is_alive():  # not so if `start` was interrupted
                thread.join()

    @property
    def waiting(self) -> bool:
        """Whether more outcomes will follow."""
        return bool(self._order)

    @property
    def next_is_ready(self) -> bool:
        return bool(self._order) and not self._order[0].outcome.empty()

    @property
    def is_full(self) -> bool:
        """Whether the next outcome must be taken before another item."""
        return len(self._order) > self._ahead

    def take(self, item: T) -> None:
        """Start work on an item."""
        work = _Work(item, self._taken)
        self._taken += 1
        with self._lock:
            self._order.append(work)
            if self._error is not None:
                work.outcome.put(self._error)
        self._to_fetch.put(work)
        self._to_prepare.put(work)
        self._works.put(work)

    def end(self) -> None:
        """There are no more items: incomplete batches may run."""
        for queue, readers in (
            (self._to_fetch, self.stream.fetchers),
            (self._to_prepare, self.stream.workers),
            (self._works, 1),
        ):
            for _ in range(readers):
                queue.put(None)

    def next(self) -> Outcome[T]:
        """Wait for the next outcome in order."""
        outcome = self._order[0].outcome.get()
        with self._lock:
            self._order.popleft()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _fetch(self) -> None:
        """In several threads: read the bytes of each image."""
        for work in iter(self._to_fetch.get, None):
            try:
                if self._stopping:
                    raise _StoppedError
                with self.clock("fetch"):
                    work.fetched.put(self.stream.fetch(work.item))
            except BaseException as error:
                work.fetched.put(error)

    def _prepare(self) -> None:
        """In several threads: from bytes to the model's inputs."""
        for work in iter(self._to_prepare.get, None):
            try:
                self._make_inputs(work)
            except ImageError as error:
                work.outcome.put(Unusable(work.item, error.reason, str(error), error.width, error.height))
            except MemoryError:
                message = "decoding it needs more memory than is available"
                work.outcome.put(Unusable(work.item, "out_of_memory", message))
            except _StoppedError:
                pass
            except BaseException as error:
                work.outcome.put(error)
            finally:
                self._room.complete(work.number)
                work.inputs.put(None)

    def _make_inputs(self, work: _Work[T]) -> None:
        data = work.fetched.get()
        if isinstance(data, BaseException):
            raise data
        if self._stopping:
            raise _StoppedError
        with self.clock("decode"):
            image = decode(data, self.stream.limits, self._reduction_for)
        del data
        work.size = image.width, image.height
        work.views = self._views(*work.size)
        work.damaged = image.damaged
        if self.stream.on_image is not None:
            work.display = self.stream.on_image(work.item, image)
        for place, share in enumerate(self.stream.shares):
            for number, view in enumerate(work.views[place]):
                self._room.take(work.number, 1)
                with self.clock("preprocess"):
                    part = image.pixels if number == 0 else _part(image.pixels, view)
                    pixels = share.detector.preprocess(part, image.reduction)
                work.inputs.put(_Input(work, place, number, pixels))

    def _views(self, width: int, height: int) -> tuple[tuple[tiles.View, ...], ...]:
        tiling = self.stream.label_set.tiling
        return tuple(
            tiles.plan(width, height, tiling, share.detector.bundle.preprocess)
            for share in self.stream.shares
        )

    def _reduction_for(self, width: int, height: int) -> int:
        if any(len(views) > 1 for views in self._views(width, height)):  # tiles need every pixel
            return 1
        return min(share.detector.reduction_for(width, height) for share in self.stream.shares)

    def _gather(self) -> None:
        """In a thread of its own: make batches of one detector and one shape.

        Their order depends only on the items.
        """
        batches: dict[tuple[int, ...], list[_Input[T]]] = {}  # in the order in which they were started
        try:
            for work in iter(self._works.get, None):
                for ready in iter(work.inputs.get, None):
                    kind = (ready.share, *ready.pixels.shape)
                    batch = batches.setdefault(kind, [])
                    batch.append(ready)
                    if len(batch) == self.stream.batch_sizes[ready.share]:
                        self._gathered.put(batches.pop(kind))
                    elif sum(map(len, batches.values())) > self._most_pending:
                        self._gathered.put(batches.pop(next(iter(batches))))
                while batches and self._begun(batches) <= work.number - self._patience:
                    self._gathered.put(batches.pop(next(iter(batches))))
            for batch in batches.values():
                self._gathered.put(batch)
        finally:
            self._room.close()
            for _ in range(self.stream.lanes):
                self._gathered.put(None)

    @staticmethod
    def _begun(batches: dict[tuple[int, ...], list[_Input[T]]]) -> int:
        return next(iter(batches.values()))[0].work.number

    def _detect(self) -> None:
        """In one thread per lane: run the model."""
        for batch in iter(self._gathered.get, None):
            if self._stopping:
                self._room.close()
                continue
            try:
                with self.clock("detect"):
                    pixels = (
                        np.stack([each.pixels for each in batch]) if len(batch) > 1 else batch[0].pixels[None]
                    )
                    share = self.stream.shares[batch[0].share]
                    answer = share.detector.infer(pixels, share.label_set, self._call_off)
            except BaseException as error:
                self._fail(error)
                continue
            for each in batch:
                self._room.give_back(each.work.number)
            self._answers.put((batch, answer))
        self._answers.put(None)

    def _postprocess(self) -> None:
        """In a thread of its own: from the model's outputs to outcomes."""
        for _ in range(self.stream.lanes):
            for batch, answer in iter(self._answers.get, None):
                try:
                    with self.clock("postprocess"):
                        self._read(batch, answer)
                except BaseException as error:
                    self._fail(error)

    def _read(self, batch: Sequence[_Input[T]], answer: list[NDArray[np.float32]]) -> None:
        sizes = [each.size for each in batch]
        share = self.stream.shares[batch[0].share]
        try:
            found = share.detector.read(answer, sizes, share.label_set)
        except BoxdropError as error:
            if len(batch) == 1:
                work = batch[0].work
                work.outcome.put(Unusable(work.item, "detector", str(error), *work.size))
                return
            for row, each in enumerate(batch):  # decode one by one to find the faulty image
                self._read([each], [output[row : row + 1] for output in answer])
            return
        for each, candidates in zip(batch, found, strict=True):
            work = each.work
            work.found[each.share, each.number] = candidates
            if len(work.found) == sum(map(len, work.views)):
                work.outcome.put(
                    Found(work.item, *work.size, self._combined(work), work.display, work.damaged)
                )

    def _combined(self, work: _Work[T]) -> Detections:
        """What all detectors saw in all views of an image."""
        by_share = [
            tiles.merge([work.found[place, number] for number in range(len(views))], views)
            for place, views in enumerate(work.views)
        ]
        return self.stream.detector.combine(self.stream.shares, by_share)

    def _fail(self, error: BaseException) -> None:
        """Everything unfinished fails with this error."""
        self._room.close()
        with self._lock:
            self._error = error
            for work in self._order:
                work.outcome.put(error)
