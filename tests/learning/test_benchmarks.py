"""A benchmark drives the product's own learners and prints one line of figures."""

import importlib
import json
import runpy
import subprocess
import sys
from unittest.mock import patch

import pytest
import torch

from tests.learning.conftest import ROOT


def run_here(command, *, check):
    """In place of `subprocess.run`: the imports of a Python program take longer than its work."""
    program, *arguments = map(str, command[1:])
    with patch.object(sys, "argv", [program, *arguments]):
        runpy.run_path(program, run_name="__main__")


def checked(printed, rate):
    figures = json.loads(printed)
    assert figures[rate] > 0 and figures["peak_rss_mb"] > 100
    return figures


def test_a_benchmark_is_a_program_that_prints_its_rate_and_its_memory():
    command = "benchmarks/sft.py --threads 1 --n 2 --batch 2 --epochs 2"
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    checked(done.stdout, "tokens_per_s")


@pytest.mark.parametrize(
    ("command", "rate"),
    [
        ("ppo.py --episodes 4 --batch 2 --response-len 3 --critic shared", "episodes_per_s"),
        ("reward.py --prompts 2 --k 3 --epochs 2", "comparisons_per_s"),
    ],
)
def test_so_do_the_others(command, rate, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(subprocess, "run", run_here)
    name, *rest = command.split()
    threads = str(torch.get_num_threads())
    run_here([sys.executable, ROOT / "benchmarks" / name, "--threads", threads, *rest], check=True)
    figures = checked(capsys.readouterr().out, rate)
    if name == "ppo.py":
        assert figures["response_length"] == 3 and figures["first_ratio_deviation"] < 1e-4


def test_the_gpu_script_does_on_a_cpu_what_it_does_there(tmp_path, monkeypatch, capsys):
    """Two kinds and two ways to learn; `python benchmarks/gpu.py --device cpu --tiny` does all."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    asked = "--kinds sft,grpo --tunes lora,bf16 --parts speed,resume --device cpu --tiny"
    program = [sys.executable, ROOT / "benchmarks/gpu.py", *asked.split(), "--out", tmp_path]
    with pytest.raises(SystemExit) as done:
        run_here(program, check=True)
    told = capsys.readouterr()
    assert done.value.code == 0, told.err
    (kept,) = tmp_path.glob("gpu-*.json")
    rows = {(row["kind"], row["what"]): row["found"] for row in json.loads(kept.read_text())}
    assert len(rows) == 6
    for kind in ("sft", "grpo"):
        assert rows[kind, "resume"] == "same hash"
        for tune, precision in (("lora", "float32"), ("bf16", "bfloat16")):
            speed = rows[kind, tune]
            assert speed["tokens_per_s"] > 0 and speed["mfu"] > 0
            assert speed["published"] == precision
            assert f"| {kind} | {tune} | {speed['tokens_per_s']:g} |" in told.out


def test_the_arithmetic_of_a_forward_is_what_torch_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import gpu
    import synthetic
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    size = gpu.Size("tiny", 40, 24, 2, 1)
    synthetic.save_random(tmp_path, size.model)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    ids = torch.ones(2, 64, dtype=torch.long)
    with FlopCounterMode(display=False) as counted:
        model(ids).logits.sum().backward()
    stated = gpu.flops(tmp_path, "sft", "full", size) * ids.numel()
    assert counted.get_total_flops() == pytest.approx(stated, rel=0.01)


def test_the_ids_of_the_peer_come_back_from_the_words_of_a_benchmark(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import synthetic
    from transformers import AutoTokenizer

    (tmp_path / "config.json").write_text('{"vocab_size": 2048, "model_type": "llama"}')
    synthetic.save_tokenizer(tmp_path, stops=True)
    tokenizer, ids = AutoTokenizer.from_pretrained(tmp_path), list(range(2048))
    assert tokenizer(synthetic.words(ids), add_special_tokens=False)["input_ids"] == ids
    assert tokenizer.decode([1207, 20, 102]) == "1207 20 102"


def test_the_methods_are_compared_by_prompts_of_every_seed(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    methods = importlib.import_module("methods")
    assert methods.farthest(1) == 0 and methods.farthest(16) == pytest.approx(1.835, abs=1e-3)
    run = {"method": "grpo", "budget": "equal KL", "kl": 1.5, "gold": 0.5, "prompts": ["a", "b"]}
    methods.table([
        {**run, "seed": 0, "setting": "256 answers", "wins": [1.0, 0.5]},
        {**run, "seed": 1, "setting": "384 answers", "wins": [0.5, 0.75], "gold": 1.0},
    ])  # fmt: skip
    *_, row = capsys.readouterr().out.splitlines()
    begun = "| equal KL | grpo | 256 answers, 384 answers | 1.5 · 1.5 | 0.50 · 1.00 | 69 % ("
    assert row.startswith(begun)  # of four prompts: "a" of one world is not that of another
    low, high = row.removeprefix(begun).removesuffix(") |").split(" to ")
    assert 0 <= int(low) < 50 and int(high) > 85
