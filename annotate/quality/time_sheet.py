"""What people worked in a period: for whoever pays them, or thanks them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from annotate.costs.labels import cost_of
from annotate.labels.kinds import KINDS
from annotate.labels.reviews import LABELS, Review
from annotate.people.models import Project, User
from annotate.work.assignments import Assignment


@dataclass(frozen=True)
class Worked:
    """Answers of a period that count, and the time they took; nothing of skipped tasks."""

    answers: int
    seconds: int


@dataclass(frozen=True)
class Line:
    """One person. `accepted` and `returned`: what reviewers said in the period, whenever the answer
    was given. `pay`: for the time, by the project's wage; None where it has none."""

    person: User
    tasks: int
    accepted: int
    returned: int
    seconds: int
    pay: Decimal | None = None

    @property
    def minutes(self) -> float:
        return round(self.seconds / 60, 1)


def worked_since(person: User, project: Project, moment: datetime) -> Worked:
    """Answers since a moment, reviews not counted."""
    own = Assignment.objects.by(person).of_project(project).of_kind(*KINDS)
    found = own.submitted_since(moment).aggregate(n=Count("pk"), seconds=Sum("active_seconds"))
    return Worked(found["n"], found["seconds"] or 0)


def start_of_day(day: date) -> datetime:
    """Midnight where the viewer is."""
    return timezone.make_aware(datetime.combine(day, time.min))


def time_sheet(project: Project, first: date, last: date) -> list[Line]:
    """A line for each person who answered or was judged on the days from `first` to `last`, both
    included, by name."""
    period = (start_of_day(first), start_of_day(last + timedelta(days=1)))
    done = Assignment.objects.of_project(project).submitted().order_by()
    done = done.filter(ended_at__gte=period[0], ended_at__lt=period[1])
    sums = done.values("labeler").annotate(n=Count("pk"), seconds=Sum("active_seconds"))
    worked = {row["labeler"]: Worked(row["n"], row["seconds"] or 0) for row in sums}
    judged = {row["who"]: row for row in _judged(project, period)}
    people = User.objects.in_bulk([*{*worked, *judged}])
    lines = []
    for pk, person in people.items():
        of_one, verdicts = worked.get(pk, Worked(0, 0)), judged.get(pk, {})
        accepted, returned = verdicts.get("accepted", 0), verdicts.get("returned", 0)
        pay = cost_of(of_one.seconds, project.wage)
        lines.append(Line(person, of_one.answers, accepted, returned, of_one.seconds, pay))
    return sorted(lines, key=lambda line: (line.person.display_name.casefold(), line.person.pk))


def _judged(project: Project, period: tuple[datetime, datetime]) -> Iterator[dict[str, Any]]:
    verdicts = Review.objects.filter(
        assignment__task__project=project, created_at__gte=period[0], created_at__lt=period[1]
    )
    authors = (f"{name}__labeler" for name in LABELS.values())
    by_author = verdicts.order_by().annotate(who=Coalesce(*authors)).values("who")
    counted = {
        "accepted": Count("pk", filter=Q(verdict=Review.Verdict.ACCEPTED)),
        "returned": Count("pk", filter=Q(verdict=Review.Verdict.SENT_BACK)),
    }
    rows: Any = by_author.annotate(**counted)
    yield from rows
