"""What is known of how good the policies are: people beside the reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from django.core.paginator import Paginator

from annotate.models import Completion, Policy, Project, Task
from rlhf.data.staleness import stale_in
from rlhf.evaluation.bradley_terry import Standing, standings
from rlhf.evaluation.matches import Match, win_rate
from rlhf.evaluation.win_rate import batch_of
from rlhf.models.metrics import Metric
from rlhf.models.outcomes import TrainedPolicy
from rlhf.models.runs import Run
from rlhf.registry.verdict import Verdicts
from rlhf.stages.chart import colours_of

WIDTH = 200  # of an interval's drawing, in its own units
MOST_DOTS = 200
PAIRS_SHOWN = 20  # on a page


@dataclass(frozen=True)
class Row:
    """A line of the table of standings, with where its interval is drawn."""

    policy: Policy
    standing: Standing
    left: float | None
    right: float | None
    middle: float | None
    average: float | None


def people_on(run: Run | None, verdicts: Verdicts) -> dict[str, Any]:
    """Returns what the round's page says of people's judgement of its evaluation, once there is
    something to judge. None: the round has no evaluation."""
    if run is None or run.state != Run.State.SUCCEEDED or "win_rates" not in run.summary:
        return {}
    tasks = run.project.tasks.of_kind(Task.Kind.RANK).of_batch(batch_of(run))
    return {
        "verdicts": verdicts.among(Completion.objects.sampled_by(run.pk).speakers()),
        "asked": {"tasks": tasks.count(), "answered": tasks.count() - tasks.open().count()},
    }


def standings_of(project: Project, matches: Sequence[Match]) -> list[Row]:
    found = standings(matches)
    if not found:
        return []
    policies = {policy.pk: policy for policy in project.policies.all()}
    ends = [
        end for each in found for end in (each.low, each.high, each.strength) if end is not None
    ]
    low, high = min(*ends, 0.0), max(*ends, 0.0)

    def at(strength: float | None) -> float | None:
        return None if strength is None else round((strength - low) * WIDTH / (high - low or 1), 1)

    return [
        Row(policies[each.policy], each, at(each.low), at(each.high), at(each.strength), at(0.0))
        for each in found
    ]


OVER_OPTIMISATION: dict[str, Any] = {
    "title": "Over-optimisation",
    "unit": "score of the reward model",
    "x": "√KL to the SFT policy, √nats",
    "right": "wins over SFT, by people",
}


def over_optimisation_of(
    project: Project, matches: Sequence[Match]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns (series, rows) of score by √KL of every step of a training against a reward model,
    and of people's preference, with its interval, where a policy came out (Gao et al. 2023,
    "Scaling laws for reward model overoptimization"): the score goes on rising where people have
    long turned away. Each policy keeps its colour."""
    series: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    trained = list(TrainedPolicy.objects.of_project(project).by_reward_model())
    colours = colours_of(each.policy_id for each in trained)
    for each in trained:
        run = each.checkpoint.run
        steps = Metric.objects.thinned(run, splits=["train"]).with_kl_and_score()
        dots = [(sqrt(max(kl, 0.0)), score) for kl, score in steps]
        if not dots:
            continue
        name, of = str(each.policy), f"{each.policy_id}"
        line = {"split": "train", "colour": colours[each.policy_id]}
        series.append({**line, "label": name, "metric": f"score {of}", "dots": True})
        shown = dots[:: len(dots) // MOST_DOTS + 1]
        rows += [_dot(x, {f"score {of}": score}) for x, score in shown]
        parent = each.policy.parent_id
        seen = win_rate(matches, each.policy_id, parent) if parent else None
        if seen:
            people = {**line, "label": f"{name}, people", "metric": f"people {of}"}
            series.append({**people, "diamond": True, "right": True})
            ends = {"low": seen.overall.low, "high": seen.overall.high}
            known = {f"people {of} {end}": at for end, at in ends.items() if at is not None}
            rows.append(_dot(dots[-1][0], {f"people {of}": seen.overall.win_rate, **known}))
    return series, sorted(rows, key=lambda row: row["step"])


def _dot(x: float, values: dict[str, float]) -> dict[str, Any]:
    return {"step": round(x, 4), "split": "train", "values": values}


def evaluation_page(project: Project, page: str | None = None) -> dict[str, Any]:
    """Returns what is known of the policies, with the ids of those made of withdrawn data."""
    verdicts = Verdicts(project)
    pairs = Paginator(verdicts.known(), PAIRS_SHOWN).get_page(page)
    matches = verdicts.matches
    series, dots = over_optimisation_of(project, matches)
    return {
        "page": pairs,
        "verdicts": verdicts.of(list(pairs)),
        "standings": standings_of(project, matches),
        "width": WIDTH,
        "over_optimisation": {**OVER_OPTIMISATION, "series": series, "rows": dots}
        if dots
        else None,
        "dots": dots,
        "stale": stale_in(project).policies,
    }
