"""Is there enough, and good enough, to learn from? Asked before a round is launched.

An error stops the launch; a warning is shown and lets it pass. Each has a name and says what to
do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from django.conf import settings

from annotate.models import Policy, Project
from annotate.prompts.models import PromptQuerySet
from feedback_site.answer_checks.written import read_checks
from rlhf.data.checks import Finding, Labels, check_base, check_leaks, check_lengths
from rlhf.data.counts import count, count_rankings
from rlhf.data.resources import Resources, check_resources, context_of, parameters_of, together
from rlhf.data.rows import check_rows
from rlhf.data.selection import EVERYTHING, TRAIN, Filters, prompts
from rlhf.data.staleness import stale_in
from rlhf.learning.contract.families import refusal
from rlhf.models.machines import Machine
from rlhf.models.outcomes import RewardModel
from rlhf.rounds.settings import Launch
from rlhf.stages import DEFAULT_TRAININGS, STAGES, TRAININGS, in_order
from rlhf.stages.training import Shown, Training

# The weights up to which a recipe was tried: "tiny" teaches all of them at a high rate.
MOST_PARAMETERS = {"tiny": 20e6, "small": 1e9, "large": inf}

Configs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Preflight:
    """What a round would learn from, and what speaks against launching it."""

    counts: dict[str, int]
    findings: list[Finding]
    shown: list[tuple[Shown, int]]  # the counts of its stages' own

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_error]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_error]


def preflight(
    project: Project,
    base: Policy | None,
    filters: Filters = EVERYTHING,
    *,
    stages: Sequence[str] = DEFAULT_TRAININGS,
    configs: Configs | None = None,
    recipe: str = "",
    reward_model: RewardModel | None = None,
) -> Preflight:
    """Looks at what these stages learn from, and at nothing else. `configs`: kind → what its run
    would be told; with it, memory and disk are estimated. `recipe`: whether that suits the base is
    asked too. `reward_model`: of an earlier round, in place of a new one. Raises ValueError for a
    kind that is no stage of a round."""
    rankings = count_rankings(project, filters)
    counts = count(project, filters, rankings)
    trainings = [TRAININGS[kind] for kind in in_order(stages)]
    findings = [*check_base(base), *_check_stages(trainings, configs or {}, reward_model)]
    if base and not findings:
        findings += _check_family(base, {kind: {} for kind in stages} | dict(configs or {}))
        findings += _check_base_against(project, base, filters, configs or {}, recipe)
    findings += _check_stale(project, base)
    if base and reward_model:
        findings += _check_reward_model(base, reward_model, configs or {})
    findings += _check_modes(configs or {})
    findings += _check_gpu(recipe)
    findings += _check_references(prompts(project, filters), configs or {})
    labels = Labels(project, filters, counts, rankings)
    # Two stages that learn from rankings ask the same of them: once is enough.
    for check in dict.fromkeys(check for each in trainings for check in each.label_checks):
        findings += check(labels)
    findings += check_leaks(prompts(project, filters))
    if not counts["held_out_prompts"]:
        findings.append(
            Finding(
                "no_test_split",
                "No prompt is held out (one in five is, by a hash of its text), so the round "
                "cannot be evaluated. Import more prompts.",
            )
        )
    shown = [(each, counts[each.name]) for stage in trainings for each in stage.shows]
    return Preflight(counts=counts, findings=findings, shown=shown)


def _check_stale(project: Project, base: Policy | None) -> Iterator[Finding]:
    if base and base.pk in stale_in(project).policies:
        said = (
            f"{base} was trained on data that has since been withdrawn, and so would be whatever"
            " begins with it. Choose another base."
        )
        yield Finding("stale_base", said)


def _check_family(base: Policy, configs: Configs) -> Iterator[Finding]:
    said = json.loads((settings.DATA_DIR / base.folder / "config.json").read_text())
    if reason := refusal(said, configs):
        yield Finding("family_refused", f"{base}: {reason}.", is_error=True)


def _check_base_against(
    project: Project, base: Policy, filters: Filters, configs: Configs, recipe: str
) -> Iterator[Finding]:
    """Whether the prompts fit into its context, and the round into the machine."""
    folder = settings.DATA_DIR / base.folder
    context, layers = context_of(folder)
    answers = [config["train"].get("max_new_tokens", 1) for config in configs.values()]
    if context:
        asked = prompts(project, filters)
        yield from check_lengths(asked, context=context, answer=max(answers, default=1))
    parameters = parameters_of(folder)
    yield from check_resources(resources_of(parameters, layers, configs))
    yield from _check_recipe(parameters, recipe)


def recipe_for(folder: Path) -> str:
    """Returns the recipe for a base of that size; for one whose weights cannot be counted, the
    smallest."""
    return recipe_of_size(parameters_of(folder))


def recipe_of_size(parameters: int) -> str:
    return next(size for size, most in MOST_PARAMETERS.items() if parameters <= most)


def _check_recipe(parameters: int, recipe: str) -> Iterator[Finding]:
    better = recipe_of_size(parameters)
    if parameters and recipe and recipe != better:
        message = (
            f"The recipe “{recipe}” is for models of another size: this base has {parameters:,} "
            f"weights. Choose “{better}”."
        )
        yield Finding("recipe_of_another_size", message)


def _check_gpu(recipe: str) -> Iterator[Finding]:
    """No more than a warning: a machine with one may report tomorrow."""
    machines = Machine.objects.in_use()
    if recipe == "large" and machines and not any(m.figures.get("gpus") for m in machines):
        message = (
            "The recipe “large” is meant for GPUs, and no machine that works here reports one. "
            "Start a worker on a machine with a GPU, or choose “small”."
        )
        yield Finding("no_gpu", message)


def check_rendered(launch: Launch, filters: Filters) -> list[Finding]:
    """Renders every row that the trainings of a launch would read, as the trainer does. That takes
    a while, so it is done once, before the round is launched."""
    stages = {}
    for kind, config in launch.configs().items():
        if kind in TRAININGS:
            stage, train = TRAININGS[kind], config["train"]
            frozen = stage.collect(launch.base.project, filters, train=train)
            stages[stage.label] = frozen.files, stage.room(train)
    return list(check_rows(launch.base, stages))


def resources_of(parameters: int, layers: int, configs: Configs) -> Resources:
    """Estimates what a round takes on a base of so many weights and layers. `configs`: kind → what
    its run would be told. Raises KeyError for a kind that is no stage."""
    return together(
        STAGES[kind].resources(parameters, layers, config) for kind, config in configs.items()
    )


def _check_stages(
    trainings: Sequence[Training], configs: Configs, reward_model: RewardModel | None
) -> Iterator[Finding]:
    if not trainings:
        yield Finding("no_stage", "Choose what to train: at least one stage.", is_error=True)
    makes_one = any(each.makes_reward_model for each in trainings)
    if makes_one and reward_model:
        message = (
            f"The stage Reward model trains a new one, and {reward_model.name} is chosen to be "
            "reused: leave out one of them."
        )
        yield Finding("two_reward_models", message, is_error=True)
    has_reward_model = makes_one or reward_model is not None
    for each in trainings:
        if not each.by_reward_model or has_reward_model:
            continue
        train = configs.get(each.kind, {}).get("train", {})
        if not train.get("checks"):
            message = (
                f"{each.label} learns from a reward model or from checks. Choose that stage too, "
                "or a reward model to reuse, "
                f"name checks in the settings of {each.label} (such as number), or choose DPO "
                "instead of both."
            )
            yield Finding(f"{each.kind}_without_reward", message, is_error=True)
        elif train.get("critic") == "reward":
            message = (
                f"The critic of {each.label} starts from a reward model, and there is none: choose "
                "policy for the setting critic, or the stage Reward model too."
            )
            yield Finding("critic_without_reward", message, is_error=True)


def _check_reward_model(
    base: Policy, reward_model: RewardModel, configs: Configs
) -> Iterator[Finding]:
    """Whether it can still be loaded; and whether a critic that starts from it reads as the policy
    does."""
    if reward_model.checkpoint.removed_at:
        message = (
            f"The files of {reward_model.name} were removed to make room. Choose another, or the "
            "stage Reward model."
        )
        yield Finding("reward_model_gone", message, is_error=True)
        return
    critics = [config.get("train", {}).get("critic") for config in configs.values()]
    if "reward" in critics and _vocabulary(base.folder) != _vocabulary(
        reward_model.checkpoint.folder
    ):
        message = (
            f"{reward_model.name} has another tokenizer than {base}, so PPO's critic cannot start "
            "from it: choose policy for the setting critic, or the stage Reward model."
        )
        yield Finding("critic_of_another_tokenizer", message, is_error=True)


def _vocabulary(folder: str) -> Any:
    """What the tokenizer of a model folder cuts texts into; None where its file does not say."""
    file = settings.DATA_DIR / folder / "tokenizer.json"
    return json.loads(file.read_text()).get("model") if file.is_file() else None


def _check_references(asked: PromptQuerySet, configs: Configs) -> Iterator[Finding]:
    """Whether the prompts have what checks compare with: reference answers, and what only grids
    have."""
    for kind, config in configs.items():
        checks = read_checks(config.get("train", {}).get("checks", ""))
        for part in (each for each in checks if each.check.rests_on):
            message = (
                f"{STAGES[kind].label}: {part.name} rests on {part.check.rests_on}, and prompts to "
                "train on have none. Use it in grids of the playground."
            )
            yield Finding("no_passages", message, is_error=True)
        names = [each.name for each in checks if each.check.needs_reference]
        if not names:
            continue
        said = f"{STAGES[kind].label}: {', '.join(names)} compares answers with reference answers"
        training = asked.in_split(*TRAIN)
        lacking, count = training.without_reference().count(), training.count()
        advice = 'Import them: {"prompt": "…", "reference": "…"}.'
        if count and lacking == count:
            message = f"{said}, and no prompt to train on has one. {advice}"
            yield Finding("no_references", message, is_error=True)
        elif lacking:
            message = (
                f"{said}, which {lacking} of {count} prompts to train on lack: whatever is "
                f"answered to these scores 0 there. {advice}"
            )
            yield Finding("few_references", message)


def _check_modes(configs: Configs) -> Iterator[Finding]:
    """No more than a warning: which worker takes a run, and what that has, shows once it does."""
    modes = {kind: config.get("tune", {}).get("mode") for kind, config in configs.items()}
    stages = [STAGES[kind].label for kind, mode in modes.items() if mode == "qlora"]
    if stages:
        message = (
            f"Mode qlora ({', '.join(stages)}) needs a worker with a CUDA GPU and the package "
            "bitsandbytes; on any other the stage fails as soon as it starts. Without a GPU "
            "choose lora."
        )
        yield Finding("qlora_needs_cuda", message)
