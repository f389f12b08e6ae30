"""What the page of costs shows: policies, uses, labels and rounds, each with what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from annotate.costs.labels import cost_of, labeled
from annotate.costs.models import CallQuerySet
from annotate.costs.totals import Times, Total, times, together, totals
from annotate.costs.uses import Use
from annotate.models import Call, Policy, Project
from rlhf.costs.runs import Spent, by_round, seconds_of_labels, total_of
from rlhf.evaluation.matches import Match, by_pair, matches_of, win_rate
from rlhf.evaluation.win_rate import Result
from rlhf.models.outcomes import TrainedPolicy
from rlhf.models.runs import Round
from rlhf.registry.verdict import DECIDED

ROUNDS = 20  # that are shown
Met = Mapping[frozenset[int], list[Match]]


@dataclass(frozen=True)
class PolicyCost:
    """`policy`: None: words of the playground that are not saved as one. `people`: how often they
    prefer it to `opponent`, blind; None: they have not compared the two."""

    policy: Policy | None
    total: Total
    times: Times
    opponent: Policy | None
    people: Result | None


@dataclass(frozen=True)
class RoundCost:
    """`labels`: what those cost that it learnt from; None: not known. `people`: how often they
    prefer its policy to its base, blind; None: they have not compared the two."""

    round: Round
    spent: Spent
    labels: Decimal | None = None
    people: Result | None = None

    @property
    def a_point(self) -> Decimal | None:
        """What each percent of comparisons above half has cost, labels and machines together; None
        where it is not decided that anything is won, or not all of it is known."""
        if self.people is None or self.labels is None or self.spent.cost is None:
            return None
        if self.people.low is None or self.people.low <= DECIDED:
            return None
        points = Decimal(str(self.people.win_rate)) * 100 - 50
        return (self.labels + self.spent.cost) / points


def costs_page(project: Project, *, since: datetime | None, use: str) -> dict[str, Any]:
    calls = calls_of(project, since=since, use=use)
    found = totals(calls, "policy", "use")
    has_rounds = Round.objects.of_project(project).exists()
    met = by_pair(matches_of(project)) if found or has_rounds else {}
    all_rounds = list(Round.objects.of_project(project).with_runs()) if has_rounds else []
    spent = by_round(project, [run for round in all_rounds for run in round.runs.all()])
    took = times(calls, "policy", among=found)
    return {
        "policies": policies_of(project, _by(0, found), took, met),
        "uses": [(Use(name).label, total) for name, total in _by_calls(_by(1, found))],
        "labels": labeled(project, since),
        "rounds": rounds_of(project, all_rounds[:ROUNDS], spent, met),
        "rounds_in_all": len(all_rounds),
        "all_rounds": total_of(spent.values()),
    }


def calls_of(project: Project, *, since: datetime | None, use: str) -> CallQuerySet:
    return Call.objects.of_project(project).between(since).for_use(use)


def policies_of(
    project: Project, found: dict[Any, Total], took: dict[Any, Times], met: Met
) -> list[PolicyCost]:
    """Lists who was asked, the dearest first, each beside the live policy or, the live one, beside
    its parent."""
    policies = {each.pk: each for each in project.policies.select_related("parent", "connection")}
    live = next((each for each in policies.values() if each.state == Policy.State.LIVE), None)
    rows = []
    for pk, total in found.items():
        policy = policies.get(pk)
        opponent = None if policy is None else policy.parent if policy == live else live
        people = _people(met, policy.pk, opponent.pk) if policy and opponent else None
        rows.append(PolicyCost(policy, total, took.get(pk, Times()), opponent, people))
    return sorted(rows, key=lambda row: (-(row.total.price or Decimal(0)), -row.total.calls))


def _people(met: Met, policy: int, opponent: int) -> Result | None:
    rate = win_rate(met.get(frozenset((policy, opponent)), []), policy, opponent)
    return rate.overall if rate else None


def _by(part: int, found: dict[tuple[Any, Any], Total]) -> dict[Any, Total]:
    """Adds up what has the same first or second part of the key."""
    keys = {key[part] for key in found}
    return {
        one: together(total for key, total in found.items() if key[part] == one) for one in keys
    }


def _by_calls(found: dict[Any, Total]) -> list[tuple[Any, Total]]:
    return sorted(found.items(), key=lambda each: -each[1].calls)


def rounds_of(
    project: Project, rounds: Iterable[Round], spent: Mapping[int, Spent], met: Met
) -> list[RoundCost]:
    """Lists rounds with what their runs cost so far, and what their last policy won."""
    made = TrainedPolicy.objects.of_project(project).final()
    ordered = made.order_by("checkpoint__run__position", "checkpoint__step")
    last = {each.checkpoint.run.round_id: each.policy_id for each in ordered}
    rows = []
    for round in rounds:
        people = _people(met, last[round.pk], round.base_id) if round.pk in last else None
        labels = None
        if people:
            labels = cost_of(seconds_of_labels(round.runs.all()), project.wage)
        rows.append(RoundCost(round, spent.get(round.pk, Spent()), labels, people))
    return rows


TIMES = ("first words p50 ms", "first words p95 ms", "whole answer p50 ms", "whole answer p95 ms")
HEADER = (
    *("policy", "asked by", "calls", "answers", "stopped", "failed", "tokens in", "tokens out"),
    *TIMES,
    *("price", "answers with a price", "price of 1000 answers", "currency"),
)


def csv_rows(project: Project, calls: CallQuerySet) -> Iterator[tuple[Any, ...]]:
    """Lists each policy by use, below HEADER."""
    yield HEADER
    names = dict(project.policies.values_list("pk", "name"))
    found = totals(calls, "policy", "use")
    took = times(calls, "policy", "use", among=found)
    for key, total in sorted(
        found.items(), key=lambda each: (names.get(each[0][0], ""), each[0][1])
    ):
        policy, use = key
        yield (
            *(names.get(policy, ""), Use(use).label),
            *(total.calls, total.answered, total.stopped, total.failed),
            *(total.tokens_in, total.tokens_out, *in_ms(took.get(key, Times()))),
            *(total.price, total.priced, total.price_of_1000, project.currency),
        )


def in_ms(took: Times) -> list[int | None]:
    """Lists the four of TIMES, rounded."""
    return [
        round(getattr(each, part)) if each else None
        for each in (took.first, took.whole)
        for part in ("p50", "p95")
    ]
