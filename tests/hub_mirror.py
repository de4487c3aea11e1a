"""A mirror of the Hugging Face hub on this machine: what its client asks for, with one model."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" * 6 + "c0ff"
_CHUNK = 1 << 20


@contextmanager
def hub_mirror(
    model: str, folder: Path, damaged: str = "", broken_off: str = "", rate: float | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Serve a model's files, whole or from a byte on.

    Args:
        model: its id, OWNER/NAME.
        folder: as ``save_pretrained`` wrote it.
        damaged: a file that arrives with another last byte, under its true sha256.
        broken_off: a file whose connection breaks off in the middle, the first time.
        rate: bytes per second of one connection; as fast as possible without it.

    Yields:
        (the mirror's address, the paths that were asked for, with ``@FIRST_BYTE`` where that is not 0).
    """
    asked: list[str] = []
    broken: set[str] = set()
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            name = path.rpartition("/")[2]
            if path in (f"/api/models/{model}", f"/api/models/{model}/revision/main"):
                asked.append(path)
                siblings = [{"rfilename": each} for each in files]
                fields = {
                    "id": model,
                    "modelId": model,
                    "sha": COMMIT,
                    "siblings": siblings,
                    "private": False,
                }
                self._send(200, json.dumps(fields).encode(), {"Content-Type": "application/json"}, with_body)
            elif path.startswith(f"/{model}/resolve/") and name in files:
                self._send_file(path, name, with_body)
            else:
                asked.append(path)
                headers = {"X-Error-Code": "EntryNotFound"}
                if path.startswith("/api/models/") and not path.startswith(f"/api/models/{model}"):
                    headers = {"X-Error-Code": "RepoNotFound"}
                elif path.startswith(f"/{model}/resolve/"):
                    headers |= {"X-Repo-Commit": COMMIT}
                self._send(404, b"{}", headers, with_body)

        def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
            self._head(status, headers | {"Content-Length": str(len(body))})
            if with_body:
                self.wfile.write(body)

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()

        def _send_file(self, path: str, name: str, with_body: bool) -> None:
            size = (folder / name).stat().st_size
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = min(int(wanted[1]), size) if wanted else 0
            asked.append(f"{path}@{first}" if first else path)
            headers = {"ETag": f'"{files[name]}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if wanted:
                headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
            self._head(206 if wanted else 200, headers | {"Content-Length": str(size - first)})
            if not with_body:
                return
            last = size
            if name == broken_off and path not in broken:
                broken.add(path)
                last = size // 2
                self.close_connection = True
            try:
                self._send_bytes(folder / name, first, last, is_damaged=name == damaged)
            except ConnectionError:  # the client was killed
                self.close_connection = True

        def _send_bytes(self, file: Path, first: int, last: int, *, is_damaged: bool) -> None:
            began = time.monotonic()
            with file.open("rb") as content:
                content.seek(first)
                place = first
                while place < last:
                    chunk = content.read(min(_CHUNK, last - place))
                    place += len(chunk)
                    if is_damaged and place == file.stat().st_size:
                        chunk = chunk[:-1] + bytes([chunk[-1] ^ 1])
                    self.wfile.write(chunk)
                    if rate is not None:
                        time.sleep(max(0.0, (place - first) / rate - (time.monotonic() - began)))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
