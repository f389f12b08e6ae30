"""Every kind of training on one GPU in a few minutes: speed, and whether its promises hold there.

    python benchmarks/gpu.py [--minutes 8] [--kinds sft,grpo] [--tunes full,lora,bf16]
    python benchmarks/gpu.py --device cpu --tiny

Speed: tokens per second and model FLOPs utilisation, the share of the device's peak in the
arithmetic that the algorithm needs (PaLM, arXiv 2204.02311, appendix B), beside TRL's trainers
where they are installed. Promises: what is published is read by plain classes as it was trained
(the trainer publishes nothing else); a run killed by SIGKILL goes on as if nothing had happened;
two processes learn what one does. It needs the packages of the extra `trainer` and no Django; on a
CPU it does the same with a tiny model. `bf16`: all weights learn, of a model that is stored in
bf16. The table is kept in benchmarks/results/, as Markdown and JSON.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import synthetic
import torch

ROOT = synthetic.ROOT
RESULTS = Path(__file__).resolve().parent / "results"
KINDS = ("sft", "reward", "dpo", "grpo", "ppo")
TUNES = ("full", "lora", "bf16")
PARTS = ("speed", "resume", "two", "trl")
ON_ROLLOUTS = ("grpo", "ppo")
K = 4  # answers to a prompt
# Dense bf16 FLOP/s, from NVIDIA's data sheets of the SXM or PCIe card of that name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
NEAR = 0.1  # of what was learnt, where sums on a GPU come in another order each time
SAME = 1e-2  # of a figure, between one process and two


@dataclass(frozen=True)
class Size:
    """How much work there is: tokens of a prompt and of an answer, answers a step, steps."""

    model: str
    prompt: int
    answer: int
    batch: int
    steps: int


TINY = Size("tiny", 12, 8, 8, 4)
LARGE = Size("half-billion", 128, 256, 64, 6)


class Bench:
    """A folder of models and data, and the runs on them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.size = options, TINY if options.tiny else LARGE
        self.place = Path(tempfile.mkdtemp(prefix="gpu-"))
        self.ends = time.monotonic() + 60 * options.minutes
        self.large, self.small = self.world(self.size), self.world(TINY)

    def world(self, size: Size) -> Path:
        """Models of that size, and rows for every kind."""
        place = self.place / size.model
        if place.exists():
            return place
        synthetic.make_models(size.model, place, True, True)
        shutil.copytree(place / "policy", place / "bf16")
        halve(place / "bf16")
        vocabulary = json.loads((place / "policy/config.json").read_text())["vocab_size"]
        rng = random.Random(0)

        def text(length: int) -> str:
            return synthetic.words(synthetic.random_ids(rng, vocabulary, length, length))

        def write(name: str, rows: list[dict[str, Any]]) -> None:
            (place / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

        asked = [
            {"id": str(n), "prompt": [{"role": "user", "content": text(size.prompt)}]}
            for n in range(size.batch * size.steps)
        ]
        write("prompts.jsonl", asked)
        write("demonstrations.jsonl", [
            {**row, "completion": [{"role": "assistant", "content": text(size.answer)}]}
            for row in asked
        ])  # fmt: skip
        write("rankings.jsonl", [
            {**row, "completions": [text(size.answer) for _ in range(K)],
             "ranks": list(range(1, K + 1)), "labeler": "nobody"}
            for row in asked[: len(asked) // K]
        ])  # fmt: skip
        return place

    def run_folder(self, world: Path, size: Size, kind: str, tune: str, every: int) -> Path:
        """A run of `kind` that writes a checkpoint every so many steps."""
        batch = size.batch // K if kind in ("reward", "dpo") else size.batch
        train: dict[str, Any] = {
            "batch_size": batch, "micro_batch_size": min(batch, 16), "learning_rate": 1e-5,
            "checkpoint_every": every, "evaluate_every": 0,
        }  # fmt: skip
        data = {"sft": "demonstrations", "reward": "rankings", "dpo": "rankings"}
        if kind in ON_ROLLOUTS:
            train |= {"updates": size.steps, "max_new_tokens": size.answer, "sample_prompts": 0,
                      "missing_eos": "none"}  # fmt: skip
            train |= {"k": K} if kind == "grpo" else {"ppo_epochs": 1}
        else:
            train |= {"epochs": 1}
        train |= {"sft": {"sample_prompts": 0}, "dpo": {"sample_prompts": 0, "holdout": 0.0},
                  "reward": {"holdout": 0.0, "calibration_samples": 0}}.get(kind, {})  # fmt: skip
        folder = Path(tempfile.mkdtemp(prefix=f"{kind}-{tune}-", dir=self.place))
        (folder / "config.json").write_text(json.dumps({
            "kind": kind, "seed": 1, "train": train,
            "tune": {"mode": "lora" if tune == "lora" else "full"},
            "data": {"train": str(world / f"{data.get(kind, 'prompts')}.jsonl")},
            "models": {"policy": str(world / ("bf16" if tune == "bf16" else "policy")),
                       **({"reward": str(world / "reward")} if kind in ON_ROLLOUTS else {})},
        }))  # fmt: skip
        return folder

    def learn(self, folder: Path) -> list[dict[str, Any]]:
        """The rest of a run, in this process; its rows of metrics."""
        from rlhf.learning.__main__ import run
        from rlhf.learning.run.run_folder import DONE, RunFolder

        if run(RunFolder(folder, folder), lambda: False, None) != DONE:  # type: ignore[arg-type]
            raise Failed((folder / "log.txt").read_text().strip().splitlines()[-1])
        return steps(folder)

    def speed(self, kind: str, tune: str) -> dict[str, Any]:
        size = self.size
        forget(self.options.device)
        folder = self.run_folder(self.large, size, kind, tune, size.steps)
        rows = self.learn(folder)[1:] or steps(folder)  # the first step warms up
        rate = statistics.median(row["speed/tokens_per_s"] for row in rows)
        if kind in ON_ROLLOUTS:  # it counts the answers
            rate *= (size.prompt + size.answer) / size.answer
        used = torch.cuda.max_memory_allocated() if on_gpu(self) else 0
        return {
            "tokens_per_s": round(rate, 1),
            "mfu": rate * flops(self.large / "policy", kind, tune, size) / self.peak,
            "gpu_gb": round(used / 1e9, 2) or None,
            "published": published(
                folder / "model", kind, "bfloat16" if tune == "bf16" else "float32"
            ),
        }

    @property
    def peak(self) -> float:
        """FLOP/s of the device: of its data sheet, else of a matrix product here."""
        name = torch.cuda.get_device_name() if on_gpu(self) else ""
        known = [rate for card, rate in PEAKS.items() if card in name]
        if not hasattr(self, "_peak"):
            self._peak = known[0] if known else product_rate(self.options.device)
        return self._peak

    def resume(self, kind: str) -> str:
        """Whether a run killed at its first checkpoint ends as the one that nobody killed."""
        whole = self.run_folder(self.small, TINY, kind, "full", 2)
        self.learn(whole)
        killed = self.run_folder(self.small, TINY, kind, "full", 2)
        kill_at_checkpoint(killed)
        self.learn(killed)
        assert "resumed at step 2" in (killed / "log.txt").read_text()
        if weights_hash(whole) == weights_hash(killed):
            return "same hash"
        begun = self.small / "policy"  # a reward model too
        apart = weights_apart(whole / "model", killed / "model", begun)
        if not on_gpu(self) or apart > NEAR:
            raise Failed(f"goes on otherwise: {apart:.1%} of what was learnt is another")
        return f"{apart:.1%} of what was learnt is another"

    def two(self) -> str:
        """Whether two processes on the one device learn what one does."""
        one = self.run_folder(self.small, TINY, "sft", "full", TINY.steps)
        self.learn(one)
        both = self.run_folder(self.small, TINY, "sft", "full", TINY.steps)
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
             "--standalone", "-m", "rlhf.learning", str(both)],
            cwd=ROOT, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise Failed(done.stderr.strip().splitlines()[-1])
        apart = max(map(distance, steps(one), steps(both)))
        if apart > SAME:
            raise Failed(f"two processes learn otherwise: figures differ by {apart:.1%}")
        return f"figures differ by {apart:.0e} at most"

    def trl(self, kind: str) -> float | str:
        import trl_peers

        forget(self.options.device)
        return trl_peers.tokens_per_s(kind, self.large, self.size, self.options.device)


class Failed(Exception):
    """A promise that does not hold."""


def on_gpu(bench: Bench) -> bool:
    return bench.options.device == "cuda"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def forget(device: str) -> None:
    """What the run before left in memory."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def halve(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)


def steps(folder: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["split"] == "train"]


def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    """How far two rows of metrics are apart in what is learnt, relative to their size."""
    names = [name for name in ("loss", "policy/loss", "gradient/norm") if name in one]
    return max(abs(one[n] - other[n]) / max(1e-3, abs(one[n])) for n in names)


def weights_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted((folder / "model").glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def weights_apart(one: Path, other: Path, begun: Path) -> float:
    """|one - other| / |one - what both began with|, over the weights all three have."""
    from safetensors.torch import load_file

    first, second, base = (load_file(each / "model.safetensors") for each in (one, other, begun))
    names = [name for name in base if name.startswith("model.")]

    def squares(theirs: dict[str, torch.Tensor]) -> float:
        return sum(float((first[name] - theirs[name]).square().sum()) for name in names)

    return (squares(second) / max(squares(base), 1e-30)) ** 0.5


def published(folder: Path, kind: str, precision: str) -> str:
    """Reads the folder once more, by plain classes and in the precision it states."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto: Any = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    model, told = auto.from_pretrained(folder, output_loading_info=True, dtype="auto")
    if told["missing_keys"] or told["unexpected_keys"]:
        raise Failed(f"weights are missing or unexpected: {told}")
    if str(model.dtype) != f"torch.{precision}":
        raise Failed(f"published in {model.dtype}, not in {precision}")
    return precision


def kill_at_checkpoint(folder: Path) -> None:
    """Starts the run as a process and kills it once its first checkpoint is there; what it wrote
    after that one is removed, as it may have come further."""
    first, patience = folder / "checkpoints/step-00000002", time.monotonic() + 300
    with (folder / "stderr.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlhf.learning", str(folder)],
            cwd=ROOT, env=environment(), stderr=said,
        )  # fmt: skip
        while not first.exists() and process.poll() is None and time.monotonic() < patience:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    if not first.exists():
        raise Failed((folder / "stderr.txt").read_text().strip().splitlines()[-1])
    for later in (folder / "checkpoints").iterdir():
        if later != first:
            shutil.rmtree(later)
    shutil.rmtree(folder / "model", ignore_errors=True)


def product_rate(device: str) -> float:
    """FLOP/s of a large matrix product, bf16 on a GPU and fp32 on a CPU."""
    side, kind = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    x = torch.randn(side, side, device=device, dtype=kind)

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(5):
            x @ x
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / 5

    return 2 * side**3 / min(seconds() for _ in range(4))


def flops(folder: Path, kind: str, tune: str, size: Size) -> float:
    """Floating-point operations a token of prompt and answer that the algorithm needs.

    A forward takes 2 a weight (embeddings are looked up: none) and 4·L·H·Q·T of attention; a
    backward takes twice as much, or as much where only an adapter learns (PaLM, appendix B)."""
    config = json.loads((folder / "config.json").read_text())
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    shared = config["num_key_value_heads"] / config["num_attention_heads"]
    a_layer = width * width * (2 + 2 * shared) + 3 * width * config["intermediate_size"]
    trunk = 2 * layers * a_layer + 4 * layers * width * (size.prompt + size.answer)
    forward = trunk + 2 * width * config["vocab_size"]
    both = 2 if tune == "lora" else 3  # a forward and its backward
    return {
        "sft": both * forward,
        "reward": both * trunk,
        "dpo": (both + 1) * forward,  # and the reference
        # Answering, reference, reward model and learning; PPO's critic beside them.
        "grpo": (both + 2) * forward + trunk,
        "ppo": (both + 2) * forward + trunk + (both + 1) * trunk,
    }[kind]


def tasks(bench: Bench) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """(kind, what, how) of all there is to do, the most important first."""
    options = bench.options
    for what in options.parts:
        if what == "two":
            yield "sft", "two", bench.two
        elif what == "speed":
            for tune in options.tunes:
                for kind in options.kinds:
                    yield kind, tune, lambda kind=kind, tune=tune: bench.speed(kind, tune)
        else:
            for kind in options.kinds:
                if what == "resume" or kind != "ppo":  # TRL has none
                    yield kind, what, lambda kind=kind, what=what: getattr(bench, what)(kind)


def measure(bench: Bench) -> list[dict[str, Any]]:
    found = []
    for kind, what, how in tasks(bench):
        started = time.monotonic()
        row: dict[str, Any] = {"kind": kind, "what": what}
        if started > bench.ends:
            row["not_run"] = "no time was left"
        else:
            try:
                row["found"] = how()
            except Exception as error:
                row["failed"] = f"{type(error).__name__}: {error}"
        row["seconds"] = round(time.monotonic() - started, 1)
        print(json.dumps(row), file=sys.stderr, flush=True)
        found.append(row)
        for place in bench.place.glob("*-*-*"):
            shutil.rmtree(place)  # models of a gigabyte each
    return found


def table(bench: Bench, found: list[dict[str, Any]]) -> str:
    """Markdown: speed by kind and tune, then what was promised."""
    peers = {row["kind"]: row for row in found if row["what"] == "trl"}
    device = torch.cuda.get_device_name() if on_gpu(bench) else "CPU"
    lines = [
        f"{device}, {versions()}, model {bench.size.model},"
        f" {bench.size.prompt} + {bench.size.answer} tokens, {bench.size.batch} answers a step,"
        f" peak {bench.peak / 1e12:.3g} TFLOP/s",
        "",
        "| kind | learns | tokens/s | MFU | GPU memory, GB | published | TRL, tokens/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        if row["what"] in TUNES:
            got, peer = row.get("found"), said(peers.get(row["kind"], {}))
            cells = (
                [f"{got['tokens_per_s']:g}", f"{got['mfu']:.1%}", got["gpu_gb"] or "",
                 f"read back, {got['published']}"] if got else [said(row), "", "", ""]
            )  # fmt: skip
            peer = peer if row["what"] == "full" else ""
            lines.append(f"| {' | '.join(map(str, [row['kind'], row['what'], *cells, peer]))} |")
    lines += ["", "| kind | promise | found |", "|---|---|---|"]
    names = {"resume": "goes on after SIGKILL", "two": "two processes = one"}
    lines += [
        f"| {row['kind']} | {names[row['what']]} | {said(row)} |"
        for row in found
        if row["what"] in names
    ]
    return "\n".join(lines) + "\n"


def said(row: dict[str, Any]) -> str:
    for name, before in (("failed", "failed: "), ("not_run", "not run: ")):
        if name in row:
            return before + str(row[name])
    return str(row.get("found", ""))


def versions() -> str:
    names = []
    for name in ("torch", "transformers", "trl"):
        try:
            names.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            names.append(f"no {name}")
    return ", ".join(names)


def chosen(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        asked = text.split(",")
        if unknown := [each for each in asked if each not in allowed]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(allowed)}")
        return asked

    return read


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of half a million weights")
    parser.add_argument("--minutes", type=float, default=8, help="what does not fit is named")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table")
    for name, allowed in (("kinds", KINDS), ("tunes", TUNES), ("parts", PARTS)):
        parser.add_argument(f"--{name}", type=chosen(allowed), default=list(allowed))
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA GPU here; --device cpu --tiny does the same on a CPU")
    if options.device == "cpu" and torch.cuda.is_available():
        parser.error("there is a GPU, which the trainer takes: hide it by CUDA_VISIBLE_DEVICES=")
    bench = Bench(options)
    try:
        found = measure(bench)
        text = table(bench, found)
    finally:
        shutil.rmtree(bench.place, ignore_errors=True)
    options.out.mkdir(parents=True, exist_ok=True)
    place = options.out / f"gpu-{time.strftime('%Y%m%d-%H%M%S')}"
    place.with_suffix(".md").write_text(text)
    place.with_suffix(".json").write_text(json.dumps(found, indent=1))
    print(text)
    return int(any("failed" in row for row in found))


if __name__ == "__main__":
    sys.exit(main())
