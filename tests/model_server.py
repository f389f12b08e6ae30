"""A model server of the tests' own: it speaks the protocol, and breaks it when told to."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pytest_django import Settings

from annotate.models import Connection, Policy, Project

PASSAGE = re.compile(r'<passage number="(\d+)"[^>]*>\n(.*?)\n</passage>', re.DOTALL)


def read_aloud(request: dict[str, Any]) -> str:
    """The sentence of all it was given that has most words of the question, with the number of its
    passage: a reader who knows nothing else. “I do not know.” where no other has two of them."""
    messages = request["messages"]
    *_, question = messages[-1]["content"].rstrip().split("\n")
    asked = _long_words(question)
    given = PASSAGE.findall(messages[-1]["content"])
    given += [("", each["content"]) for each in messages if each["role"] == "system"]
    sentences = [
        (len(asked & _long_words(sentence)), sentence.strip(), number)
        for number, text in given
        for sentence in re.split(r"(?<=[.])\s+", text)
    ]
    met, best, number = max(sentences, key=lambda each: each[0], default=(0, "", ""))
    if met < 2:
        return "I do not know."
    return f"{best} [{number}]" if number else best


def _long_words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.casefold()) if len(word) > 3}


@dataclass
class ModelServer:
    """What it says, and what it was asked."""

    url: str = ""
    says: list[str] = field(default_factory=lambda: ["Boil it ", "for **eight** ", "minutes."])
    says_to: Callable[[dict[str, Any]], str] | None = None  # instead, by what it is asked
    finish_reason: str = "stop"
    usage: dict[str, int] | None = None
    status: int = 200
    body: str = ""  # instead of an answer
    vectors: Callable[[str], list[float]] | None = None  # of a text that is to be embedded
    headers: dict[str, str] = field(default_factory=dict)
    fails_first: list[int] = field(default_factory=list)  # statuses before it answers as it should
    key: str = ""  # the bearer it demands
    lacks: str = ""  # an address that it does not have
    models: list[str] = field(default_factory=lambda: ["cook-1", "cook-2"])
    listed: int = 0  # how often it was asked for them
    at_once: int = 0
    most_at_once: int = 0
    raw: list[bytes] = field(default_factory=list)  # instead of its chunks, as it cuts them
    breaks_after: int | None = None  # so many pieces
    seconds_between: float = 0.0  # two pieces
    waits: bool = False  # after the first piece, for `go_on`
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, Any]] = field(default_factory=list)
    asked_at: list[str] = field(default_factory=list)
    asked_with: list[dict[str, str]] = field(default_factory=list)

    def chunks(self, request: dict[str, Any]) -> Iterator[bytes]:
        if self.raw:
            yield from self.raw
            return
        if "prompt" in request:
            yield from self._texts()
            return
        yield self._chunk({"role": "assistant"})
        for number, piece in enumerate([self.says_to(request)] if self.says_to else self.says):
            if number == 1 and self.waits:
                self.go_on.wait(120)
            if number == self.breaks_after:
                return
            yield self._chunk({"content": piece})
            time.sleep(self.seconds_between)
        yield self._chunk({}, self.finish_reason)
        yield b"data: [DONE]\n\n"

    def _texts(self) -> Iterator[bytes]:
        for text, reason in [*((each, None) for each in self.says), ("", self.finish_reason)]:
            choice = {"index": 0, "text": text, "finish_reason": reason}
            chunk = {"object": "text_completion", "choices": [choice]}
            yield f"data: {json.dumps(chunk)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        chunk: dict[str, Any] = {"object": "chat.completion.chunk", "choices": [choice]}
        if finish_reason and self.usage:
            chunk["usage"] = self.usage
        return f"data: {json.dumps(chunk)}\n\n".encode()


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # of five, some of twenty that come at once are sent away


class Handler(BaseHTTPRequestHandler):
    script: ModelServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # noqa: N802 - named as http.server names it
        self.script.listed += 1
        if self._is_stranger():
            return
        rows = [{"id": each, "object": "model"} for each in self.script.models]
        self.send_response(self.script.status)
        for name, value in self.script.headers.items():
            self.send_header(name, value)
        self._send(self.script.body or json.dumps({"object": "list", "data": rows}))

    def do_POST(self) -> None:  # noqa: N802 - named as http.server names it
        self.script.at_once += 1
        self.script.most_at_once = max(self.script.most_at_once, self.script.at_once)
        try:
            self._answer()
        finally:
            self.script.at_once -= 1

    def _is_stranger(self) -> bool:
        """As OpenAI's does, it repeats the key it does not know."""
        bearer = self.headers.get("Authorization", "")
        if not self.script.key or bearer == f"Bearer {self.script.key}":
            return False
        self.send_response(401)
        self._send(json.dumps({"error": {"message": f"Incorrect API key provided: {bearer}"}}))
        return True

    def _answer(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.script.asked.append(request)
        self.script.asked_at.append(self.path)
        self.script.asked_with.append(dict(self.headers))
        if self._is_stranger():
            return
        if self.script.lacks and self.path.endswith(self.script.lacks):
            self.send_response(404)
            self._send('{"detail": "Not Found"}')
            return
        if self.script.fails_first:
            self.send_response(self.script.fails_first.pop(0))
            for name, value in self.script.headers.items():
                self.send_header(name, value)
            self._send("{}")
            return
        if "input" in request:
            self.send_response(self.script.status)
            self._send(self.script.body or self._embedded(request))
            return
        streams = request["stream"] and self.script.status == 200 and not self.script.body
        self.send_response(self.script.status)
        for name, value in self.script.headers.items():
            self.send_header(name, value)
        if streams:
            self._stream(request)
        else:
            self._whole(request)

    def _embedded(self, request: dict[str, Any]) -> str:
        return json.dumps({"data": self._vectors(request["input"]), "usage": self.script.usage})

    def _vectors(self, texts: list[str]) -> list[dict[str, Any]]:
        assert self.script.vectors
        return [
            {"index": number, "embedding": self.script.vectors(text)}
            for number, text in enumerate(texts)
        ]

    def _stream(self, request: dict[str, Any]) -> None:
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in self.script.chunks(request):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            if self.script.breaks_after is None:
                self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self.script.asked[-1]["hung_up"] = True
        self.close_connection = True

    def _whole(self, request: dict[str, Any]) -> None:
        says_to = self.script.says_to
        says = says_to(request) if says_to else "".join(self.script.says)
        message = {"role": "assistant", "content": says}
        choice = {"index": 0, "message": message, "finish_reason": self.script.finish_reason}
        answer = json.dumps({"choices": [choice], "usage": self.script.usage})
        self._send(self.script.body or answer)

    def _send(self, text: str) -> None:
        body = text.encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(script: ModelServer, port: int = 0) -> Iterator[ModelServer]:
    handler = type("HandlerOfTheScript", (Handler,), {"script": script})
    server = Server(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    script.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield script
    script.go_on.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def model_server(settings: Settings) -> Iterator[ModelServer]:
    with serving(ModelServer()) as script:
        settings.INFERENCE_URL = script.url
        yield script


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


@pytest.fixture
def connection(project: Project, model_server: ModelServer, settings: Settings) -> Connection:
    """A connection to it with a key, which it demands. The site has no other model server."""
    settings.INFERENCE_URL = ""
    settings.INFERENCE_ENDPOINTS = [model_server.url]
    model_server.key = "sk-canary-7f3a91"
    made = Connection(project=project, name="Kitchen AI", base_url=model_server.url)
    made.set_key(model_server.key)
    made.save()
    return made


@pytest.fixture
def chef(connection: Connection) -> Policy:
    """A policy that answers through it."""
    return Policy.objects.create(
        project=connection.project,
        name="chef",
        origin=Policy.Origin.PROMPTED,
        connection=connection,
        model_name="cook-1",
        max_new_tokens=64,
    )
