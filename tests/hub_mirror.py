"""A mirror of the Hugging Face hub on this machine: what its client asks for, with one model."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" * 6 + "c0ff"


@contextmanager
def hub_mirror(
    model: str, folder: Path, damaged: str = "", broken_off: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Serve a model's files.

    Args:
        model: its id, OWNER/NAME.
        folder: as ``save_pretrained`` wrote it.
        damaged: a file that arrives with another last byte, under its true sha256.
        broken_off: a file whose connection breaks off in the middle, the first time.

    Yields:
        (the mirror's address, the paths that were asked for).
    """
    asked: list[str] = []
    broken: set[str] = set()

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
            asked.append(path)
            status, body, headers = 404, b"{}", {"X-Error-Code": "EntryNotFound"}
            if path in (f"/api/models/{model}", f"/api/models/{model}/revision/main"):
                names = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
                fields = {"id": model, "modelId": model, "sha": COMMIT, "siblings": names, "private": False}
                status, body, headers = 200, json.dumps(fields).encode(), {"Content-Type": "application/json"}
            elif path.startswith("/api/models/") and not path.startswith(f"/api/models/{model}"):
                headers = {"X-Error-Code": "RepoNotFound"}
            elif path.startswith(f"/{model}/resolve/"):
                file = folder / path.rpartition("/")[2]
                headers |= {"X-Repo-Commit": COMMIT}
                if file.is_file():
                    body = file.read_bytes()
                    tag = hashlib.sha256(body).hexdigest()
                    status, headers = 200, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            name = path.rpartition("/")[2]
            if with_body and name == damaged and status == 200:
                self.wfile.write(body[:-1] + bytes([body[-1] ^ 1]))
            elif with_body and name == broken_off and status == 200 and path not in broken:
                broken.add(path)
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            elif with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
