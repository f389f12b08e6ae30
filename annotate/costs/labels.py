"""The time that labels take, by kind, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Count, Sum

from annotate.people.models import Project
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Labeled:
    """Answers to one kind of task, and how many seconds people worked on them. `wage`: per hour;
    None: not set."""

    kind: str
    answers: int
    seconds: int
    wage: Decimal | None

    @property
    def name(self) -> str:
        return str(Task.Kind(self.kind).label)

    @property
    def seconds_each(self) -> float:
        return self.seconds / self.answers

    @property
    def cost(self) -> Decimal | None:
        return cost_of(self.seconds, self.wage)

    @property
    def cost_each(self) -> Decimal | None:
        return None if self.cost is None else self.cost / self.answers


def cost_of(seconds: int, an_hour: Decimal | None) -> Decimal | None:
    """What so many seconds cost at a price per hour; None where there is no price."""
    return None if an_hour is None else seconds * an_hour / SECONDS_AN_HOUR


def labeled(project: Project, since: datetime | None) -> list[Labeled]:
    """Sums up submitted work by kind, the most time first; times as the time sheet has them."""
    done = Assignment.objects.of_project(project).submitted().order_by()
    done = done.submitted_since(since) if since else done
    sums = done.values_list("task__kind").annotate(n=Count("pk"), seconds=Sum("active_seconds"))
    found = [Labeled(kind, n, seconds or 0, project.wage) for kind, n, seconds in sums]
    return sorted(found, key=lambda each: -each.seconds)
