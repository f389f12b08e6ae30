"""A benchmark drives the product's own learners and prints one line of figures."""

import json
import subprocess
import sys

import pytest

from tests.learning.conftest import ROOT


@pytest.mark.parametrize(
    ("command", "rate"),
    [
        ("ppo.py --episodes 4 --batch 2 --response-len 3 --critic shared", "episodes_per_s"),
        ("reward.py --prompts 2 --k 3 --epochs 2", "comparisons_per_s"),
        ("sft.py --n 2 --batch 2 --epochs 2", "tokens_per_s"),
    ],
)
def test_a_benchmark_prints_its_rate_and_its_memory(command, rate):
    name, *rest = command.split()
    done = subprocess.run(
        [sys.executable, f"benchmarks/{name}", "--threads", "1", *rest],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures[rate] > 0 and figures["peak_rss_mb"] > 100
    if name == "ppo.py":
        assert figures["response_length"] == 3 and figures["first_ratio_deviation"] < 1e-4
