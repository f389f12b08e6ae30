"""The README of a published model: what it learnt, from what, and how well that went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rlhf.learning.contract.config import Config
from rlhf.learning.contract.kinds import KINDS


def model_card(config: Config, title: str, measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown with the metadata block of a model hub.

    `measured`: each split's last row of metrics.jsonl, without times: equal runs publish equal
    folders."""
    models = {name: value for name, value in asdict(config.models).items() if value}
    facts = {
        "Kind": f"`{config.kind}`",
        **{f"Model: {name}": f"`{value}`" for name, value in models.items()},
        "Data, sha256": f"`{json.dumps(config.data.sha256)}`",
        "Seed": str(config.seed),
        "Code version": config.code_version or "not given",
    }
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            f"tags: [feedback-site, {config.kind}]",
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
