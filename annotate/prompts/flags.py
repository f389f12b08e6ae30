"""What labelers hold against a prompt. Leads see it in the list of prompts and act upon it."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from annotate.people.models import Project, User
from annotate.prompts.models import Prompt


class PromptFlagQuerySet(models.QuerySet["PromptFlag"]):
    def open(self) -> Self:
        return self.filter(settled_at=None)

    def by(self, labeler: User) -> Self:
        return self.filter(labeler=labeler)

    def of_project(self, project: Project) -> Self:
        return self.filter(prompt__project=project)

    def on_active_prompts(self) -> Self:
        return self.filter(prompt__archived_at=None)


class PromptFlag(models.Model):
    """One per prompt and person, till a lead has settled it."""

    class Reason(models.TextChoices):
        UNCLEAR = "unclear", "unclear"
        SENSITIVE = "sensitive", "sensitive or personal"
        HARMFUL = "harmful", "asks for harm"
        DUPLICATE = "duplicate", "like another prompt"
        UNSUPPORTED = "unsupported", "an answer its passages do not support"
        OTHER = "other", "something else"

    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="flags")
    labeler = models.ForeignKey(User, models.PROTECT, related_name="+")
    reason = models.CharField(max_length=12, choices=Reason)
    note = models.CharField(max_length=500, blank=True)
    flagged_at = models.DateTimeField(auto_now=True)
    settled_at = models.DateTimeField(null=True)

    objects = PromptFlagQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["prompt", "labeler"], name="one_flag_a_labeler")
        ]
        indexes = [
            models.Index(fields=["prompt"], condition=Q(settled_at=None), name="flags_to_settle")
        ]

    def __str__(self) -> str:
        return f"{self.reason}: {self.prompt}"

    @classmethod
    def put_up(cls, *, prompt: Prompt, labeler: User, reason: str, note: str = "") -> PromptFlag:
        """Flags the prompt, or changes what the same labeler said of it before."""
        said = {"reason": reason, "note": note, "settled_at": None}
        flag, _ = cls.objects.update_or_create(prompt=prompt, labeler=labeler, defaults=said)
        return flag

    @classmethod
    def take_down(cls, *, prompt: Prompt, labeler: User) -> None:
        cls.objects.open().by(labeler).filter(prompt=prompt).delete()

    @classmethod
    def settle(cls, prompts: models.QuerySet[Prompt]) -> int:
        """The leads have seen these prompts and leave them as they are."""
        return cls.objects.open().filter(prompt__in=prompts).update(settled_at=Now())
