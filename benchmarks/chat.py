"""What the web adds to the first token of an answer, with 32 answers being streamed.

Guests open the streams of their answers one after another until all are being written at once, by a
model server that says a word every tenth of a second; then the same is asked of that server itself.
The median and p95 of both and the difference of the medians, in milliseconds, come out as one line
of JSON.

    .venv/bin/python -m benchmarks.chat [--streams 32] [--words 60]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from benchmarks.empty_site import empty_site

PAUSE = 0.1  # seconds between two words, and between two streams that begin
QUESTION = "How do I boil an egg?"


def build(streams: int) -> list[tuple[str, int]]:
    """(guest, answer that nobody has begun to write), so many, and two to begin with."""
    from annotate.models import Conversation, Membership, Policy, Project

    project = Project.objects.create(name="Chat", slug="chat")
    policy = Policy.objects.create(
        project=project, name="cook", origin=Policy.Origin.PROMPTED, model_name="cook-1"
    )
    policy.go_live()
    found = []
    for number in range(streams + 2):
        user = project.admit(name=f"guest{number}", role=Membership.Role.GUEST)
        answer = Conversation.start(project=project, guest=user, text=QUESTION)
        found.append((user.username, answer.pk))
    return found


def fresh() -> None:
    """As if all had been asked just now: nobody begins to write an old answer."""
    from django.db.models.functions import Now

    from annotate.models import Message

    Message.objects.update(created_at=Now())


def first_token_of_the_web(port: int, cookie: str, answer: int) -> float:
    """Milliseconds until a guest's browser has the first word; the stream is read to its end."""
    began = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    path = f"/p/chat/chat/answers/{answer}/stream/"
    connection.request("GET", path, headers={"cookie": cookie})
    return _first(connection.getresponse(), began, lambda line: line == b"event: more\n")


def first_token_of_the_server(port: int) -> float:
    """The same, straight from the model server."""
    began = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    body = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    return _first(connection.getresponse(), began, lambda line: b'"content"' in line)


def _first(answer: HTTPResponse, began: float, is_word: Callable[[bytes], bool]) -> float:
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {answer.read()[:500]!r}")
    first = 0.0
    for line in answer:
        if not first and is_word(line):
            first = (time.perf_counter() - began) * 1000
    if not first:
        raise RuntimeError("a stream without a word")
    return first


def one_after_another(asked: Sequence[Callable[[], float]]) -> list[float]:
    """Begins the streams a pause apart; none ends before the last has begun."""
    with ThreadPoolExecutor(len(asked)) as pool:
        made = []
        for each in asked:
            made.append(pool.submit(each))
            time.sleep(PAUSE)
        return [each.result() for each in made]


def figures(name: str, spent: Sequence[float]) -> dict[str, float]:
    p95 = statistics.quantiles(spent, n=20)[-1]
    return {f"{name}_p50_ms": statistics.median(spent), f"{name}_p95_ms": p95}


def measure(streams: int, model_port: int) -> dict[str, Any]:
    from benchmarks.labelling import Browser, web
    from feedback_site.up import free_port

    waiting = build(streams)
    port = free_port()
    with web(port):
        asked = [
            partial(first_token_of_the_web, port, Browser(port, name).headers["cookie"], answer)
            for name, answer in waiting
        ]
        fresh()
        for each in asked[:2]:  # what is loaded once is loaded now
            each()
        fresh()
        through = one_after_another(asked[2:])
    direct = one_after_another([partial(first_token_of_the_server, model_port)] * streams)
    found = figures("web", through) | figures("direct", direct)
    return found | {"added_p50_ms": found["web_p50_ms"] - found["direct_p50_ms"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--words", type=int, default=60)
    arguments = parser.parse_args()

    from feedback_site.up import free_port

    model_port = free_port()
    with empty_site(INFERENCE_URL=f"http://127.0.0.1:{model_port}/v1"):
        from tests.model_server import ModelServer, serving

        script = ModelServer(says=["word "] * arguments.words, seconds_between=PAUSE)
        with serving(script, model_port):
            found = measure(arguments.streams, model_port) | {"at_once": script.most_at_once}
    what = vars(arguments) | found
    print(json.dumps({k: round(v, 1) if isinstance(v, float) else v for k, v in what.items()}))


if __name__ == "__main__":
    main()
