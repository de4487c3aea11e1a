"""The job's settings, from its environment, read once."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from boxdrop.detect.sessions import Provider
from boxdrop.domain.errors import BoxdropError
from boxdrop.job.shard import FETCHERS
from boxdrop.store.reports import LauncherName

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Environment:
    """Settings by variable.

    Attributes:
        data_bucket: ``BOXDROP_DATA_BUCKET``.
        bundle_cache: ``BOXDROP_BUNDLE_CACHE``, a folder; by default one in the system's temporary folder.
        provider: ``BOXDROP_PROVIDER``, ``cuda`` or ``cpu`` (default).
        threads: ``BOXDROP_THREADS`` of one run of the model on the processor; default all cores.
        batch_size: ``BOXDROP_BATCH_SIZE``; default by the model's input, see `boxdrop.detect.stream`.
        fetchers: ``BOXDROP_FETCHERS``, objects read at once.
        launcher: ``BOXDROP_LAUNCHER``; default ``sagemaker`` for a server, else ``batch`` if Batch's
            variables are set, else ``local``.
        job_id: ``AWS_BATCH_JOB_ID`` or ``BOXDROP_JOB_ID``.
        array_index: ``AWS_BATCH_JOB_ARRAY_INDEX``: the shard.
        timeout_s: ``BOXDROP_JOB_TIMEOUT_S`` for one invocation of a server.
        grace_s: ``BOXDROP_GRACE_S`` for the parts in flight when the job is asked to stop. Batch and
            SageMaker kill after 30 s.
        address: ``BOXDROP_SERVE_ADDRESS``, host and port.
        usd_per_hour: ``BOXDROP_USD_PER_HOUR``, the instance's price, for the run's summary.
    """

    data_bucket: str
    bundle_cache: Path
    provider: Provider = "cpu"
    threads: int | None = None
    batch_size: int | None = None
    fetchers: int = FETCHERS
    launcher: LauncherName | None = None
    job_id: str | None = None
    array_index: int | None = None
    timeout_s: float | None = None
    grace_s: float = 10.0
    address: tuple[str, int] = ("127.0.0.1", 8080)
    usd_per_hour: float | None = None

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> "Environment":
        """Read and check the variables. An empty one counts as missing.

        Raises:
            BoxdropError: one is missing or invalid; the message names it.
        """
        reader = _Reader(variables)
        cache = reader.text("BOXDROP_BUNDLE_CACHE")
        batch_job = reader.text("AWS_BATCH_JOB_ID")
        launcher = reader.choice("BOXDROP_LAUNCHER", ("batch", "sagemaker", "local"))
        return cls(
            data_bucket=reader.required("BOXDROP_DATA_BUCKET"),
            bundle_cache=Path(cache) if cache else Path(tempfile.gettempdir()) / "boxdrop-bundles",
            provider=cast(Provider, reader.choice("BOXDROP_PROVIDER", ("cpu", "cuda")) or "cpu"),
            threads=reader.number("BOXDROP_THREADS", int, 1),
            batch_size=reader.number("BOXDROP_BATCH_SIZE", int, 1),
            fetchers=reader.number("BOXDROP_FETCHERS", int, 1) or FETCHERS,
            launcher=cast(LauncherName | None, launcher or ("batch" if batch_job else None)),
            job_id=batch_job or reader.text("BOXDROP_JOB_ID"),
            array_index=reader.number("AWS_BATCH_JOB_ARRAY_INDEX", int, 0),
            timeout_s=reader.number("BOXDROP_JOB_TIMEOUT_S", float, 1),
            grace_s=_or(reader.number("BOXDROP_GRACE_S", float, 0), 10.0),
            address=reader.address("BOXDROP_SERVE_ADDRESS") or ("127.0.0.1", 8080),
            usd_per_hour=reader.number("BOXDROP_USD_PER_HOUR", float, 0),
        )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


class _Reader:
    """Looks variables up and checks them."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str) -> str | None:
        return self._variables.get(name, "").strip() or None

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise BoxdropError(f"{name} is not set; the job needs it")
        return value

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            raise BoxdropError(f"{name} is {value!r}; use one of {', '.join(allowed)}")
        return value

    def number(self, name: str, kind: type[Number], least: Number) -> Number | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)
        if not least <= value < float("inf"):
            raise BoxdropError(f"{name} is {text!r}; it must be a number, {least} or more")
        return value

    def address(self, name: str) -> tuple[str, int] | None:
        text = self.text(name)
        if text is None:
            return None
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal():
            raise BoxdropError(f"{name} is {text!r}; write host:port, such as 0.0.0.0:8080")
        return host, int(port)
