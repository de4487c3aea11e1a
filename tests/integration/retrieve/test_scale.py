"""Retrieval in a process of its own: killed and run again, and with thousands of candidates."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from boxdrop.domain.images import decode
from boxdrop.retrieve.provenance import SourceRecord, read_sources
from tests.collection_servers import LOOPBACK, Reply, Request, Server, image, picture

ROOT = Path(__file__).parents[3]
WORKERS = 8


def _command(source: Path, folder: Path, count: int) -> list[str]:
    options = ["--from", str(source), "--into", str(folder), "-n", str(count), "--pause", "0"]
    network = ["--allow-network", LOOPBACK, "--workers", str(WORKERS)]
    return [sys.executable, "-m", "boxdrop", "retrieve", *options, *network]


def _list_of(path: Path, urls: list[str]) -> Path:
    path.write_text("url,license\n" + "".join(f"{url},cc0\n" for url in urls))
    return path


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Server(f"127.0.0.{number}")) for number in range(1, 5)]


@pytest.mark.parametrize("after", [9, 35])
def test_killed_and_run_again_no_image_is_fetched_twice_and_none_is_lost(
    servers: list[Server], tmp_path: Path, after: int
) -> None:
    """But for those under way at the moment of the kill: at most one for each worker."""
    asked, reached = [0], threading.Event()
    lock = threading.Lock()

    def serve(request: Request) -> Reply:
        with lock:
            asked[0] += 1
            if asked[0] == after:
                reached.set()
        return image(picture(int(request.path[1:-4])))

    urls = [servers[n % 4].serve(f"/{n}.jpg", serve) for n in range(60)]
    command = _command(_list_of(tmp_path / "list.csv", urls), tmp_path / "images", 60)

    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert reached.wait(120), process.communicate()[1].decode()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    settled = {
        record.candidate.url for record in _whole_lines(tmp_path / "images" / "sources.jsonl", tmp_path)
    }

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    count = {server.url + path: times for server in servers for path, times in server.count().items()}
    twice = {url for url, times in count.items() if times > 1}
    assert set(count) == set(urls)
    assert max(count.values()) <= 2
    assert not twice & settled
    assert len(twice) <= WORKERS
    records = list(read_sources(tmp_path / "images" / "sources.jsonl"))
    assert {record.candidate.url for record in records} == set(urls)
    assert len(records) == 60
    for record in records:
        assert decode((tmp_path / "images" / record.file).read_bytes()).width == 320
    others = {path.name for path in (tmp_path / "images").iterdir()} - {record.file for record in records}
    assert others == {"sources.jsonl", ".retrieve-rejected.jsonl", ".retrieve-lock"}


def test_ctrl_c_ends_endless_downloads_and_keeps_finished_ones(servers: list[Server], tmp_path: Path) -> None:
    def trickle(_: Request) -> Reply:
        def parts() -> Iterator[bytes]:
            yield picture(99)
            while True:
                time.sleep(0.05)
                yield b"\0"

        return Reply(stream=parts())

    urls = [servers[1].serve(f"/{n}.jpg", image(picture(n))) for n in range(3)]
    urls.append(servers[0].serve("/endless.jpg", trickle))
    command = _command(_list_of(tmp_path / "list.csv", urls), tmp_path / "images", 60)
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    sources, until = tmp_path / "images" / "sources.jsonl", time.monotonic() + 60
    while len(_whole_lines(sources, tmp_path)) < 3 or not servers[0].requests:
        assert time.monotonic() < until, "the first images did not come"
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]

    assert process.returncode == 130, said
    assert "run the same command again to resume" in said
    assert len(list((tmp_path / "images").glob("*.jpg"))) == 3


def _whole_lines(path: Path, scratch: Path) -> list[SourceRecord]:
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    copy = scratch / "whole.jsonl"
    copy.write_bytes(b"".join(line for line in lines if line.endswith(b"\n")))
    return list(read_sources(copy))


_MEASURED = """
import json, sys
import psutil
from pathlib import Path
from boxdrop.retrieve.addresses import AddressGuard
from boxdrop.retrieve.destinations import Folder
from boxdrop.retrieve.downloads import Manners
from boxdrop.retrieve.licenses import LicenseFilter
from boxdrop.retrieve.listing import Listing
from boxdrop.retrieve.retrieval import Retrieval
from boxdrop.retrieve.web import Web

process, memory = psutil.Process(), []
web = Web(AddressGuard(["127.0.0.0/8"]))

def on_progress(summary):
    if summary.settled % 100 == 0:
        memory.append((summary.settled, process.memory_info().rss / 2**20))

summary = Retrieval(
    Listing(web, Path(sys.argv[1])), Folder(Path(sys.argv[2])), min_side=64, manners=Manners(pause_s=0.0)
).run(None, on_progress)
print(json.dumps({"memory": memory, "kept": summary.kept, "duplicates": summary.duplicates,
                  "near": summary.near_duplicates, "offered": summary.offered, "seconds": summary.seconds}))
"""


@pytest.mark.slow
def test_five_thousand_candidates_with_duplicates_are_counted_right_in_flat_memory(
    servers: list[Server], tmp_path: Path
) -> None:
    """Of ten candidates, two are the same file at another address, one is a picture in less quality."""

    def serve(request: Request) -> Reply:
        number = int(request.path[1:-4])
        kind = number % 10
        if kind in (3, 6):
            return image(picture(number - kind, (96, 96)))
        if kind == 9:
            return image(picture(number - 1, (80, 80), quality=60))
        return image(picture(number, (96, 96)))

    urls = [servers[n % 4].serve(f"/{n}.jpg", serve) for n in range(5000)]
    source = _list_of(tmp_path / "list.csv", urls)

    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(source), str(tmp_path / "images")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found["memory"][::10], found["seconds"])
    assert found["offered"] == 5000
    assert (found["kept"], found["duplicates"], found["near"]) == (3500, 1000, 500)
    assert sum(len(server.requests) for server in servers) == 5000
    assert len(list((tmp_path / "images").glob("*.jpg"))) == 3500
    by_count = dict(found["memory"])
    early = max(size for settled, size in by_count.items() if settled <= 1000)
    late = max(size for settled, size in by_count.items() if settled > 4000)
    assert late - early < 12, "memory grows with the number of candidates"
