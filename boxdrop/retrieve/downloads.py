"""Downloads: many at once, few from each server, as many candidates in memory as fit.

One thread reads the source ahead, a few fetch, and the caller's thread decides what is fetched next: so that
a server that asks for a pause, or a source that waits for its rate limit, holds nothing else up.
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
"""Candidates that are known and not settled: their number bounds the memory."""
_HOPELESS: Final = 6
"""Failures in a row after which a server is no longer waited for, only tried."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How servers are treated.

    Attributes:
        workers: downloads at once, over all servers.
        per_host: downloads at once from one server.
        pause_s: seconds between the beginnings of two downloads from one server.
        tries: of one image, where its server is busy.
        longest_wait_s: a server that asks to wait longer is given up.
    """

    workers: int = 8
    per_host: int = 2
    pause_s: float = 0.1
    tries: int = 4
    longest_wait_s: float = 300.0


@dataclass(slots=True)
class _Host:
    """A server: what waits for it, what is under way, and when it may be asked again."""

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
        work: fetches one and says what became of it; raises `Busy` to have it tried again later. Other
            exceptions end everything.
        give_up: says what became of a candidate whose server stayed busy.
        manners: see `Manners`.
        stop_waiting: called when the downloads end early, so that a source that waits gives up.
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
        """Yield results as they come, until nothing is left or nothing more is wanted.

        Args:
            candidates: read in a thread of its own.
            wanted: how many more good results are wanted; not more downloads than that are under way.
        """
        if wanted() <= 0:  # the collection need not be asked at all
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
        """Start what may be started now; return the seconds until more may be, None to wait for news."""
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
            elif host.waiting:  # the next round begins with another server
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
        """The result of a download; None where it is tried again."""
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
        if wait is None:  # it did not say how long: twice as long each time, and not all at the same moment
            wait = min(60.0, 2.0 ** (host.failures - 1)) * (0.75 + random.random() / 2)  # noqa: S311
        hopeless = host.failures > _HOPELESS or wait > self._manners.longest_wait_s
        if done.attempt >= self._manners.tries or hopeless:
            return (self._give_up(done.candidate, done.result),)
        host.free_at = max(host.free_at, time.monotonic() + wait)
        host.waiting.appendleft((done.candidate, done.attempt + 1))
        return None


def _host_of(candidate: Candidate) -> str:
    """The server that is asked, or the bucket; one name for all files of this machine."""
    try:
        return urlsplit(candidate.url).netloc.lower()
    except ValueError:
        return ""
