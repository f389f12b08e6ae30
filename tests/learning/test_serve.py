"""The embedded inference server answers those who know the key."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.learning.serving.app import Guarded

ROOT = Path(__file__).resolve().parents[2]


def ask(path: str, *headers: tuple[bytes, bytes]) -> int:
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": list(headers)}
    asyncio.run(Guarded(app, "secret")(scope, None, send))
    return sent[0]["status"]


@pytest.mark.parametrize("given", [b"", b"Bearer", b"Bearer Secret", b"secret", b"Bearer \xff"])
def test_who_does_not_know_the_key_is_refused(given):
    assert ask("/v1/chat/completions", (b"authorization", given)) == 401
    assert ask("/v1/load") == 401


def test_who_knows_it_is_answered_and_everybody_may_ask_how_it_is():
    assert ask("/v1/models", (b"authorization", b"Bearer secret")) == 200
    assert ask("/health") == 200


def test_it_does_not_start_without_a_key():
    env = {name: value for name, value in os.environ.items() if name != "INFERENCE_API_KEY"}
    command = [sys.executable, "-m", "rlhf.learning.serving", "--port", "9"]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert (ended.returncode, "INFERENCE_API_KEY is empty" in ended.stderr) == (1, True)


def test_the_line_of_the_procfile_keeps_the_site_s_secrets_out_of_its_environment():
    line = (ROOT / "Procfile").read_text().split("inference: ")[1]
    assert "python -m rlhf.learning.serving" in line
    secrets = {"SECRET_KEY": "a", "DATABASE_URL": "b", "REDIS_URL": "c"}
    shown = line.split("python")[0]  # `env …` alone prints what it would hand on
    env = {**os.environ, **secrets}
    printed = subprocess.run(["sh", "-c", shown], env=env, capture_output=True, text=True).stdout
    assert "HF_HUB_OFFLINE=1" in printed
    assert not [name for name in secrets if f"\n{name}=" in f"\n{printed}"]
