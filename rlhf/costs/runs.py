"""What runs cost: the machine's time, and the answers they paid for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Count, Q, Sum

from annotate.models import Assignment, Call, Demonstration, Policy, Project
from rlhf.models.outcomes import Snapshot, TrainedPolicy, snapshot_of
from rlhf.models.runs import Run
from rlhf.stages.kinds.sample import DISTILLED_BY

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Spent:
    """Machine time in seconds at a price per hour, and the prices of answers that servers outside
    gave; `unpriced`: how many of those calls nobody knows the price of."""

    seconds: float = 0.0
    an_hour: Decimal | None = None
    calls: Decimal = Decimal(0)
    unpriced: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.seconds + other.seconds,
            self.an_hour if self.an_hour is not None else other.an_hour,
            self.calls + other.calls,
            self.unpriced + other.unpriced,
        )

    @property
    def machine(self) -> Decimal | None:
        if not self.seconds:
            return Decimal(0)
        if self.an_hour is None:
            return None
        return Decimal(round(self.seconds)) * self.an_hour / SECONDS_AN_HOUR

    @property
    def cost(self) -> Decimal | None:
        """All of it; None where a price is not known."""
        return None if self.machine is None or self.unpriced else self.machine + self.calls


def spent_on(project: Project, runs: Iterable[Run]) -> dict[int, Spent]:
    """Says what each of these runs cost, by its id: machine time at today's price."""
    runs = list(runs)
    made = Call.objects.of_project(project).of_runs(run.pk for run in runs)
    unknown = Count("pk", filter=Q(price=None, outcome=Call.Outcome.ANSWERED))
    sums = made.order_by().values_list("run").annotate(unpriced=unknown, paid=Sum("price"))
    paid = {run: (price or Decimal(0), unpriced) for run, unpriced, price in sums}
    return {
        run.pk: Spent(run.seconds or 0.0, project.machine_price, *paid.get(run.pk, (Decimal(0), 0)))
        for run in runs
    }


def total_of(found: Iterable[Spent]) -> Spent:
    return sum(found, Spent())


def by_round(project: Project, runs: Iterable[Run]) -> dict[int, Spent]:
    """Adds up what the runs of each round cost, by the round's id."""
    runs = list(runs)
    spent, found = spent_on(project, runs), dict[int, Spent]()
    for run in runs:
        if run.round_id:
            found[run.round_id] = found.get(run.round_id, Spent()) + spent[run.pk]
    return found


def runs_behind(policy: Policy, *, until: Policy | None = None) -> list[Run]:
    """Lists the runs that a policy came out of: its training and those of its parents, the reward
    models that taught them, and the samplings whose answers were their demonstrations. `until`: an
    ancestor whose own training is not counted."""
    found: dict[int, Run] = {}
    ancestor: Policy | None = policy
    while ancestor and ancestor != until:
        training = TrainedPolicy.objects.of(ancestor)
        for run in _behind(training.checkpoint.run) if training else []:
            found[run.pk] = run
        ancestor = ancestor.parent
    return list(found.values())


def _behind(run: Run) -> list[Run]:
    taught = run.kind in Run.BY_REWARD_MODEL
    judges = Run.objects.reward_models_before(run) if taught else []
    runs = [run, *judges]
    asked = [each for one in runs if (each := snapshot_of(one))]
    return [*runs, *Run.objects.of_project(run.project).in_bulk(_samplings(asked)).values()]


def _samplings(snapshots: list[Snapshot]) -> set[int]:
    """The runs whose answers are demonstrations in these."""
    sources = Demonstration.objects.filter(snapshots__in=snapshots).exclude(distilled_from=None)
    named = sources.order_by().values_list("source", flat=True).distinct()
    numbers = (source.removeprefix(DISTILLED_BY) for source in named)
    return {int(number) for number in numbers if number.isdecimal()}


def seconds_of_labels(runs: Iterable[Run]) -> int:
    """How long people worked on the labels that these runs learnt from."""
    snapshots = [each for run in runs if (each := snapshot_of(run))]
    held = Q(pk__in=[])
    for labels in (Snapshot.demonstrations, Snapshot.rankings):
        name = labels.field.related_model._meta.model_name
        rows = labels.through.objects.filter(snapshot__in=snapshots)
        held |= Q(pk__in=rows.values(f"{name}__assignment"))
    found = Assignment.objects.filter(held).aggregate(seconds=Sum("active_seconds"))
    return found["seconds"] or 0
