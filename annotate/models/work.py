"""Pieces of human work, and who holds them now. Who gets which is decided in `annotate.queue`."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from annotate.models.people import Project, User
from annotate.models.prompts import Completion, Prompt


class Task(models.Model):
    class Kind(models.TextChoices):
        WRITE = "write"
        RANK = "rank"
        REVIEW = "review"

    project = models.ForeignKey(Project, models.CASCADE, related_name="tasks")
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="tasks")
    kind = models.CharField(max_length=10, choices=Kind)
    completions = models.ManyToManyField(Completion, related_name="tasks", blank=True)
    overlap = models.PositiveSmallIntegerField(default=1)
    priority = models.SmallIntegerField(default=0, help_text="Higher comes first.")
    batch = models.CharField(
        max_length=50, blank=True, db_index=True, help_text="What the task was made for."
    )
    closed_at = models.DateTimeField(null=True, help_text="When the last wanted answer came in.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            # The queue reads open tasks in exactly this order.
            models.Index(
                "project",
                "kind",
                F("priority").desc(),
                "id",
                condition=Q(closed_at=None),
                name="open_tasks_in_order",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Assignment(models.Model):
    """A task leased to one labeler. Expiry frees the place; the draft stays."""

    class State(models.TextChoices):
        LEASED = "leased"
        SUBMITTED = "submitted"
        SKIPPED = "skipped"

    class SkipReason(models.TextChoices):
        UNCLEAR = "unclear", "The prompt is unclear"
        KNOWLEDGE = "knowledge", "Outside my knowledge"
        UNSAFE = "unsafe", "Unsafe to answer"
        PERSONAL = "personal", "Contains personal data"
        CANNOT_JUDGE = "cannot_judge", "I cannot judge these"
        OTHER = "other", "Something else"

    task = models.ForeignKey(Task, models.CASCADE, related_name="assignments")
    labeler = models.ForeignKey(User, models.PROTECT, related_name="assignments")
    state = models.CharField(max_length=10, choices=State, default=State.LEASED)
    leased_until = models.DateTimeField()
    shown_order = models.JSONField(
        default=list, help_text="Completion ids in the order this labeler sees them."
    )
    guideline_version = models.PositiveIntegerField(null=True)
    draft = models.JSONField(default=dict)
    drafted_at = models.DateTimeField(null=True)
    active_seconds = models.PositiveIntegerField(default=0)
    skip_reason = models.CharField(max_length=20, choices=SkipReason, blank=True)
    skip_note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["task", "labeler"], name="one_assignment_a_labeler")
        ]
        indexes = [models.Index(fields=["labeler", "state", "leased_until"])]

    def __str__(self) -> str:
        return f"{self.task} for {self.labeler}"
