"""What a round would do, worked out and not done: the dry run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from annotate.models import Project
from rlhf.rounds.settings import Launch
from rlhf.stages import TRAININGS


@dataclass(frozen=True)
class Planned:
    """One stage: where it starts, what it would read, how far it would go."""

    name: str
    starts_from: str
    lines: dict[str, int]  # of each data file
    reads: str  # the same in words
    steps: int | None  # None: it depends on the tokenizer
    mode: str


def plan_round(project: Project, launch: Launch) -> list[Planned]:
    """Works out every training of the launch from the labels there are now. Raises ConfigError."""
    return list(_plan(project, launch))


def _plan(project: Project, launch: Launch) -> Iterator[Planned]:
    start = launch.base.name
    for kind, config in launch.configs().items():
        if kind not in TRAININGS:  # an evaluation learns nothing
            continue
        stage, train = TRAININGS[kind], config["train"]
        frozen = stage.collect(project, launch.filters, train=train)
        steps = stage.steps(train, frozen.files["train"])
        lines = {name: count for name, count in frozen.counts.items() if count}
        yield Planned(stage.label, start, lines, stage.reads(lines), steps, config["tune"]["mode"])
        if stage.makes_policy:
            start = f"the policy of {stage.label}"
