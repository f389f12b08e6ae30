"""Who has taken their data back, and what is theirs."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from annotate.people.models import Project, User
from annotate.prompts.models import FROM_CHAT, GOAL, TAKEN_BACK, Prompt


class WithdrawalQuerySet(models.QuerySet["Withdrawal"]):
    def of_person(self, person: User) -> WithdrawalQuerySet:
        return self.filter(person=person)


class Withdrawal(models.Model):
    """From now on nothing of this person trains a model of the project or leaves in an export."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="withdrawals")
    person = models.ForeignKey(User, models.PROTECT, related_name="withdrawals")
    reason = models.CharField(max_length=500, blank=True)
    decided_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WithdrawalQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["project", "person"], name="one_withdrawal_a_person")
        ]

    def __str__(self) -> str:
        return f"{self.person} withdrew from {self.project}"

    @classmethod
    def withdraw(
        cls, project: Project, *, person: User, by: User | None, reason: str = ""
    ) -> Withdrawal:
        """Once a person, however often it is wished."""
        withdrawal, _ = cls.objects.get_or_create(
            project=project, person=person, defaults={"decided_by": by, "reason": reason}
        )
        return withdrawal


def withdrawn_from(project: Project) -> models.QuerySet[User]:
    return User.objects.filter(withdrawals__project=project).order_by()


def prompts_of(people: models.QuerySet[User]) -> models.QuerySet[Prompt]:
    """What they asked in the chat, where it became data, and what they wrote as labelers."""
    every = Prompt.objects.order_by()
    asked = every.filter(source=FROM_CHAT, completions__message__conversation__guest__in=people)
    written = every.exclude(kind="").filter(author__in=people)
    return every.filter(Q(pk__in=asked.values("pk")) | Q(pk__in=written.values("pk")))


def kept_back(project: Project) -> models.QuerySet[Prompt]:
    """What no export gives away: those whose guest deleted the chat or took it back, all of people
    who have withdrawn, and the goals of talks, which nobody asked a model."""
    withdrawn = prompts_of(withdrawn_from(project)).values("pk")
    here = Prompt.objects.filter(project=project)
    return here.filter(Q(source__in=(TAKEN_BACK, GOAL)) | Q(pk__in=withdrawn))
