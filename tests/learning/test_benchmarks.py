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


def test_the_ids_of_the_peer_come_back_from_the_words_of_a_benchmark(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import synthetic
    from transformers import AutoTokenizer

    (tmp_path / "config.json").write_text('{"vocab_size": 2048, "model_type": "llama"}')
    synthetic.save_tokenizer(tmp_path, stops=True)
    tokenizer, ids = AutoTokenizer.from_pretrained(tmp_path), list(range(2048))
    assert tokenizer(synthetic.words(ids), add_special_tokens=False)["input_ids"] == ids
    assert tokenizer.decode([1207, 20, 102]) == "1207 20 102"
