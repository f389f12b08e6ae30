"""The README of a published model: what it learnt, from what, and how well that went."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from rlhf.learning.contract.config import Config
from rlhf.learning.contract.hub import is_hub_id, source_of
from rlhf.learning.contract.kinds import KINDS

TAG = "feedback-site"
LEVEL = 0.95  # of the intervals
# What is worth a line on a hub: the metric's type there, by the name it has here.
METRICS = {
    "loss": "loss",
    "perplexity": "perplexity",
    "accuracy": "accuracy",
    "reward/accuracy": "accuracy",
    "objective/scores": "score",
    "objective/kl": "kl",
    "reward/ece": "expected_calibration_error",
}


def model_card(
    config: Config,
    title: str,
    measured: Mapping[str, Mapping[str, Any]],
    descent: Mapping[str, str] | None = None,
) -> str:
    """Markdown with the metadata block of a model hub.

    `measured`: each split's last row of metrics.jsonl, without times: equal runs publish equal
    folders. `descent`: what `descent_of` says of the model it began with."""
    models = {name: value for name, value in asdict(config.models).items() if value}
    stated = config.data.sha256
    hashes = {"train": stated} if isinstance(stated, str) else stated
    facts = {
        "Kind": f"`{config.kind}`",
        **{f"Model: {name}": f"`{value}`" for name, value in models.items()},
        **{f"Data: {name}, sha256": f"`{each}`" for name, each in sorted(hashes.items())},
        "Seed": str(config.seed),
        "Code version": config.code_version or "not given",
    }
    return "\n".join(
        [
            "---",
            metadata(config, title, measured, descent or {}).to_yaml(),
            "---",
            "",
            f"# {title}",
            "",
            KINDS[config.kind].card,
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in facts.items()),
            *(line for split, row in sorted(measured.items()) for line in _table(split, row)),
            "",
            "## Settings",
            "",
            "```json",
            json.dumps({"train": asdict(config.train), "tune": asdict(config.tune)}, indent=1),
            "```",
            "",
        ]
    )


def metadata(
    config: Config,
    title: str,
    measured: Mapping[str, Mapping[str, Any]],
    descent: Mapping[str, str],
) -> ModelCardData:
    """The block of the card that hubs read: descent, task, data sets, and what was measured on rows
    that taught nothing, with intervals where there are some."""
    scores = config.kind == "reward"
    task = "text-classification" if scores else "text-generation"
    base = descent.get("base_model")
    data_sets = [name for name in config.data.datasets.split(",") if name.strip()]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=task,
        base_model=base,
        license=descent.get("license") or "unknown",
        datasets=[name.strip() for name in data_sets] or None,
        tags=[TAG, config.kind],
        model_name=title,
        eval_results=[
            result
            for split, row in sorted(measured.items())
            if split != "train"
            for result in _results(config, task, split, row)
        ]
        or None,
    )
    if base:
        data["base_model_relation"] = "finetune"
    return data


def descent_of(folder: Path) -> dict[str, str]:
    """Which model of a hub a folder is or comes from (`base_model`), and its `license`, as far as
    they are known: from where it was downloaded, else from the card of the run that made it."""
    if source := source_of(folder):
        return {"base_model": source.get("model", ""), "license": source.get("license", "")}
    place = folder / "README.md"
    if not place.is_file():
        return {}
    try:
        said = ModelCard.load(place, ignore_metadata_errors=True).data
    except Exception:  # a card by others may be anything
        return {}
    found = {"license": said.license if isinstance(said.license, str) else ""}
    # Somebody else's card names what that model was made of, and not the model.
    if TAG in (said.tags or []) and isinstance(said.base_model, str):
        found["base_model"] = said.base_model if is_hub_id(said.base_model) else ""
    return {name: value for name, value in found.items() if value}


def _results(config: Config, task: str, split: str, row: Mapping[str, Any]) -> list[EvalResult]:
    stated = config.data.sha256
    revision = stated.get("test") if isinstance(stated, dict) else None
    found = []
    for name, kind in METRICS.items():
        value = row.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            continue
        ends = [row.get(f"{name}_{end}") for end in ("low", "high")]
        known = all(isinstance(end, int | float) for end in ends)
        found.append(
            EvalResult(
                task_type=task,
                dataset_type=TAG,
                dataset_name=f"Held-out rows of this run ({split})",
                dataset_split=split,
                dataset_revision=revision,
                metric_type=kind,
                metric_name=name,
                metric_value=_rounded(value),
                metric_args=(
                    {"confidence_level": LEVEL, "confidence_interval": list(map(_rounded, ends))}
                    if known
                    else None
                ),
            )
        )
    return found


def _rounded(value: Any) -> float:
    return float(f"{value:.4g}")


def _table(split: str, row: Mapping[str, Any]) -> list[str]:
    numbers = {
        name: value
        for name, value in row.items()
        if isinstance(value, float) and not name.startswith("progress/")
    }
    return [
        "",
        f"## Measured ({split}, step {row['step']})",
        "",
        "| measure | value |",
        "|---|---|",
        *(f"| {name} | {value:.4g} |" for name, value in sorted(numbers.items())),
    ]
