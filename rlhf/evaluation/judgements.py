"""What is known of how good the policies are: people beside the reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Any

from annotate.models import Completion, Policy, Project, Task
from rlhf.evaluation.bradley_terry import Standing, standings
from rlhf.evaluation.matches import Match, WinRate, by_pair, matches_of, win_rate
from rlhf.evaluation.win_rate import batch_of
from rlhf.models.metrics import Metric
from rlhf.models.outcomes import Evaluation, TrainedPolicy
from rlhf.models.runs import Run

WIDTH = 200  # of an interval's drawing, in its own units
MOST_DOTS = 200


@dataclass(frozen=True)
class Judgement:
    policy: Policy
    opponent: Policy
    people: WinRate | None
    reward_model: Evaluation | None


@dataclass(frozen=True)
class Row:
    """A line of the table of standings, with where its interval is drawn."""

    policy: Policy
    standing: Standing
    left: float
    right: float
    middle: float
    average: float


def judge_pairs(
    pairs: Sequence[tuple[Policy, Policy]], matches: Sequence[Match]
) -> list[Judgement]:
    """Judges each policy against its opponent; leaves out pairs of which nothing is known."""
    met = by_pair(matches)
    scored = Evaluation.objects.latest_by_reward_model({each for pair in pairs for each in pair})
    found = [
        Judgement(
            policy,
            opponent,
            win_rate(met[frozenset((policy.pk, opponent.pk))], policy.pk, opponent.pk),
            scored.get((policy.pk, opponent.pk)),
        )
        for policy, opponent in pairs
    ]
    return [each for each in found if each.people or each.reward_model]


def judgements_of(project: Project, matches: Sequence[Match]) -> list[Judgement]:
    """Judges each policy against the live one and against the one it came from; the newest
    first."""
    policies = {policy.pk: policy for policy in project.policies.select_related("parent")}
    live = next((each for each in policies.values() if each.state == Policy.State.LIVE), None)
    pairs = []
    for policy in policies.values():
        rivals = {each.pk: each for each in (live, policy.parent) if each and each != policy}
        pairs += [(policy, rival) for rival in rivals.values()]
    return judge_pairs(pairs, matches)


def people_on(run: Run | None) -> dict[str, Any]:
    """Returns what the round's page says of people's judgement of its evaluation, once there is
    something to judge. None: the round has no evaluation."""
    if run is None or run.state != Run.State.SUCCEEDED or "win_rates" not in run.summary:
        return {}
    matches = matches_of(run.project)
    policies = Completion.objects.sampled_by(run.pk).speakers()
    tasks = run.project.tasks.of_kind(Task.Kind.RANK).of_batch(batch_of(run))
    return {
        "judgements": judge_pairs(list(combinations(policies, 2)), matches),
        "asked": {"tasks": tasks.count(), "answered": tasks.count() - tasks.open().count()},
    }


def standings_of(project: Project, matches: Sequence[Match]) -> list[Row]:
    found = standings(matches)
    if not found:
        return []
    policies = {policy.pk: policy for policy in project.policies.all()}
    low = min(each.low for each in found)
    scale = WIDTH / (max(each.high for each in found) - low)

    def at(strength: float) -> float:
        return round((strength - low) * scale, 1)

    return [
        Row(policies[each.policy], each, at(each.low), at(each.high), at(each.strength), at(0.0))
        for each in found
    ]


OVER_OPTIMISATION: dict[str, Any] = {
    "title": "Over-optimisation",
    "unit": "score of the reward model",
    "x": "√KL to the SFT policy, √nats",
    "right": "wins over SFT, by people",
    "series": [
        {"label": "score", "metric": "score", "split": "train", "dots": True},
        {"label": "people", "metric": "people", "split": "train", "dots": True, "right": True},
    ],
}


def over_optimisation_of(project: Project, matches: Sequence[Match]) -> list[dict[str, Any]]:
    """Returns score by √KL of every step of a training against a reward model, and people's
    preference where a policy came out (Gao et al. 2023, "Scaling laws for reward model
    overoptimization"): the score goes on rising where people have long turned away."""
    rows: list[dict[str, Any]] = []
    trained = TrainedPolicy.objects.of_project(project).by_reward_model()
    for each in trained:
        run = each.checkpoint.run
        steps = Metric.objects.thinned(run, splits=["train"]).with_kl_and_score()
        dots = [(sqrt(max(kl, 0.0)), score) for kl, score in steps]
        if not dots:
            continue
        rows += [_dot(x, score=score) for x, score in dots[:: len(dots) // MOST_DOTS + 1]]
        parent = each.policy.parent_id
        seen = win_rate(matches, each.policy_id, parent) if parent else None
        if seen:
            rows.append(_dot(dots[-1][0], people=seen.overall.win_rate))
    return sorted(rows, key=lambda row: row["step"])


def _dot(x: float, **values: float) -> dict[str, Any]:
    return {"step": round(x, 4), "split": "train", "values": values}


def evaluation_page(project: Project) -> dict[str, Any]:
    matches = matches_of(project)
    dots = over_optimisation_of(project, matches)
    return {
        "judgements": judgements_of(project, matches),
        "standings": standings_of(project, matches),
        "width": WIDTH,
        "over_optimisation": {**OVER_OPTIMISATION, "rows": dots} if dots else None,
        "dots": dots,
        "comparisons": list(Run.objects.of_project(project).comparisons()[:5]),
    }
