"""Models and inputs that a benchmark shares with its peer: token ids drawn from a seed.

The rows of a run are texts, and the peer is handed token ids. So the benchmarked folder has the
model's own weights and a tokenizer whose words are numbers: "17 4 1999" is [17, 4, 1999]. The
product's code then does exactly the peer's work and does not know that it is being measured.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rlhf.learning.run import machine  # noqa: E402

machine.prepare()  # as the trainer does

PAD, EOS = 0, 2  # of the tiny model, and of SmolLM2-Instruct
# Special tokens are cut out of any word that contains them: no number may be one.
SPECIAL = {PAD: "<pad>", EOS: "<end>"}
QUESTIONS = (
    *("What city has the highest population?", "Explain photosynthesis to a child."),
    *("Write a haiku about rain.", "How do I boil an egg?", "Give me three names for a cat."),
    *("What is 12 times 9?", "Say yes or no: is water wet?"),
    "Summarise the plot of Romeo and Juliet in one sentence.",
    *("Who wrote Hamlet?", "Translate 'good morning' to French.", "List two prime numbers."),
    *("What colour is the sky?", "Why do cats purr?", "Name the capital of Peru."),
    *("Reply with the single word OK.", "What is the boiling point of water?"),
)


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="tiny, or a Hugging Face model folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def words(ids: Iterable[int]) -> str:
    return " ".join(SPECIAL.get(i, str(i)) for i in ids)


def random_ids(rng: random.Random, vocabulary: int, least: int, most: int) -> list[int]:
    return [rng.randrange(4, min(vocabulary, 2000)) for _ in range(rng.randint(least, most))]


def chat_ids(folder: Path, count: int, longest: int) -> list[list[int]]:
    """Token ids of real questions under the model's own chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for i in range(count):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": QUESTIONS[i % len(QUESTIONS)]}],
            add_generation_prompt=True, tokenize=False,
        )  # fmt: skip
        rows.append(tokenizer(text, add_special_tokens=False)["input_ids"][-longest:])
    return rows


class Workplace:
    """A temporary folder with the models, the data and the run folder of one benchmark."""

    def __init__(self, model: str, *, stops: bool = True, scorer: bool = False) -> None:
        """`stops` False: the model knows no end of an answer. `scorer`: a reward model as well."""
        self.place = Path(tempfile.mkdtemp(prefix="benchmark-"))
        atexit.register(shutil.rmtree, self.place, ignore_errors=True)
        # In a process of its own: what loading costs there is not this one's peak memory.
        subprocess.run(
            [sys.executable, __file__, model, str(self.place), str(int(stops)), str(int(scorer))],
            check=True,
        )
        config = json.loads((self.place / "policy/config.json").read_text())
        self.vocabulary: int = config["vocab_size"]

    def fit(self, threads: int) -> None:
        """Sets torch up as a run of the product would."""
        weights = (self.place / "policy").glob("*.safetensors")
        machine.fit(sum(path.stat().st_size for path in weights), threads)

    def rows(self, name: str, rows: Iterable[dict[str, Any]]) -> str:
        path = self.place / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    def run_folder(self, config: dict[str, Any]) -> Any:
        from rlhf.learning.run.run_folder import RunFolder

        (self.place / "config.json").write_text(json.dumps(config))
        return RunFolder(self.place, self.place)


def asking(ids: Iterable[int]) -> list[dict[str, str]]:
    return [{"role": "user", "content": words(ids)}]


def best_seconds(turn: Callable[[int], Any], times: int) -> tuple[float, list[list[float]]]:
    """(least seconds, [seconds, processor seconds] of all but the first).

    The first turn warms up; processor seconds tell when others shared the machine.
    """
    taken = []
    for number in range(times):
        started, used = time.perf_counter(), time.process_time()
        turn(number)
        taken.append([time.perf_counter() - started, time.process_time() - used])
    kept = taken[1:] or taken
    return min(kept)[0], [[round(each, 3) for each in pair] for pair in kept]


def report(options: argparse.Namespace, **figures: Any) -> None:
    import torch

    peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps({
        "benchmark": Path(sys.argv[0]).stem, **vars(options), "torch": torch.__version__,
        **{k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()},
        "peak_rss_mb": peak_mb,
    }))  # fmt: skip


def make_models(model: str, place: Path, stops: bool, scorer: bool) -> None:
    from transformers import AutoConfig

    from rlhf.learning.models import folders
    from rlhf.learning.publishing import writing

    policy, reward = place / "policy", place / "reward"
    policy.mkdir(parents=True)
    if model in SHAPES:
        save_random(policy, model)
    else:
        for path in Path(model).resolve().glob("*.safetensors*"):
            (policy / path.name).symlink_to(path)
        AutoConfig.from_pretrained(model).save_pretrained(policy)
    save_tokenizer(policy, stops)
    if scorer:
        import torch

        torch.manual_seed(2)
        reward.mkdir()
        writing.publish_score(
            folders.load_score(policy), None, folders.renderer(policy), reward, "",
            {"mean": 0.0, "std": 1.0, "bias": 0.0},
        )  # fmt: skip


# Llamas with random weights: what is measured does not depend on their values.
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "vocab_size": 2048, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    },
    "half-billion": {
        "vocab_size": 32768, "hidden_size": 1536, "intermediate_size": 4096,
        "num_hidden_layers": 16, "num_attention_heads": 12, "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
    },
}  # fmt: skip


def save_random(folder: Path, shape: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape],
        pad_token_id=PAD, bos_token_id=1, eos_token_id=EOS, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def save_tokenizer(folder: Path, stops: bool) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    vocabulary = {words([i]): i for i in range(size)}
    spelling = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    spelling.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=spelling, pad_token="<pad>", eos_token="<end>"
    )
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config["eos_token_id"] = EOS if stops else None
    (folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    make_models(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "1", sys.argv[4] == "1")
