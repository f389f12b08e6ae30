"""The embedded inference server beside `transformers serve`: first tokens, tokens a second, memory.

    python benchmarks/serving.py [--model smol|tiny|FOLDER] [--streams 1 4 8] [--tokens 32]

Each server is started by itself, asked for one policy and then for two in turn, by so many people
at once. Then one person asks both policies in turn, and one of them again: what it takes to change.
A request that is not answered in two minutes has failed. One line of JSON for each setting, and one
with the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from run import smol_folder

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0  # seconds, as the site's
QUESTIONS = (
    *("What city has the highest population?", "Explain photosynthesis to a child."),
    *("Write a haiku about rain.", "How do I boil an egg?", "Give me three names for a cat."),
    *("Why is the sky blue?", "Who wrote Hamlet, and when?", "Summarise Romeo and Juliet."),
)
Figures = dict[str, Any]


@dataclass
class Heard:
    """What one request brought."""

    first_token: float | None = None  # seconds
    tokens: int = 0
    is_whole: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smol")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--servers", nargs="+", default=["transformers", "ours"])
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and the server is stopped
    with tempfile.TemporaryDirectory() as place:
        folders = two_policies(options.model, Path(place) / "models")
        figures = {name: measure(name, folders, options) for name in options.servers}
    if len(figures) == 2:
        print(json.dumps(ratios(**figures)))


def two_policies(model: str, place: Path) -> list[Path]:
    """The same weights under two names: a server does not know that."""
    place.mkdir()
    folders = [place / "live", place / "challenger"]
    if model == "tiny":
        corpus = ["--corpus", str(ROOT / "demo/demonstrations.jsonl")]
        command = [sys.executable, "-m", "rlhf.learning.models.base", "tiny", str(folders[0])]
        subprocess.run([*command, *corpus], cwd=ROOT, check=True)
    else:
        shutil.copytree(smol_folder() if model == "smol" else model, folders[0])
    shutil.copytree(folders[0], folders[1])
    return folders


def measure(server: str, folders: Sequence[Path], options: argparse.Namespace) -> list[Figures]:
    """Every setting on one server."""
    made = []
    with running(server, folders[0].parent) as (url, peak_mb):
        for folder in folders:
            ask(url, folder, QUESTIONS[0], 2, patience=600)
        for policies in (folders[:1], folders):
            for streams in options.streams:
                made.append(together(url, policies, streams, options.tokens))
                told = {"server": server, "policies": len(policies), "streams": streams}
                print(json.dumps(told | made[-1] | {"peak_rss_mb": peak_mb()}), flush=True)
        changes = [ask(url, folders[n % 2], QUESTIONS[0], 2).first_token for n in range(4)]
        stays = [ask(url, folders[1], QUESTIONS[0], 2).first_token for _ in range(4)]
        change = statistics.median(map(seconds, changes)) - statistics.median(map(seconds, stays))
        last = {"server": server, "change_s": round(change, 3), "peak_rss_mb": peak_mb()}
        print(json.dumps(last), flush=True)
    return [*made, last]


def together(url: str, policies: Sequence[Path], streams: int, tokens: int) -> Figures:
    """So many people ask at once, the policies in turn, twice each."""
    heard: list[Heard] = []
    began = time.monotonic()
    with ThreadPoolExecutor(streams) as pool:

        def person(number: int) -> list[Heard]:
            asked = [(number + turn, policies[(number + turn) % len(policies)]) for turn in (0, 1)]
            return [ask(url, each, QUESTIONS[n % len(QUESTIONS)], tokens) for n, each in asked]

        for each in pool.map(person, range(streams)):
            heard += each
    wall = time.monotonic() - began
    firsts = sorted(seconds(each.first_token) for each in heard)
    return {
        "asked": len(heard),
        "failed": sum(not each.is_whole for each in heard),
        "first_token_median_s": round(statistics.median(firsts), 2),
        "first_token_p95_s": round(firsts[max(0, -(-95 * len(firsts) // 100) - 1)], 2),
        "tokens_per_s": round(sum(each.tokens for each in heard) / wall, 1),
    }


def seconds(first_token: float | None) -> float:
    return PATIENCE if first_token is None else first_token


def ask(url: str, model: Path, question: str, tokens: int, patience: float = PATIENCE) -> Heard:
    """One streamed answer, as the site asks for it."""
    heard, began = Heard(), time.monotonic()
    body = {
        "model": str(model),
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": tokens,
    }
    headers = {"Authorization": "Bearer benchmark"}
    try:
        with httpx.stream(
            "POST",
            f"{url}/v1/chat/completions",
            json=body,
            headers=headers,
            timeout=patience,
            trust_env=False,
        ) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if time.monotonic() - began > patience:
                    return heard
                if not line.startswith("data: {"):
                    continue
                for choice in json.loads(line.removeprefix("data: ")).get("choices") or []:
                    if (choice.get("delta") or {}).get("content"):
                        heard.tokens += 1
                        heard.first_token = heard.first_token or time.monotonic() - began
                    heard.is_whole |= bool(choice.get("finish_reason"))
    except httpx.HTTPError:
        pass
    return heard


@contextmanager
def running(server: str, models: Path) -> Iterator[tuple[str, Any]]:
    """The address of a server that has been started, and what tells its peak of memory in MB."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = {
        "transformers": [str(Path(sys.executable).parent / "transformers"), "serve"],
        "ours": [sys.executable, "-m", "rlhf.learning.serving", "--models", str(models)],
    }[server]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "INFERENCE_API_KEY": "benchmark"}
    process = subprocess.Popen(
        [*command, "--port", port],
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(url, process)
        yield url, lambda: peak_mb(process.pid)
    finally:
        process.terminate()
        killer = threading.Timer(20, process.kill)
        killer.start()
        process.wait()
        killer.cancel()


def wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health", timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    sys.exit(f"{url} does not come up")


def peak_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def ratios(transformers: list[Figures], ours: list[Figures]) -> Figures:
    """Ours over the other, setting by setting, in the order of the lines above."""
    pairs = list(zip(ours[:-1], transformers[:-1], strict=True))
    return {
        "tokens_per_s_times": [
            round(a["tokens_per_s"] / b["tokens_per_s"], 1) if b["tokens_per_s"] else None
            for a, b in pairs
        ],
        "first_token_p95_share": [
            round(a["first_token_p95_s"] / b["first_token_p95_s"], 3) for a, b in pairs
        ],
    }


if __name__ == "__main__":
    main()
