"""A model server of the tests' own: it speaks the protocol, and breaks it when told to."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pytest_django import Settings

from annotate.models import Policy, Project


@dataclass
class ModelServer:
    """What it says, and what it was asked."""

    url: str = ""
    says: list[str] = field(default_factory=lambda: ["Boil it ", "for **eight** ", "minutes."])
    finish_reason: str = "stop"
    usage: dict[str, int] | None = None
    status: int = 200
    body: str = ""  # instead of an answer
    headers: dict[str, str] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)  # instead of its chunks, as it cuts them
    breaks_after: int | None = None  # so many pieces
    waits: bool = False  # after the first piece, for `go_on`
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, Any]] = field(default_factory=list)
    asked_with: list[dict[str, str]] = field(default_factory=list)

    def chunks(self) -> Iterator[bytes]:
        if self.raw:
            yield from self.raw
            return
        yield self._chunk({"role": "assistant"})
        for number, piece in enumerate(self.says):
            if number == 1 and self.waits:
                self.go_on.wait(20)
            if number == self.breaks_after:
                return
            yield self._chunk({"content": piece})
        yield self._chunk({}, self.finish_reason)
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        chunk: dict[str, Any] = {"object": "chat.completion.chunk", "choices": [choice]}
        if finish_reason and self.usage:
            chunk["usage"] = self.usage
        return f"data: {json.dumps(chunk)}\n\n".encode()


@pytest.fixture
def model_server(settings: Settings) -> Iterator[ModelServer]:
    script = ModelServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:  # noqa: N802 - named as http.server names it
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            script.asked.append(request)
            script.asked_with.append(dict(self.headers))
            streams = request["stream"] and script.status == 200 and not script.body
            self.send_response(script.status)
            for name, value in script.headers.items():
                self.send_header(name, value)
            if streams:
                self._stream()
            else:
                self._whole()

        def _stream(self) -> None:
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for chunk in script.chunks():
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    self.wfile.flush()
                if script.breaks_after is None:
                    self.wfile.write(b"0\r\n\r\n")
            except ConnectionError:
                script.asked[-1]["hung_up"] = True
            self.close_connection = True

        def _whole(self) -> None:
            message = {"role": "assistant", "content": "".join(script.says)}
            choice = {"index": 0, "message": message, "finish_reason": script.finish_reason}
            answer = json.dumps({"choices": [choice], "usage": script.usage})
            body = (script.body or answer).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    script.url = settings.INFERENCE_URL = f"http://127.0.0.1:{server.server_port}/v1"
    yield script
    script.go_on.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def live(project: Project, model_server: ModelServer) -> Policy:
    """The policy that answers in the chat."""
    policy = Policy.objects.create(
        project=project,
        name="cook",
        origin=Policy.Origin.PROMPTED,
        model_name="cook-1",
        system_prompt="You are a cook.",
        few_shot=[
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hungry?"},
        ],
        temperature=0.5,
        max_new_tokens=64,
    )
    policy.go_live()
    return policy
