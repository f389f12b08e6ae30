"""What a round would do, worked out and not done: the dry run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from annotate.models import Policy, Project
from rlhf.data.selection import Filters
from rlhf.data.snapshot import Frozen, collect_for
from rlhf.models.runs import Run
from rlhf.rounds.launch import Overrides, stage_configs
from rlhf.stages.order import POLICY_MAKERS


@dataclass(frozen=True)
class Planned:
    """One stage: where it starts, what it would read, how far it would go."""

    kind: str
    starts_from: str
    lines: dict[str, int]
    steps: int | None
    mode: str

    @property
    def name(self) -> str:
        return str(Run.Kind(self.kind).label)


def plan_round(
    project: Project,
    *,
    base: Policy,
    recipe: str,
    stages: Sequence[str],
    overrides: Overrides,
    filters: Filters,
) -> list[Planned]:
    """Raises ConfigError."""
    return list(_plan(project, base, stage_configs(stages, recipe, overrides), filters))


def _plan(
    project: Project, base: Policy, configs: dict[str, dict[str, Any]], filters: Filters
) -> Iterator[Planned]:
    start = base.name
    for kind, config in configs.items():
        if kind == Run.Kind.EVALUATE:
            continue
        train = config["train"]
        frozen = collect_for(kind, project, filters, train=train)
        steps = _steps(kind, train, frozen)
        lines = {name: count for name, count in frozen.counts.items() if count}
        yield Planned(kind, start, lines, steps, config["tune"]["mode"])
        if kind in POLICY_MAKERS:
            start = f"the policy of {Run.Kind(kind).label}"


def _steps(kind: str, train: dict[str, Any], frozen: Frozen) -> int | None:
    """None: it depends on the tokenizer."""
    rows = frozen.files["train"]
    if kind == Run.Kind.PRETRAIN:
        return None
    if kind == Run.Kind.PPO:
        return int(train["updates"])
    if kind in (Run.Kind.REWARD, Run.Kind.DPO):  # rankings of the same completions are one element
        elements = len({(row["prompt_id"], tuple(row["completions"])) for row in rows})
    else:
        elements = len(rows)
    return int(train["epochs"]) * ceil(elements / train["batch_size"])
