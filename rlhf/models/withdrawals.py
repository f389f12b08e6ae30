"""Who has taken their data back from training."""

from __future__ import annotations

from django.db import models

from annotate.models import Project, Prompt, User
from annotate.models.messages import PROMPT_SOURCE


def prompts_of_guests(people: models.QuerySet[User]) -> models.QuerySet[Prompt]:
    """What these people asked in the chat, where it became data."""
    asked = Prompt.objects.filter(completions__message__conversation__guest__in=people)
    return asked.filter(source=PROMPT_SOURCE).order_by()


class WithdrawalQuerySet(models.QuerySet["Withdrawal"]):
    def of_person(self, person: User) -> WithdrawalQuerySet:
        return self.filter(person=person)


class Withdrawal(models.Model):
    """From now on nothing of this person's trains a model of the project."""

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
