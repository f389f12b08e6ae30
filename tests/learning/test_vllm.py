"""PPO and GRPO answered by a vLLM server that runs: `make vllm`."""

import os
import subprocess
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from socket import socket

import pytest

from rlhf.learning.generation.engines import AdapterSync
from rlhf.learning.run.run_folder import DONE
from tests.learning.conftest import ROOT, learn, read_rows

VLLM = Path(os.environ.get("VLLM", ROOT / ".venv-vllm/bin/vllm"))
PATIENCE = 900.0  # seconds; its imports alone take minutes on two busy cores
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
}

pytestmark = [
    pytest.mark.skipif(not VLLM.exists(), reason="vLLM is not installed: make vllm"),
    pytest.mark.timeout(PATIENCE + 300),
]


@pytest.fixture(scope="module")
def server(data_dir, tmp_path_factory):
    """vLLM with the base model of the tests; VLLM_SERVER names one that serves VLLM_MODEL."""
    if address := os.environ.get("VLLM_SERVER"):
        yield address, Path(os.environ["VLLM_MODEL"])
        return
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    with log.open("w") as said:
        process = subprocess.Popen(
            [VLLM, "serve", data_dir / "base", "--served-model-name", "policy", "--dtype",
             "float32", "--max-model-len", "256", "--enable-lora", "--max-lora-rank", "16",
             "--max-loras", "2", "--logprobs-mode", "processed_logprobs", "--enforce-eager",
             "--host", "127.0.0.1", "--port", str(port)],
            stdout=said, stderr=said, env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
    address, ends = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    try:
        while not answers(address):
            assert process.poll() is None and time.monotonic() < ends, log.read_text()[-2000:]
            time.sleep(0.5)
        yield address, data_dir / "base"
    finally:
        process.terminate()
        process.wait()


def answers(address):
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_vllm_answers_with_the_adapter_as_it_is(kind, server, make_run, data_dir, monkeypatch):
    address, base = server
    pushed = []
    push = AdapterSync.push
    monkeypatch.setattr(
        AdapterSync, "push", lambda *a, **k: pushed.append(push(*a, **k)) or pushed[-1]
    )
    reward = {"checks": "length(1-3):1"}
    run = make_run(
        kind, models={"policy": str(base), "reward": ""},
        tune={"mode": "lora", "rank": 8},
        train={"vllm_server": f"{address}/v1", "updates": 4, "learning_rate": 1e-2, **reward,
               **({"critic": "policy"} if kind == "ppo" else {})},
    )  # fmt: skip
    assert learn(run, data_dir) == DONE, (run / "log.txt").read_text()
    rows = [row for row in read_rows(run / "metrics.jsonl") if row["split"] == "train"]
    assert len(rows) == 4 and len(set(pushed)) >= 3  # each update by another adapter
    for row in rows:
        assert row["engine/staleness"] == 0
        assert row["engine/mismatch_max"] < 1e-3 and abs(row["engine/mismatch_kl"]) < 1e-5
