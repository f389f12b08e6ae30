"""Batches: the tasks that were made for one thing, how urgent they are, and who they are for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg
from django.db import transaction
from django.db.models import Count, Max, Min, Q
from django.db.models.functions import Now
from django.utils import timezone

from annotate.people.models import Membership, Project
from annotate.work.tasks import Task, TaskQuerySet, last_day
from feedback_site.answer_checks.languages import language_of

SHOWN = 100
OF_EACH_PROMPT = "own"  # instead of a language: the one each prompt is written in
OPEN = Q(closed_at=None)


@dataclass(frozen=True)
class Plan:
    """How urgent a batch is, and what its labelers have to know; `language` may be
    OF_EACH_PROMPT."""

    priority: int = 0
    due_at: datetime | None = None
    language: str = ""
    skill: str = ""

    @property
    def last_day(self) -> date | None:
        return last_day(self.due_at)


@dataclass(frozen=True)
class Batch:
    """A batch with open tasks. `languages` and `skills`: those that any of them asks for; `unmet`:
    those that nobody who labels here has."""

    name: str
    kinds: list[str]
    tasks: int
    open: int
    plan: Plan
    languages: list[str]
    skills: list[str]
    unmet: list[str]

    @property
    def done(self) -> int:
        return self.tasks - self.open

    @property
    def is_overdue(self) -> bool:
        return self.plan.due_at is not None and self.plan.due_at < timezone.now()


def batches(project: Project) -> list[Batch]:
    """The newest batches of which something is open, in the order in which they are due."""
    named = project.tasks.ordinary().exclude(batch="").order_by().values("batch")
    rows: Any = named.annotate(
        kinds=ArrayAgg("kind", distinct=True),
        count=Count("pk"),
        waiting=Count("pk", filter=OPEN),
        most=Max("priority", filter=OPEN),
        due=Min("due_at", filter=OPEN),
        languages=ArrayAgg("language", distinct=True, filter=OPEN, default=[]),
        skills=ArrayAgg("skill", distinct=True, filter=OPEN, default=[]),
        newest=Max("pk"),
    )
    known = _known_to_members(project)
    found = [_batch(row, *known) for row in rows.filter(waiting__gt=0).order_by("-newest")[:SHOWN]]
    return sorted(found, key=lambda each: _urgency(each.plan))


def _urgency(plan: Plan) -> tuple[int, bool, datetime]:
    return -plan.priority, plan.due_at is None, plan.due_at or timezone.now()


def _batch(row: dict[str, Any], known_languages: set[str], known_skills: set[str]) -> Batch:
    languages, skills = ([each for each in row[name] if each] for name in ("languages", "skills"))
    language = row["languages"][0] if len(row["languages"]) == 1 else OF_EACH_PROMPT
    return Batch(
        name=row["batch"],
        kinds=row["kinds"],
        tasks=row["count"],
        open=row["waiting"],
        plan=Plan(row["most"], row["due"], language, next(iter(skills), "")),
        languages=languages,
        skills=skills,
        unmet=sorted({*languages} - known_languages) + sorted({*skills} - known_skills),
    )


def _known_to_members(project: Project) -> tuple[set[str], set[str]]:
    working = project.memberships.active().exclude(role=Membership.Role.GUEST)
    known = list(working.values_list("languages", "skills"))
    return {each for has, _ in known for each in has}, {each for _, has in known for each in has}


@transaction.atomic
def plan_batch(project: Project, name: str, plan: Plan) -> int:
    """Holds for all open tasks of the batch, those in hand included. Returns how many these are."""
    waiting = Task.objects.of_project(project).ordinary().open().of_batch(name)
    fields = {"priority": plan.priority, "due_at": plan.due_at, "skill": plan.skill}
    if plan.language != OF_EACH_PROMPT:
        return waiting.update(**fields, language=plan.language)
    changed = waiting.update(**fields)
    for language, tasks in _by_language(waiting).items():
        waiting.filter(pk__in=tasks).update(language=language)
    return changed


def _by_language(waiting: TaskQuerySet) -> dict[str, list[int]]:
    """Language → the tasks whose prompts are in it; "" for those where it is not clear."""
    found = defaultdict[str, list[int]](list)
    for task, text in waiting.values_list("pk", "prompt__text").iterator():
        found[language_of(text)].append(task)
    return found


def plan_of(project: Project, name: str) -> Plan | None:
    """What was said of a batch that is opened again; None of a new one, or where nothing was."""
    found = next((each.plan for each in batches(project) if each.name == name), None)
    return None if found == Plan() else found


def close_batch(project: Project, name: str) -> int:
    """Hands nothing of it out any more; what was answered stays. Returns how many were open."""
    waiting = Task.objects.of_project(project).ordinary().open().of_batch(name)
    return waiting.update(closed_at=Now())
