"""Labels: what a person would have said, how completions compare, what a reviewer thought.

Append-only: nobody updates or deletes a label. A correction is a new revision that `supersedes`
the old one; a revision can be superseded once only, so the slower of two editors gets a conflict.
"""

from __future__ import annotations

from typing import Any, Self

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from annotate.models.people import Project, User
from annotate.models.prompts import Completion, Prompt
from annotate.models.work import Assignment


class LabelQuerySet(models.QuerySet[Any]):
    def current(self) -> Self:
        """The newest revision of each label, without the retracted ones."""
        return self.filter(superseded_by=None, retracted=False)

    def of_project(self, project: Project) -> Self:
        return self.filter(prompt__project=project)

    def by(self, labeler: User) -> Self:
        return self.filter(labeler=labeler)

    def in_split(self, *splits: str) -> Self:
        return self.filter(prompt__split__in=splits)


class Label(models.Model):
    """What every revision of every kind of label carries."""

    assignment = models.ForeignKey(
        Assignment,
        models.PROTECT,
        null=True,
        related_name="%(class)ss",
        help_text="Null: imported.",
    )
    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="%(class)ss")
    labeler = models.ForeignKey(User, models.PROTECT, related_name="%(class)ss")
    supersedes = models.OneToOneField(
        "self", models.PROTECT, null=True, related_name="superseded_by"
    )
    revision_no = models.PositiveIntegerField(default=1)
    retracted = models.BooleanField(default=False)
    guideline_version = models.PositiveIntegerField(null=True)
    active_seconds = models.PositiveIntegerField(default=0)
    pasted_share = models.FloatField(
        default=0.0, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)]
    )
    idempotency_key = models.UUIDField(
        null=True, unique=True, help_text="Made by the page: one submit, however often it is sent."
    )
    late = models.BooleanField(default=False, help_text="Came after the place had gone.")
    comment = models.TextField(blank=True, help_text="For the lead.")
    source = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = LabelQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["id"]
        indexes = [models.Index(fields=["labeler", "-created_at"])]


class Demonstration(Label):
    """What a person would have said."""

    text = models.TextField()

    class Meta(Label.Meta):
        abstract = False

    def __str__(self) -> str:
        return self.text[:60]


class Ranking(Label):
    """One labeler's order over 2..K completions."""

    class Outcome(models.TextChoices):
        RANKED = "ranked"
        ALL_BAD = "all_bad", "all bad"

    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.RANKED)
    strength = models.PositiveSmallIntegerField(
        null=True,
        validators=[MinValueValidator(1), MaxValueValidator(4)],
        help_text="Of two: 4 significantly better … 1 negligibly better (Llama 2, §3.2.1).",
    )
    reason = models.CharField(max_length=500, blank=True)
    shown_order = models.JSONField(default=list)

    class Meta(Label.Meta):
        abstract = False

    def __str__(self) -> str:
        return f"ranking {self.pk}"


class Placement(models.Model):
    """The place of one completion in a ranking. Ties share a place; 1 is best."""

    class Flag(models.TextChoices):
        FAILS_INSTRUCTION = "fails_instruction", "Fails the instruction"
        HALLUCINATION = "hallucination", "Makes things up"
        VIOLATES_CONSTRAINT = "violates_constraint", "Violates a constraint"
        INAPPROPRIATE = "inappropriate", "Inappropriate for an assistant"
        SEXUAL = "sexual", "Sexual content"
        VIOLENT = "violent", "Violent content"
        ENCOURAGES_HARM = "encourages_harm", "Encourages harm"
        DENIGRATES = "denigrates", "Denigrates a protected class"
        HARMFUL_ADVICE = "harmful_advice", "Gives harmful advice"
        OPINION = "opinion", "Expresses an opinion"
        MORAL_JUDGEMENT = "moral_judgement", "Expresses a moral judgement"

    ranking = models.ForeignKey(Ranking, models.CASCADE, related_name="placements")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="placements")
    place = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    rating = models.PositiveSmallIntegerField(
        null=True, validators=[MinValueValidator(1), MaxValueValidator(7)]
    )
    flags = ArrayField(models.CharField(max_length=30, choices=Flag), default=list, blank=True)

    class Meta:
        ordering = ["place", "id"]
        constraints = [
            models.UniqueConstraint(fields=["ranking", "completion"], name="one_place_a_completion")
        ]

    def __str__(self) -> str:
        return f"{self.completion_id} at {self.place}"


class Review(models.Model):
    """What a reviewer thought of a label; apart from the labeler's own state."""

    class Verdict(models.TextChoices):
        ACCEPTED = "accepted"
        SENT_BACK = "sent_back", "sent back"
        EXCLUDED = "excluded"

    demonstration = models.ForeignKey(
        Demonstration, models.PROTECT, null=True, related_name="reviews"
    )
    ranking = models.ForeignKey(Ranking, models.PROTECT, null=True, related_name="reviews")
    reviewer = models.ForeignKey(User, models.PROTECT, related_name="reviews")
    verdict = models.CharField(max_length=10, choices=Verdict)
    score = models.PositiveSmallIntegerField(
        null=True, validators=[MinValueValidator(1), MaxValueValidator(7)]
    )
    comment = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(demonstration=None) ^ Q(ranking=None), name="reviews_one_label"
            )
        ]

    def __str__(self) -> str:
        return f"{self.verdict} by {self.reviewer}"
