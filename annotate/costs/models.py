"""The ledger: a row for each call to a model, whatever came of it. No row is ever changed.

A row has no words and names no person."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import models
from django.utils import timezone

from annotate.costs.uses import Use
from annotate.people.models import Project
from annotate.prompts.policies import Policy


class CallQuerySet(models.QuerySet["Call"]):
    def of_project(self, project: Project) -> CallQuerySet:
        return self.filter(project=project)

    def between(self, since: datetime | None, until: datetime | None = None) -> CallQuerySet:
        """Those made from `since` on, and before `until`; None: without that limit."""
        found = self.filter(at__gte=since) if since else self
        return found.filter(at__lt=until) if until else found

    def for_use(self, use: str) -> CallQuerySet:
        """Those made for this use; empty: for any."""
        return self.filter(use=use) if use else self

    def of_policies(self, *policies: Policy) -> CallQuerySet:
        return self.filter(policy__in=policies)

    def answered(self) -> CallQuerySet:
        return self.filter(outcome=Call.Outcome.ANSWERED)

    def of_products(self) -> CallQuerySet:
        """Those that guests and products waited for."""
        return self.filter(use__in=(Use.CHAT, Use.GATEWAY))

    def one_in(self, every: int) -> CallQuerySet:
        """One of so many, by their numbers."""
        numbered = self.alias(place=models.functions.Mod("pk", every))
        return numbered.filter(place=0) if every > 1 else self

    def of_runs(self, runs: Iterable[int]) -> CallQuerySet:
        """Those that these runs made."""
        return self.filter(run__in=list(runs))


class Call(models.Model):
    """One call to the model of a policy, in the prices of the moment it was made."""

    class Outcome(models.TextChoices):
        ANSWERED = "answered"
        STOPPED = "stopped"
        FAILED = "failed"

    project = models.ForeignKey(Project, models.CASCADE, related_name="calls")
    policy = models.ForeignKey(
        Policy,
        models.PROTECT,
        null=True,
        related_name="calls",
        help_text="None: words of the playground that are not saved as a policy.",
    )
    use = models.CharField(max_length=10, choices=Use)
    outcome = models.CharField(max_length=10, choices=Outcome)
    at = models.DateTimeField(default=timezone.now, help_text="When it ended.")
    tokens_in = models.PositiveIntegerField(null=True, help_text="As the server counts.")
    tokens_out = models.PositiveIntegerField(null=True)
    first_ms = models.PositiveIntegerField("milliseconds to the first token", null=True)
    total_ms = models.PositiveIntegerField("milliseconds", null=True)
    price = models.DecimalField(
        max_digits=14, decimal_places=8, null=True, help_text="None: it was not known."
    )
    run = models.PositiveBigIntegerField(null=True, help_text="The run that asked, if one did.")

    objects = CallQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["project", "at"], name="calls_of_a_period"),
            models.Index(
                fields=["project", "run"],
                condition=models.Q(run__isnull=False),
                name="calls_of_a_run",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_use_display()}: {self.get_outcome_display()}"
