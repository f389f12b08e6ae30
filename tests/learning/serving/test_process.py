"""The server as a process of its own."""

import os
import signal
import socket
import subprocess
import sys

import httpx

from tests.learning.serving.conftest import KEY, ROOT, SECONDS, body, wait_for


def test_it_stops_when_it_is_asked_to_while_it_answers(models):
    """By Ctrl-C, and by whoever supervises it."""
    processes = {signum: start(models.parent) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        for signum, (process, url) in processes.items():
            wait_for(lambda url=url: is_up(url))
            asked = body(stream=True, max_tokens=450)
            with httpx.stream(
                "POST",
                f"{url}/v1/chat/completions",
                json=asked,
                headers=KEY,
                timeout=SECONDS,
                trust_env=False,
            ) as response:
                next(response.iter_lines())
                process.send_signal(signum)
                assert process.wait(SECONDS) is not None
    finally:
        for process, _ in processes.values():
            process.kill()


def start(data_dir):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "rlhf.learning.serving", "--port", str(port)]
    own = {"INFERENCE_API_KEY": "secret", "DATA_DIR": str(data_dir)}
    env = {**os.environ, **own, "WEB_CONCURRENCY": "4"}  # said for the web, and heard by uvicorn
    return subprocess.Popen(command, cwd=ROOT, env=env), f"http://127.0.0.1:{port}"


def is_up(url):
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.HTTPError:
        return False
