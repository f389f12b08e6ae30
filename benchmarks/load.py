"""How long a labeler waits while others do what costs.

A labeler ranks, first in quiet, then while 64 wrong passwords a second are tried, each from another
address and for another name; then 16 labelers rank while 200 guests read the streams of their
answers. Times are those of the client, from the question to the whole answer: `next` finds a task
and shows it, `submit` stores the answer. The load comes from processes of their own, and so do the
words of the streams, one each half second. Comes out as one line of JSON: the times, those under
load as multiples of the quiet ones, the answers to the sign-ins, the words that were read. The exit
status is 1 where a p95 is more than twice the quiet one, or an answer was a 5xx.

    .venv/bin/python -m benchmarks.load [--seconds 60] [--sign-ins 64] [--streams 200]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import secrets
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode

from benchmarks.empty_site import empty_site
from benchmarks.labelling import ROOT, Browser, build, web

PAUSE = 0.5  # seconds between two words of a stream
SETTLE = 5.0  # seconds until a load has come up
TIMES_QUIET = 2.0


# The loads, each a process of its own


def sign_in_wrongly(port: int, rate: float, seconds: float) -> dict[str, int]:
    """Tries so many passwords a second; returns how often each status came."""
    statuses: Counter[str] = Counter()
    until = time.monotonic() + seconds

    def one(number: int) -> None:
        token = secrets.token_hex(16)
        address = ".".join(str(random.randint(1, 254)) for _ in range(4))
        headers = {
            "cookie": f"csrftoken={token}",
            "x-csrftoken": token,
            "x-forwarded-for": address,
            "content-type": "application/x-www-form-urlencoded",
        }
        form = urlencode({"username": f"labeler{number}", "password": "not it"})
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", "/sign-in/", form, headers)
            statuses[str(connection.getresponse().status)] += 1
            connection.close()
        except (OSError, HTTPException) as error:
            statuses[type(error).__name__] += 1

    with ThreadPoolExecutor(64) as pool:
        due, number = time.monotonic(), 0
        while due < until:
            pool.submit(one, number)
            due, number = due + 1 / rate, number + 1
            time.sleep(max(0.0, due - time.monotonic()))
    return dict(statuses)


def read_streams(port: int, asked: list[tuple[str, int]], seconds: float) -> dict[str, int]:
    """Keeps all these streams open at once; returns the words that came, and what went wrong."""
    counts: Counter[str] = Counter()

    async def one(cookie: str, answer: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        path = f"/p/chat/chat/answers/{answer}/stream/"
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
        writer.write(head.encode())
        status = (await reader.readline()).split()[1].decode()
        counts[f"status {status}"] += 1
        until = time.monotonic() + seconds
        while time.monotonic() < until and (line := await reader.readline()):
            counts["words"] += line.startswith(b"event: more")
        counts["open to the end"] += time.monotonic() >= until
        writer.close()

    async def everybody() -> None:
        await asyncio.gather(*(one(*each) for each in asked))

    asyncio.run(everybody())
    return dict(counts)


def serve_words(port: int, words: int) -> None:
    """Speaks as a model server does, until it is told to stop."""
    import django

    django.setup()
    from tests.model_server import ModelServer, serving

    with serving(ModelServer(says=["word "] * words, seconds_between=PAUSE), port):
        threading.Event().wait()


@contextmanager
def load(task: str, **told: Any) -> Iterator[Callable[[], dict[str, int]]]:
    """Runs one of these tasks beside; gives what waits for its figures."""
    command = [sys.executable, "-m", "benchmarks.load", "--task", json.dumps([task, told])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def figures() -> dict[str, int]:
        said, _ = process.communicate()
        found: dict[str, int] = json.loads(said)
        return found

    try:
        yield figures
    finally:
        process.terminate()
        process.wait()


TASKS = {"sign_ins": sign_in_wrongly, "streams": read_streams, "words": serve_words}


# The labelers


def rank(browser: Browser, seconds: float, rest: float) -> list[tuple[float, float]]:
    """(next, submit) of each task, in milliseconds."""
    spent = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(rest * random.uniform(0.5, 1.5))
        browser.connection.close()  # uvicorn would, after five seconds
        began = time.perf_counter()
        where, *_ = browser.get("/p/large/label/")
        _, page, _ = browser.get(where)
        shown = time.perf_counter()
        form = {"idempotency_key": str(uuid.uuid4()), "active_seconds": "20"}
        for place, name in enumerate(re.findall(r'name="(place_\d+)"', page), start=1):
            form[name] = str(place)
        sent = time.perf_counter()
        browser.post(where, form)
        ended = time.perf_counter()
        spent.append(((shown - began) * 1000, (ended - sent) * 1000))
    return spent


def together(browsers: list[Browser], seconds: float, rest: float) -> dict[str, float]:
    with ThreadPoolExecutor(len(browsers)) as pool:
        each = pool.map(lambda browser: rank(browser, seconds, rest), browsers)
        pairs = [pair for spent in each for pair in spent]
    found: dict[str, float] = {"tasks": len(pairs)}
    for name, values in zip(("next", "submit"), zip(*pairs, strict=True), strict=True):
        found[f"{name}_p50_ms"] = statistics.median(values)
        found[f"{name}_p95_ms"] = statistics.quantiles(values, n=20)[-1]
    return found


def measure(arguments: argparse.Namespace, port: int) -> dict[str, Any]:
    from benchmarks import chat

    seconds = arguments.seconds
    browsers = [Browser(port, f"labeler{n}") for n in range(arguments.labelers)]
    for browser in browsers:  # what is loaded once is loaded now
        rank(browser, 0.01, 0)
    found: dict[str, Any] = {"quiet": together(browsers[:1], seconds, 0.25)}
    with load("sign_ins", port=port, rate=arguments.sign_ins, seconds=seconds + SETTLE) as came:
        time.sleep(SETTLE)
        found["wrong_sign_ins"] = together(browsers[:1], seconds, 0.25)
        found["wrong_sign_ins"] |= {"statuses": came()}
    waiting = chat.build(arguments.streams)[: arguments.streams]
    asked = [(Browser(port, name).headers["cookie"], answer) for name, answer in waiting]
    time.sleep(SETTLE)
    with load("streams", port=port, asked=asked, seconds=seconds + 2 * SETTLE) as came:
        time.sleep(SETTLE)
        found["streams"] = together(browsers, seconds, arguments.rest) | {"read": came()}
    for name in ("wrong_sign_ins", "streams"):
        for part in ("next", "submit"):
            ratio = found[name][f"{part}_p95_ms"] / found["quiet"][f"{part}_p95_ms"]
            found[name][f"{part}_p95_times_quiet"] = ratio
    return found


def held(found: dict[str, Any]) -> bool:
    ratios = [
        found[name][f"{part}_p95_times_quiet"]
        for name in ("wrong_sign_ins", "streams")
        for part in ("next", "submit")
    ]
    answered = {*found["wrong_sign_ins"]["statuses"], *found["streams"]["read"]}
    broken = [name for name in answered if re.search(r"\b5\d\d$|Error|Exception", name)]
    return max(ratios) <= TIMES_QUIET and not broken


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return round(value, 1) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="that each of the three takes")
    parser.add_argument("--sign-ins", type=float, default=64, help="wrong passwords a second")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--labelers", type=int, default=16, help="beside the streams")
    parser.add_argument("--rest", type=float, default=8.0, help="seconds between two tasks of one")
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        name, told = json.loads(arguments.task)
        print(json.dumps(TASKS[name](**told)))
        return

    from feedback_site.up import free_port

    model_port = free_port()
    with empty_site(
        INFERENCE_URL=f"http://127.0.0.1:{model_port}/v1",
        TRUSTED_PROXIES="127.0.0.1",
        LOG_LEVEL="WARNING",
    ):
        build(prompts=arguments.prompts, labels=0, labelers=arguments.labelers)
        words = int((arguments.seconds + 4 * SETTLE) / PAUSE)
        port = free_port()
        with web(port), load("words", port=model_port, words=words):
            found = measure(arguments, port)
    print(json.dumps(rounded(vars(arguments) | found | {"held": held(found)})))
    sys.exit(not held(found))


if __name__ == "__main__":
    main()
