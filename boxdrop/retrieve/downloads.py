"""Downloads: many at once, few per server, with a bounded number of candidates in memory.

One thread reads ahead from the source, several fetch, and the caller's thread decides what to fetch next. So
a server that asks for a pause, or a source that waits for its rate limit, does not hold up the others.
"""

import collections
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

from boxdrop.retrieve.candidates import Candidate
from boxdrop.retrieve.web import Busy, Stopped

R = TypeVar("R")

_AHEAD: Final = 64
"""The greatest number of unsettled candidates, which bounds the memory."""
_HOPELESS: Final = 6
"""After this many failures in a row, a server is tried without waiting for it."""


@dataclass(frozen=True, slots=True)
class Manners:
    """Rules for polite downloads.

    Attributes:
        workers: concurrent downloads from all servers.
        per_host: concurrent downloads from one server.
        pause_s: seconds between the starts of two downloads from one server.
        tries: attempts per image if its server is busy.
        longest_wait_s: a server that asks for a longer pause is abandoned.
    """

    workers: int = 8
    per_host: int = 2
    pause_s: float = 0.1
    tries: int = 4
    longest_wait_s: float = 300.0


@dataclass(slots=True)
class _Host:
    """A server: its waiting candidates, running downloads, and the time of the next request."""

    waiting: collections.deque[tuple[Candidate, int]] = field(default_factory=collections.deque)
    running: int = 0
    free_at: float = 0.0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Offer:
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Done(Generic[R]):
    candidate: Candidate
    attempt: int
    host: str
    result: R | BaseException


class Downloads(Generic[R]):
    """Applies `work` to candidates in threads.

    Args:
        work: fetches one and returns its outcome; raises `Busy` to retry it later. Other exceptions end all
            downloads.
        give_up: makes the outcome of a candidate whose server stayed busy.
        manners: see `Manners`.
        stop_waiting: called when the downloads end early, to wake up a waiting source.
    """

    def __init__(
        self,
        work: Callable[[Candidate], R],
        give_up: Callable[[Candidate, Busy], R],
        manners: Manners,
        stop_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._work = work
        self._give_up = give_up
        self._manners = manners
        self._stop_waiting = stop_waiting
        self._inbox: SimpleQueue[_Offer | _End | _Done[R]] = SimpleQueue()
        self._hosts: dict[str, _Host] = {}
        self._running = 0

    def results(self, candidates: Iterable[Candidate], wanted: Callable[[], int]) -> Iterator[R]:
        """Yield results as they arrive, until the candidates end or enough are wanted.

        Args:
            candidates: read in a thread of its own.
            wanted: how many more good results are wanted; it also limits the concurrent downloads.
        """
        if wanted() <= 0:  # no need to ask the collection
            return
        permits, stopped = threading.Semaphore(_AHEAD), threading.Event()
        feeder = threading.Thread(
            target=self._feed, args=(candidates, permits, stopped), name="candidates", daemon=True
        )
        pool = ThreadPoolExecutor(self._manners.workers, thread_name_prefix="download")
        feeder.start()
        ended, known = False, 0
        try:
            while wanted() > 0 and not (ended and known == 0):
                nap = self._start(pool, wanted())
                try:
                    news = self._inbox.get(timeout=nap)
                except Empty:
                    continue
                if isinstance(news, _End):
                    if news.error is not None:
                        raise news.error
                    ended = True
                elif isinstance(news, _Offer):
                    known += 1
                    self._host(_host_of(news.candidate)).waiting.append((news.candidate, 1))
                else:
                    result = self._settle(news)
                    if result is not None:
                        known -= 1
                        permits.release()
                        yield result[0]
        finally:
            stopped.set()
            permits.release()
            self._stop_waiting()
            pool.shutdown(wait=True, cancel_futures=True)
            feeder.join()

    def _feed(
        self, candidates: Iterable[Candidate], permits: threading.Semaphore, stopped: threading.Event
    ) -> None:
        try:
            for candidate in candidates:
                permits.acquire()
                if stopped.is_set():
                    return
                self._inbox.put(_Offer(candidate))
        except Stopped:
            return
        except BaseException as error:
            self._inbox.put(_End(error))
        else:
            self._inbox.put(_End())

    def _host(self, name: str) -> _Host:
        return self._hosts.setdefault(name, _Host())

    def _start(self, pool: ThreadPoolExecutor, wanted: int) -> float | None:
        """Start all allowed downloads; return the seconds until the next one may start, None to wait for a
        result."""
        nap: float | None = None
        for name, host in list(self._hosts.items()):
            while host.waiting:
                if self._running >= min(self._manners.workers, wanted):
                    return None
                if host.running >= self._manners.per_host:
                    break
                now = time.monotonic()
                if host.free_at > now:
                    nap = min(host.free_at - now, nap) if nap is not None else host.free_at - now
                    break
                candidate, attempt = host.waiting.popleft()
                host.free_at = now + self._manners.pause_s
                host.running += 1
                self._running += 1
                pool.submit(self._run, candidate, attempt, name)
            idle = not host.waiting and not host.running and not host.failures
            if idle and host.free_at <= time.monotonic():
                del self._hosts[name]
            elif host.waiting:  # the next round starts with another server
                self._hosts[name] = self._hosts.pop(name)
        return nap

    def _run(self, candidate: Candidate, attempt: int, host: str) -> None:
        result: R | BaseException
        try:
            result = self._work(candidate)
        except BaseException as error:
            result = error
        self._inbox.put(_Done(candidate, attempt, host, result))

    def _settle(self, done: _Done[R]) -> tuple[R] | None:
        """The result of a download; None if it will be retried."""
        host = self._host(done.host)
        host.running -= 1
        self._running -= 1
        if not isinstance(done.result, BaseException):
            host.failures = 0
            return (done.result,)
        if not isinstance(done.result, Busy):
            raise done.result
        host.failures += 1
        wait = done.result.wait_s
        if wait is None:  # it did not say how long: exponential backoff with jitter
            wait = min(60.0, 2.0 ** (host.failures - 1)) * (0.75 + random.random() / 2)  # noqa: S311
        hopeless = host.failures > _HOPELESS or wait > self._manners.longest_wait_s
        if done.attempt >= self._manners.tries or hopeless:
            return (self._give_up(done.candidate, done.result),)
        host.free_at = max(host.free_at, time.monotonic() + wait)
        host.waiting.appendleft((done.candidate, done.attempt + 1))
        return None


def _host_of(candidate: Candidate) -> str:
    """The server or bucket; one name for all local files."""
    try:
        return urlsplit(candidate.url).netloc.lower()
    except ValueError:
        return ""
