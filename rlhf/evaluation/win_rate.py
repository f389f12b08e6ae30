"""Who wins on held-out prompts: as the round's reward model sees it, and put before people.

A policy's n-th completion of a prompt meets the opponent's n-th. Intervals count prompts, not
completions: completions of one prompt resemble each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from annotate.labels.kinds.ranking.tasks import open_rank_tasks
from annotate.models import Completion, Policy
from rlhf.data.selection import HELD_OUT, prompts
from rlhf.learning.contract import intervals
from rlhf.models.outcomes import Evaluation, RewardModel
from rlhf.models.runs import Run, lock_project

MOST_RANKED = 9
WIN, TIE, LOSS = 1.0, 0.5, 0.0


@dataclass(frozen=True)
class Result:
    wins: int
    losses: int
    ties: int
    win_rate: float
    low: float | None
    high: float | None
    prompts: int


def compare(matches: Mapping[int, list[float]]) -> Result:
    """Sums up matches, with a 95 % interval that counts prompts. `matches`: prompt → what each
    match there was worth to us (win 1, tie ½, loss 0)."""
    met = [worth for worth in matches.values() if worth]
    flat = [worth for each in met for worth in each]
    found = intervals.of_share([sum(each) for each in met], [len(each) for each in met])
    low, high = found or (None, None)
    return Result(
        wins=flat.count(WIN),
        losses=flat.count(LOSS),
        ties=flat.count(TIE),
        win_rate=sum(flat) / len(flat),
        low=low,
        high=high,
        prompts=len(met),
    )


def match_up(
    ours: dict[int, list[float]], theirs: dict[int, list[float]]
) -> dict[int, list[float]]:
    """Scores by prompt, ours and theirs → what each match was worth to us."""
    return {
        prompt: [
            WIN if our > their else LOSS if our < their else TIE
            for our, their in zip(scores, theirs[prompt], strict=False)
        ]
        for prompt, scores in ours.items()
        if prompt in theirs
    }


def judge(
    run: Run,
    policies: list[Policy],
    completions: list[Completion],
    *,
    reward_model: RewardModel | None = None,
) -> dict[str, Any]:
    """Stores how each policy did against those after it (the newest comes first), by the scores of
    the reward model. Returns the figures for the run's summary."""
    scores: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for completion in completions:
        if completion.score is not None:
            scores[completion.policy_id][completion.prompt_id].append(completion.score)
    results = {}
    for i, policy in enumerate(policies):
        for opponent in policies[i + 1 :]:
            matches = match_up(scores[policy.pk], scores[opponent.pk])
            if not any(matches.values()):
                continue
            result = compare(matches)
            Evaluation.objects.create(
                run=run,
                round=run.round,
                policy=policy,
                opponent=opponent,
                judge=Evaluation.Judge.REWARD_MODEL,
                reward_model=reward_model,
                **vars(result),
            )
            results[f"{policy.name} over {opponent.name}"] = [
                None if each is None else round(each, 4)
                for each in (result.win_rate, result.low, result.high)
            ]
    means = {
        policy.name: round(_mean(scores[policy.pk]), 4) for policy in policies if scores[policy.pk]
    }
    prompts = len({completion.prompt_id for completion in completions})
    # PostgreSQL sorts the keys of what it keeps: the order has to be said.
    return {
        "prompts": prompts,
        "win_rates": results,
        "pairs": list(results),
        "mean_scores": means,
        "judge": reward_model.name if reward_model else "",
    }


def _mean(by_prompt: dict[int, list[float]]) -> float:
    flat = [score for scores in by_prompt.values() for score in scores]
    return sum(flat) / len(flat)


@transaction.atomic
def ask_people(run: Run, *, prompts_at_most: int) -> int:
    """Puts the answers of an evaluation before people, on so many prompts in all: one ranking task
    a prompt, one answer of each policy, blind, ahead of other work. Returns how many were added."""
    lock_project(run.project)
    said = Completion.objects.sampled_by(run.pk)
    policies = set(said.values_list("policy", flat=True))
    if len(policies) < 2:
        raise ValidationError(
            "There are no answers to compare yet: the evaluation has not finished."
        )
    asked = run.project.tasks.of_batch(batch_of(run)).count()
    return open_rank_tasks(
        run.project,
        prompts=prompts(run.project).in_split(*HELD_OUT),
        k=min(len(policies), MOST_RANKED),
        overlap=run.project.overlap,
        batch=batch_of(run),
        among=said,
        at_most=max(prompts_at_most - asked, 0),
        priority=1,
    )


def batch_of(run: Run) -> str:
    """Names the ranking tasks in which the answers of `run` meet."""
    return f"comparison {run.pk}"
