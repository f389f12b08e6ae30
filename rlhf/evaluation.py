"""Who wins on held-out prompts, as the round's reward model sees it.

A policy's n-th completion of a prompt meets the opponent's n-th. The interval resamples prompts,
not completions: completions of one prompt resemble each other."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from annotate.models import Completion, Policy
from rlhf.models import Evaluation, Run

RESAMPLES = 2000
WIN, TIE, LOSS = 1.0, 0.5, 0.0


@dataclass(frozen=True)
class Result:
    wins: int
    losses: int
    ties: int
    win_rate: float
    low: float
    high: float


def compare(matches: dict[int, list[float]], *, seed: int) -> Result:
    """`matches`: prompt → what each match there was worth to us (win 1, tie ½, loss 0)."""
    points = [(sum(worth), len(worth)) for worth in matches.values() if worth]
    flat = [worth for each in matches.values() for worth in each]
    generator = random.Random(seed)
    rates = []
    for _ in range(RESAMPLES):
        drawn = generator.choices(points, k=len(points))
        rates.append(sum(p for p, _ in drawn) / sum(n for _, n in drawn))
    rates.sort()
    return Result(
        wins=flat.count(WIN),
        losses=flat.count(LOSS),
        ties=flat.count(TIE),
        win_rate=sum(flat) / len(flat),
        low=rates[round(0.025 * (RESAMPLES - 1))],
        high=rates[round(0.975 * (RESAMPLES - 1))],
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


def judge(run: Run, policies: list[Policy], completions: list[Completion]) -> dict[str, Any]:
    """Evaluation rows of each policy against those after it (the newest comes first)."""
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
            result = compare(matches, seed=run.seed)
            Evaluation.objects.create(
                run=run,
                round=run.round,
                policy=policy,
                opponent=opponent,
                judge=Evaluation.Judge.REWARD_MODEL,
                **vars(result),
            )
            results[f"{policy.name} over {opponent.name}"] = [
                round(result.win_rate, 4),
                round(result.low, 4),
                round(result.high, 4),
            ]
    means = {
        policy.name: round(_mean(scores[policy.pk]), 4) for policy in policies if scores[policy.pk]
    }
    prompts = len({completion.prompt_id for completion in completions})
    return {"prompts": prompts, "win_rates": results, "mean_scores": means}


def _mean(by_prompt: dict[int, list[float]]) -> float:
    flat = [score for scores in by_prompt.values() for score in scores]
    return sum(flat) / len(flat)
