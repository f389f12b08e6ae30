"""Tasks whose right answer is known: to practise on, to qualify by, and hidden among the others.

InstructGPT (appendix B.1) screened its labelers by their agreement with its authors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from annotate.labels.agreement import concordance
from annotate.people.models import Membership
from annotate.people.project_settings import MOST_TO_QUALIFY
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task, TaskQuerySet
from feedback_site.prepared import prepared

Trial = Assignment.Trial
# Everybody may answer a gold task: as many places as the column holds.
FOR_EVERYBODY = 32_767


@transaction.atomic
def make_gold(ranking: Any) -> Task:
    """The gold task whose right answer is this ranking; the same one if it is made twice."""
    order = ranking.places
    if concordance(order, order).compared == 0:
        raise ValidationError("This ranking has only ties, so it cannot be gold.")
    task, is_new = Task.objects.get_or_create(
        gold=ranking,
        defaults={
            "project_id": ranking.prompt.project_id,
            "prompt_id": ranking.prompt_id,
            "kind": Task.Kind.RANK,
            "overlap": FOR_EVERYBODY,
            "batch": "gold",
            **_what_it_takes(ranking),
        },
    )
    if is_new:
        task.completions.set(order)
    return task


def _what_it_takes(ranking: Any) -> dict[str, str]:
    """The language and the skill that the ranked task asked for."""
    if ranking.assignment is None:
        return {}
    return {name: getattr(ranking.assignment.task, name) for name in ("language", "skill")}


def compare_with_gold(answers: Iterable[Assignment]) -> list[tuple[int, int]]:
    """For each answer to a gold task, from `with_gold`: on how many of the comparisons that the
    gold decides it is of the same opinion, and how many those are. A tie is not, nor is a skip.
    Compared is what the labeler answered first."""
    return [_compare(answer, answer.measured) for answer in answers]


def _compare(answer: Assignment, label: Any) -> tuple[int, int]:
    assert answer.task.gold
    gold = answer.task.gold.places
    if label is None or not answer.is_submitted:
        return 0, concordance(gold, gold).compared
    met = concordance(gold, label.places)
    return met.concordant, met.compared + met.tied_in_second


@dataclass(frozen=True)
class Qualification:
    """How far a new labeler is with the gold tasks that come before ordinary work."""

    answered: int
    needed: int
    share: float
    passes_at: float

    @property
    def is_over(self) -> bool:
        """Whether all the tasks are answered."""
        return self.answered >= self.needed

    @property
    def is_passed(self) -> bool:
        """Whether they are all answered, and well enough."""
        return self.is_over and self.share >= self.passes_at

    @property
    def is_failed(self) -> bool:
        """Whether they are all answered, and not well enough."""
        return self.is_over and not self.is_passed


def qualification_of(member: Membership, gold: Sequence[int] | None = None) -> Qualification | None:
    """None: this member need not qualify (any more), or there is nothing to qualify by. `gold`:
    what `some_gold` finds, where that was asked before."""
    project, size = member.project, member.project.qualification_tasks
    if member.role != Membership.Role.LABELER or member.qualified_at or not size:
        return None
    if len(some_gold(project=project.pk) if gold is None else gold) < size:
        return None
    own = Assignment.objects.by(member.user).of_project(project)
    if not member.requalify_since and own.ordinary().submitted().exists():
        return None  # worked here before there was gold
    ended = own.of_trial(Trial.QUALIFICATION).ended()
    if member.requalify_since:
        ended = ended.leased_after(member.requalify_since)
    results = compare_with_gold(ended.with_gold())
    begun = own.of_trial(Trial.QUALIFICATION).leased().count()
    needed = min(size, len(results) + begun + unseen_gold(member).count())
    decided = sum(decided for _, decided in results)
    if not needed:
        return None
    share = sum(same for same, _ in results) / decided if decided else 0.0
    return Qualification(len(results), needed, share, project.qualification_percent / 100)


@prepared
def some_gold(project: int) -> QuerySet[Task, int]:
    """As many gold tasks as anybody may have to qualify by."""
    return Task.objects.of_project(project).gold().values_list("pk", flat=True)[:MOST_TO_QUALIFY]


def unseen_gold(member: Membership) -> TaskQuerySet:
    """The gold tasks this member can still be measured by, the oldest first."""
    gold = member.project.tasks.gold().new_to(member.user)
    gold = gold.suited_to(member.user, member.project)
    return gold.without_labels_by(member.user).order_by("id")


def unseen_practice(member: Membership) -> TaskQuerySet:
    """The practice tasks this member has not met yet, the oldest first."""
    practice = member.project.tasks.practice().new_to(member.user)
    practice = practice.suited_to(member.user, member.project)
    return practice.without_labels_by(member.user).order_by("id")


def settle_trial(assignment: Assignment) -> bool:
    """Notes what follows from an answer to a gold task. Returns whether a hidden one was failed."""
    member = assignment.task.project.memberships.select_related("project", "user").get(
        user=assignment.labeler
    )
    if assignment.trial == Trial.QUALIFICATION:
        qualification = qualification_of(member)
        if qualification and qualification.is_passed:
            Membership.objects.filter(pk=member.pk).update(qualified_at=Now())
    return assignment.trial == Trial.HIDDEN and is_failed(assignment)


def failed_while_hidden(answers: QuerySet[Any]) -> list[Any]:
    """Of the answers to a gold task, those a reviewer should see."""
    hidden = answers.filter(assignment__trial=Trial.HIDDEN)
    shown = hidden.select_related("assignment__task__gold", "assignment__task__project")
    return [answer for answer in shown if is_failed(answer.assignment)]


def is_failed(answer: Assignment) -> bool:
    """Whether the answer as it stands now is one for a reviewer."""
    same, decided = _compare(answer, answer.label)
    return same * 100 < decided * answer.task.project.qualification_percent
