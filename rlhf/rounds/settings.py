"""What an operator chooses for a round, and what each of its stages is told by that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from annotate.models import Policy
from rlhf.data.selection import EVERYTHING, Filters
from rlhf.learning.contract.config import current_names, from_dict
from rlhf.learning.contract.config import recipe as recipe_of
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.models.outcomes import RewardModel
from rlhf.models.runs import Round, Run
from rlhf.stages import DEFAULT_TRAININGS, TRAININGS, in_order
from rlhf.stages.kinds.evaluate import EVALUATE

SIZES = ("tiny", "small", "large")

Overrides = Mapping[str, Mapping[str, Mapping[str, Any]]]
Configs = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """All that tells one round from another, but for the labels of the day."""

    base: Policy
    recipe: str  # one of SIZES
    stages: Sequence[str] = DEFAULT_TRAININGS  # in any order
    overrides: Overrides = field(default_factory=dict)  # kind → {"train": {field: value}, …}
    filters: Filters = EVERYTHING
    seed: int = 0
    reward_model: RewardModel | None = None  # of an earlier round, in place of a new one
    note: str = ""
    ask_people: int = 0  # on so many held-out prompts they compare the result, blind
    next_batch: int = 0  # of so many prompts they rank fresh answers afterwards
    priority: int = 0  # the higher, the earlier
    pinned_to: str = ""  # the host, or host/gpu, that has to do it

    @classmethod
    def like(cls, round: Round) -> Launch:
        """Returns what launches the same with the labels of another day."""
        runs = {run.kind: run for run in round.runs.order_by("position")}
        evaluation = runs.pop(Run.Kind.EVALUATE, None)
        afterwards = evaluation.config if evaluation else {}
        return cls(
            base=round.base,
            recipe=round.recipe,
            stages=tuple(runs),
            overrides={
                kind: changes
                for kind, run in runs.items()
                if (changes := _changes(run.chosen, recipe_of(kind, round.recipe)))
            },
            filters=replace(Filters.from_dict(round.filters), until=None),
            seed=next(iter(runs.values())).seed,
            reward_model=round.reward_model,
            ask_people=afterwards.get("ask_people", 0),
            next_batch=afterwards.get("next_batch", 0),
        )

    def configs(self) -> Configs:
        """Returns kind → what its run is told, of all runs of the round. Raises ConfigError."""
        configs = stage_configs(self.stages, self.recipe, self.overrides)
        if Run.Kind.EVALUATE in configs:
            afterwards = {"ask_people": self.ask_people, "next_batch": self.next_batch}
            configs[Run.Kind.EVALUATE] |= afterwards
        return configs


def stage_configs(stages: Sequence[str], recipe: str, overrides: Overrides) -> Configs:
    """Returns kind → config of each stage, in order; the last is an evaluation where there is a
    policy to evaluate. Raises ConfigError."""
    configs = {kind: stage_config(kind, recipe, overrides) for kind in in_order(stages)}
    makers = [kind for kind in configs if TRAININGS[kind].makes_policy]
    if makers:
        configs[Run.Kind.EVALUATE] = EVALUATE.config(recipe, configs[makers[-1]]["train"])
    return configs


def stage_config(kind: str, recipe: str, overrides: Overrides) -> dict[str, Any]:
    """Returns every field of the recipe, with the operator's changes, checked. Raises
    ConfigError."""
    chosen = recipe_of(kind, recipe)
    changes = {**overrides.get(kind, {})}
    for part in changes:
        if part not in chosen:
            raise ConfigError(f"{kind}: unknown part {part!r}; known are train, tune")
    changes["train"] = current_names(kind, changes.get("train", {}))
    merged = {part: {**fields, **changes.get(part, {})} for part, fields in chosen.items()}
    # The paths are known only when the run starts; the rest is checked now.
    models = {"policy": "-", "reward": "-"}
    data = {"train": "-", "demonstrations": "-"}
    from_dict({"kind": kind, "models": models, "data": data, **merged})
    return merged


def _changes(config: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Where a run's fields differ from its recipe's."""
    changed = {
        part: {name: config[part][name] for name, value in fields.items()
               if config.get(part, {}).get(name, value) != value}
        for part, fields in recipe.items()
    }  # fmt: skip
    return {part: fields for part, fields in changed.items() if fields}


def chosen_for(run: Run) -> dict[str, Any]:
    """Returns what the operator set for a run otherwise than its recipe; all of it where there is
    none."""
    round = run.round
    return _changes(run.chosen, recipe_of(run.kind, round.recipe)) if round else run.chosen
