"""Launching: a round is a few rows in state `queued`, and a ring once they are committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from annotate.models import Policy, Project, Prompt, User
from feedback_site.bell import ring
from rlhf.data.checks import Finding, NotReady, check_base
from rlhf.data.preflight import preflight
from rlhf.data.selection import EVERYTHING, Filters, held_out_prompts
from rlhf.data.staleness import stale_in
from rlhf.learning.contract.config import from_dict
from rlhf.learning.contract.config import recipe as recipe_of
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.models.runs import Round, Run, lock_project
from rlhf.stages.order import DEFAULT_STAGES, POLICY_MAKERS, in_order

SIZES = ("tiny", "small", "large")
EVALUATION_K = 2
EVALUATION_PROMPTS = {"tiny": 200, "small": 32, "large": 200}
MOST_COMPLETIONS = 100_000

Overrides = Mapping[str, Mapping[str, Mapping[str, Any]]]


class LaunchedMeanwhile(Exception):
    """Somebody has launched `round` since the page was shown from which this launch was sent."""

    def __init__(self, round: Round) -> None:
        super().__init__(f"{round} was launched meanwhile, by {round.launched_by.display_name}.")
        self.round = round


@transaction.atomic
def launch_round(
    project: Project,
    *,
    by: User,
    base: Policy,
    recipe: str,
    stages: Sequence[str] = DEFAULT_STAGES,
    overrides: Overrides | None = None,
    filters: Filters = EVERYTHING,
    seed: int = 0,
    note: str = "",
    ask_people: int = 0,
    next_batch: int = 0,
    priority: int = 0,
    pinned_to: str = "",
    follows: int | None = None,
) -> Round:
    """`stages`: kinds of training, each of which starts from what the one before it made; an
    evaluation follows them. `overrides`: kind → {"train": {field: value}, "tune": {…}}.
    `ask_people`: on how many held-out prompts people compare the result, blind; `next_batch`: of
    how many prompts they rank fresh answers afterwards. `follows`: the number of the newest round
    the launcher has seen, 0 if there was none. Raises NotReady, ConfigError, and LaunchedMeanwhile
    if there is a newer round than that.

    Every stage learns from the labels of one moment: `filters.until`, or else now."""
    configs = stage_configs(stages, recipe, overrides or {})
    if Run.Kind.EVALUATE in configs:
        afterwards = {"ask_people": ask_people, "next_batch": next_batch}
        configs[Run.Kind.EVALUATE] |= afterwards
    lock_project(project)
    newest = project.rounds.first()
    if follows is not None and newest and newest.number != follows:
        raise LaunchedMeanwhile(newest)
    filters = replace(filters, until=filters.until or timezone.now())
    errors = preflight(project, base, filters, stages=stages, configs=configs).errors
    if errors:
        raise NotReady(errors)
    round = Round.objects.create(
        project=project,
        number=Round.next_number(project),
        recipe=recipe,
        base=base,
        note=note,
        filters=filters.as_dict(),
        launched_by=by,
    )
    runs = [
        Run.objects.create(
            project=project,
            round=round,
            kind=kind,
            position=position,
            config=config,
            seed=seed,
            priority=priority,
            pinned_to=pinned_to,
            launched_by=by,
        )
        for position, (kind, config) in enumerate(configs.items())
    ]
    ring("train", "rlhf.jobs.train", runs[0].pk)
    return round


def launch_comparison(
    project: Project, *, by: User | None, policies: list[Policy], prompts_at_most: int
) -> Run:
    """One answer of each policy to held-out prompts, and then the work of comparing them, blind."""
    if len(policies) < 2:
        message = "It takes two to compare: choose another policy."
        raise NotReady([Finding("one_policy", message, is_error=True)])
    prompts = held_out_prompts(project, prompts_at_most)
    return launch_sampling(
        project, by=by, policies=policies, k=1, prompts=prompts, is_comparison=True
    )


def launch_sampling(
    project: Project,
    *,
    by: User | None,
    policies: list[Policy],
    k: int,
    prompts: list[Prompt],
    seed: int = 0,
    distil: bool = False,
    is_comparison: bool = False,
) -> Run:
    """`k` completions of each prompt from each policy, and then the work of ranking them.

    With `distil`, the finished answers become demonstrations instead: what a policy says with its
    prompt, another can learn to say without."""
    _check_sampling(policies, k, prompts, distil=distil)
    config = {
        "policies": sorted(policy.pk for policy in policies),
        "prompts": sorted(prompt.pk for prompt in prompts),
        "train": {**recipe_of("sample", "small")["train"], "k": k},
        "distil": distil,
        "is_comparison": is_comparison,
    }
    return Run.launch(project, kind=Run.Kind.SAMPLE, config=config, by=by, seed=seed)


def stage_configs(
    stages: Sequence[str], recipe: str, overrides: Overrides
) -> dict[str, dict[str, Any]]:
    """Of each stage, in order; and of an evaluation where there is a policy to evaluate. All its
    contestants may say as much as the newest of them was trained to, if it was trained to speak."""
    configs = {kind: stage_config(kind, recipe, overrides) for kind in in_order(stages)}
    makers = [kind for kind in configs if kind in POLICY_MAKERS]
    if makers:
        train = recipe_of("sample", recipe)["train"]
        length = configs[makers[-1]]["train"].get("max_new_tokens", train["max_new_tokens"])
        configs[Run.Kind.EVALUATE] = {
            "train": {**train, "k": EVALUATION_K, "max_new_tokens": length},
            "prompts_at_most": EVALUATION_PROMPTS[recipe],
        }
    return configs


def stage_config(kind: str, recipe: str, overrides: Overrides) -> dict[str, Any]:
    """Every field of the recipe, with the operator's changes, checked."""
    chosen = recipe_of(kind, recipe)
    changes = overrides.get(kind, {})
    for part in changes:
        if part not in chosen:
            raise ConfigError(f"{kind}: unknown part {part!r}; known are train, tune")
    merged = {part: {**fields, **changes.get(part, {})} for part, fields in chosen.items()}
    # The paths are known only when the run starts; the rest is checked now.
    models = {"policy": "-", "reward": "-"}
    data = {"train": "-", "demonstrations": "-"}
    from_dict({"kind": kind, "models": models, "data": data, **merged})
    return merged


def resume_round(round: Round) -> bool:
    """Every stage that stopped early goes on, in order."""
    resumed = [run for run in round.runs.all() if run.resume()]
    for run in resumed[:1]:
        ring("train", "rlhf.jobs.train", run.pk)
    return bool(resumed)


@transaction.atomic
def launch_again(round: Round, *, by: User) -> Round:
    """The same recipe on the same filters, as of now, without what was withdrawn meanwhile: it
    starts from the nearest ancestor of its base that owes nothing to that. While such a round is
    under way there is no second one."""
    lock_project(round.project)
    note = f"{round} without what was withdrawn"
    if launched := Round.objects.of_project(round.project).under_way().with_note(note).first():
        return launched
    stale = set(stale_in(round.project).policies)
    base = round.base
    while base.pk in stale and base.parent:
        base = base.parent
    settings = {**settings_of(round), "base": base}
    return launch_round(round.project, by=by, note=note, **settings)


def settings_of(round: Round) -> dict[str, Any]:
    """What `launch_round` takes to do the same with the labels of another day."""
    runs = {run.kind: run for run in round.runs.order_by("position")}
    evaluation = runs.pop(Run.Kind.EVALUATE, None)
    return {
        "base": round.base,
        "recipe": round.recipe,
        "stages": tuple(runs),
        "overrides": {
            kind: changes
            for kind, run in runs.items()
            if (changes := changes_of(run.chosen, recipe_of(kind, round.recipe)))
        },
        "filters": replace(Filters.from_dict(round.filters), until=None),
        "seed": next(iter(runs.values())).seed,
        "ask_people": evaluation.config.get("ask_people", 0) if evaluation else 0,
        "next_batch": evaluation.config.get("next_batch", 0) if evaluation else 0,
    }


def changes_of(config: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Where a run's fields differ from its recipe's."""
    changed = {
        part: {name: config[part][name] for name, value in fields.items()
               if config[part].get(name, value) != value}
        for part, fields in recipe.items()
    }  # fmt: skip
    return {part: fields for part, fields in changed.items() if fields}


def chosen_for(run: Run) -> dict[str, Any]:
    """What the operator set for a run otherwise than its recipe; all of it where there is none."""
    round = run.round
    return changes_of(run.chosen, recipe_of(run.kind, round.recipe)) if round else run.chosen


def prioritise_round(round: Round) -> bool:
    """Before all that waits now."""
    highest = Run.objects.waiting().exclude(round=round).aggregate(Max("priority"))
    priority = (highest["priority__max"] or 0) + 1
    moved = [run.prioritise(priority) for run in round.runs.all()]
    return any(moved)


def cancel_round(round: Round) -> bool:
    """The later stages first, so that none starts while the earlier ones end."""
    asked = [run.request_cancel() for run in round.runs.order_by("-position")]
    return any(asked)


def _check_sampling(policies: list[Policy], k: int, prompts: list[Prompt], *, distil: bool) -> None:
    findings = [finding for policy in policies for finding in check_base(policy)]
    if not policies:
        findings.append(Finding("no_policies", "Choose at least one policy.", is_error=True))
    if not prompts:
        message = "There are no such prompts. Import some, or choose another split."
        findings.append(Finding("no_prompts", message, is_error=True))
    if not 1 <= k <= 16:
        findings.append(Finding("bad_k", "K must be between 1 and 16.", is_error=True))
    elif distil and (len(policies), k) != (1, 1):
        message = "Distil one policy at a time, and one completion of each prompt."
        findings.append(Finding("not_distillable", message, is_error=True))
    elif policies and len(policies) * k < 2 and not distil:
        message = "One completion cannot be ranked: ask for at least two of each prompt."
        findings.append(Finding("one_completion", message, is_error=True))
    if len(policies) * k * len(prompts) > MOST_COMPLETIONS:
        message = f"That is more than {MOST_COMPLETIONS:,} completions. Choose fewer prompts."
        findings.append(Finding("too_many", message, is_error=True))
    if findings:
        raise NotReady(findings)
