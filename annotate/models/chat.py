"""The production chat: conversations, their messages, and what guests thought of them."""

from __future__ import annotations

import uuid
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from annotate.models.people import Project, User
from annotate.models.prompts import Completion, Policy


class Conversation(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="conversations")
    guest = models.ForeignKey(User, models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=100, blank=True)
    improves_model = models.BooleanField(
        default=True,
        help_text="The guest's switch “use this chat to improve the model”. "
        "Off: nothing of it leaves the chat tables.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title or f"chat {self.pk}"


class Message(models.Model):
    """One turn. An answer keeps exactly what it was made of: policy, context, sampling."""

    class Role(models.TextChoices):
        USER = "user"
        ASSISTANT = "assistant"

    class State(models.TextChoices):
        STREAMING = "streaming"
        DONE = "done"
        STOPPED = "stopped", "stopped by the guest"
        FAILED = "failed"

    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="messages")
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    role = models.CharField(max_length=10, choices=Role)
    text = models.TextField(blank=True)
    answers = models.ForeignKey(
        "self", models.CASCADE, null=True, related_name="drafts", help_text="The user's turn."
    )
    state = models.CharField(max_length=10, choices=State, default=State.DONE)
    policy = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="messages")
    template_hash = models.CharField(max_length=64, blank=True)
    context = models.JSONField(default=list, help_text="The messages the model was given.")
    sampling = models.JSONField(default=dict)
    finish_reason = models.CharField(max_length=20, blank=True)
    first_token_ms = models.PositiveIntegerField(null=True)
    total_ms = models.PositiveIntegerField(null=True)
    completion = models.OneToOneField(
        Completion,
        models.SET_NULL,
        null=True,
        related_name="message",
        help_text="Set once the answer has become part of the project's data.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text[:60]


class FeedbackQuerySet(models.QuerySet["Feedback"]):
    def current(self) -> Self:
        return self.filter(retracted_at=None)

    def of_project(self, project: Project) -> Self:
        return self.filter(
            Q(message__conversation__project=project) | Q(completion__prompt__project=project)
        )

    def trainable(self) -> Self:
        """Without the chats whose guest said no."""
        return self.current().exclude(message__conversation__improves_model=False)


class Feedback(models.Model):
    """A thumb, its reasons and a note; one per message and person, retractable."""

    class Reason(models.TextChoices):
        CORRECT = "correct", "Correct"
        HELPFUL = "helpful", "Helpful"
        WELL_WRITTEN = "well_written", "Well written"
        NOT_CORRECT = "not_correct", "Not correct"
        NOT_FOLLOWED = "not_followed", "Didn't follow the instructions"
        REFUSED = "refused", "Refused wrongly"
        HARMFUL = "harmful", "Harmful"
        TOO_LONG = "too_long", "Too long"
        TOO_SHORT = "too_short", "Too short"
        STYLE = "style", "Style"
        OTHER = "other", "Something else"

    GOOD_REASONS = (Reason.CORRECT, Reason.HELPFUL, Reason.WELL_WRITTEN)

    message = models.ForeignKey(Message, models.CASCADE, null=True, related_name="feedback")
    completion = models.ForeignKey(
        Completion, models.CASCADE, null=True, related_name="feedback", help_text="Imported thumbs."
    )
    user = models.ForeignKey(User, models.CASCADE, related_name="feedback")
    thumb_up = models.BooleanField()
    reasons = ArrayField(models.CharField(max_length=20, choices=Reason), default=list, blank=True)
    note = models.TextField(blank=True)
    wanted_answer = models.TextField(blank=True, help_text="The answer the guest wanted.")
    retracted_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = FeedbackQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "feedback"
        constraints = [
            models.UniqueConstraint(fields=["message", "user"], name="one_thumb_a_message"),
            models.UniqueConstraint(fields=["completion", "user"], name="one_thumb_a_completion"),
            models.CheckConstraint(
                condition=Q(message=None) ^ Q(completion=None), name="feedback_on_one_answer"
            ),
        ]

    def __str__(self) -> str:
        return "👍" if self.thumb_up else "👎"
