"""Every family that people bring learns by every kind, or is refused by name; and what is published
is read back by plain classes (publishing fails where it is not the same).

    FAMILIES=long pytest tests/learning/test_families.py     all of them; writes docs/families.md
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as SCORING,
)

from rlhf.learning.contract.families import WITHOUT_SCORE
from rlhf.learning.models import folders
from rlhf.learning.publishing import writing
from rlhf.learning.run.run_folder import DONE
from tests.learning import families
from tests.learning.conftest import learn, write_rows

LONG = os.environ.get("FAMILIES") == "long"
PAGE = Path(__file__).parents[2] / "docs" / "families.md"
# One for each thing that only some families have.
UNLIKE = ("opt_350m", "bloom", "gemma2", "gemma3_with_eyes", "mamba", "cohere", "qwen3_next")
FEW = ("pretrain", "sft lora", "reward", "ppo, critic: shared")
TRAIN: dict[str, dict[str, Any]] = {
    "pretrain": {"row_tokens": 48, "min_tokens": 4, "epochs": 1, "batch_size": 4},
    "sft": {"epochs": 1, "batch_size": 4, "sample_prompts": 1, "max_new_tokens": 6},
    "reward": {
        "epochs": 1, "batch_size": 4, "calibration_samples": 2, "calibration_tokens": 6,
        "bootstrap": 10,
    },
    "dpo": {"epochs": 1, "batch_size": 4, "sample_prompts": 1, "max_new_tokens": 6,
            "bootstrap": 10},
    "kto": {"epochs": 1, "batch_size": 4, "sample_prompts": 1, "max_new_tokens": 6},
    "rloo": {"updates": 1, "batch_size": 4, "k": 2, "max_new_tokens": 6, "sample_prompts": 1},
    "ppo": {"updates": 1, "batch_size": 4, "max_new_tokens": 6, "sample_prompts": 1},
    "sample": {"k": 1, "max_new_tokens": 6},
}  # fmt: skip
DATA = {
    "pretrain": "documents", "sft": "demonstrations", "reward": "rankings", "dpo": "rankings",
    "kto": "thumbs", "rloo": "prompts", "ppo": "prompts", "sample": "prompts",
}  # fmt: skip
WAYS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pretrain": ("pretrain", "full", {}),
    "sft": ("sft", "full", {}),
    "sft lora": ("sft", "lora", {}),
    "sft last_layers": ("sft", "last_layers", {}),
    "sft head": ("sft", "head", {}),
    "reward": ("reward", "full", {}),
    "reward lora": ("reward", "lora", {}),
    "dpo": ("dpo", "full", {}),
    "dpo lora": ("dpo", "lora", {}),
    "kto": ("kto", "full", {}),
    "kto lora": ("kto", "lora", {}),
    "rloo": ("rloo", "full", {}),
    "rloo lora": ("rloo", "lora", {}),
    "ppo, critic: reward": ("ppo", "full", {"critic": "reward"}),
    "ppo, critic: policy": ("ppo", "last_layers", {"critic": "policy"}),
    "ppo, critic: shared": ("ppo", "lora", {"critic": "shared"}),
    "ppo, critic: adapter": ("ppo", "lora", {"critic": "adapter"}),
    "sample": ("sample", "full", {}),
}
found: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("families")
    texts = families.sentences(60)
    asked = [[{"role": "user", "content": text}] for text in texts[:8]]
    said = [[{"role": "assistant", "content": text}] for text in texts[8:16]]
    turns = list(zip(asked, said, strict=True))
    write_rows(place / "prompts.jsonl", [{"id": f"p{i}", "prompt": p} for i, p in enumerate(asked)])
    write_rows(
        place / "demonstrations.jsonl",
        [{"id": f"d{i}", "prompt": p, "completion": c} for i, (p, c) in enumerate(turns)],
    )
    write_rows(
        place / "thumbs.jsonl",
        [
            {"id": f"t{i}", "prompt": p, "completion": c, "label": i % 2 > 0}
            for i, (p, c) in enumerate(turns)
        ],
    )
    write_rows(
        place / "rankings.jsonl",
        [
            {"id": f"r{i}", "prompt": p, "completions": texts[16 + 3 * i :][:3], "ranks": [2, 1, 3]}
            for i, p in enumerate(asked)
        ],
    )
    write_rows(place / "documents.jsonl", [{"text": " ".join(texts[i : i + 2])} for i in range(12)])
    families.make_model("llama", place / "judge_base")
    (place / "judge").mkdir()
    writing.publish_score(
        folders.load_score(place / "judge_base"), None, folders.renderer(place / "judge_base"),
        place / "judge", "", {"mean": 0.0, "std": 1.0, "bias": 0.0},
    )  # fmt: skip
    return place


def cases() -> Iterator[tuple[str, str]]:
    for name in families.FAMILIES if LONG else UNLIKE:
        for way in WAYS if LONG else FEW:
            yield name, way


def test_the_families_without_a_scalar_head_are_those_of_transformers():
    assert set(CAUSAL) - set(SCORING) == WITHOUT_SCORE


@pytest.mark.parametrize(("name", "way"), list(cases()))
def test_a_family_learns_in_every_way_or_is_refused_by_name(name, way, world):
    base = world / name
    if not base.exists():
        families.make_model(name, base)
    kind, mode, more = WAYS[way]
    judge = base if more.get("critic") == "reward" else world / "judge"
    if judge == base:
        judge = world / f"{name}_judge"
        if not judge.exists():
            pytest.skip("it makes no reward model") if name in WITHOUT_SCORE else make_judge(
                base, judge
            )
    models: dict[str, Any] = {"policy": name}
    if kind == "sample":
        models = {"policies": {"it": {"path": name}}}
    if kind in ("ppo", "rloo"):
        models["reward"] = judge.name
    often = {} if kind == "sample" else {"checkpoint_every": 1, "learning_rate": 1e-3}
    config = {
        "kind": kind, "seed": 3, "models": models,
        "data": {"train": f"{DATA[kind]}.jsonl"},
        "train": {**often, **TRAIN[kind], **more},
    }  # fmt: skip
    if kind != "sample":
        config["tune"] = {"mode": mode, **({"layers": 1} if mode == "last_layers" else {})}
    folder = world / "runs" / f"{name} {way}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))

    code = learn(folder, world)

    outcome = json.loads((folder / "outcome.json").read_text())
    refusal = "" if code == DONE else outcome["error"]
    found.setdefault(name, {})[way] = refusal.replace(str(world) + "/", "")
    is_makeable = name not in WITHOUT_SCORE or not (
        kind == "reward" or more.get("critic") == "policy"
    )
    if is_makeable:
        assert refusal == ""
    else:
        assert refusal.startswith("ConfigError: ") and "with a scalar head" in refusal


@pytest.fixture(scope="module", autouse=True)
def page() -> Iterator[None]:
    """Writes the page, once all families have been tried."""
    yield
    if len(found) == len(families.FAMILIES):
        PAGE.write_text(as_page())


def as_page() -> str:
    ways = [way for way in WAYS if any(way in row for row in found.values())]
    lines = [
        "# Families of models",
        "",
        "What learns in which way. Each cell is a run on a tiny random model of the family, whose",
        "published folder (and adapter) was read back by plain transformers and peft in another",
        "process and gave the trainer's own numbers. `make families` writes this page.",
        "",
        "| family | " + " | ".join(ways) + " |",
        "|---" * (len(ways) + 1) + "|",
    ]
    for name, row in sorted(found.items()):
        cells = [{"": "yes"}.get(row[way], "refused") if way in row else "" for way in ways]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    reasons = sorted({reason for row in found.values() for reason in row.values() if reason})
    lines += ["", "Refused, before anything is learnt:", ""]
    return "\n".join(lines + [f"- {reason}" for reason in reasons] + [""])


def make_judge(base: Path, out: Path) -> None:
    out.mkdir()
    scorer = folders.load_score(base)
    writing.publish_score(
        scorer, None, folders.renderer(base), out, "", {"mean": 0.0, "std": 1.0, "bias": 0.0}
    )
