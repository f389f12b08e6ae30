"""A Hugging Face hub of our own: a folder of models, served as the real one serves them."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "abcd"


class Hub(ThreadingHTTPServer):
    """`models`: name → folder; `gated`: names that ask for a token; `asked`: all requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *said: object) -> None:
        return None

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, what = "/".join(parts[2:4]), parts[4:] or ["revision", "main"]
        else:
            name, what = "/".join(parts[:2]), parts[2:]
        folder = self.server.models.get(name)
        if folder is None:
            return self._refuse(401, "RepoNotFound")
        if name in self.server.gated and "Authorization" not in self.headers:
            return self._refuse(403, "GatedRepo")
        if what[0] in ("revision", "tree", "resolve") and what[1] not in ("main", COMMIT, "v1"):
            return self._refuse(404, "RevisionNotFound")
        places = [each for each in sorted(folder.rglob("*")) if each.is_file()]
        files = {str(each.relative_to(folder)): each for each in places}
        if what[0] == "revision":
            siblings = [
                {"rfilename": each, "size": place.stat().st_size} for each, place in files.items()
            ]
            card = {"license": "apache-2.0"}
            self._json({"id": name, "sha": COMMIT, "siblings": siblings, "cardData": card})
        elif what[0] == "tree":
            self._json([
                {"type": "file", "path": each, "size": place.stat().st_size, "oid": _etag(place)}
                for each, place in files.items()
            ])  # fmt: skip
        else:
            self._file(files["/".join(what[2:])], with_body=with_body)

    def _file(self, place: Path, *, with_body: bool) -> None:
        body = place.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_etag(place)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if with_body:
            self.wfile.write(body[start:])

    def _json(self, said: object) -> None:
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _etag(place: Path) -> str:
    return hashlib.sha1(place.read_bytes()).hexdigest()
