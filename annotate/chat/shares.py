"""Read-only links to a chat, which its guest makes and ends."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from annotate.chat.conversations import Conversation
from annotate.chat.messages import Message
from annotate.people.models import Membership
from annotate.prompts.withdrawals import Withdrawal


class NothingToShare(Exception):
    """No question of the chat has an answer yet."""


class ShareQuerySet(models.QuerySet["Share"]):
    def open(self) -> Self:
        """Not expired, of somebody who is still in the project and has not withdrawn."""
        here = Membership.objects.active().filter(
            project=OuterRef("conversation__project"), user=OuterRef("conversation__guest")
        )
        withdrawn = Withdrawal.objects.filter(
            project=OuterRef("conversation__project"), person=OuterRef("conversation__guest")
        )
        return self.filter(
            Exists(here),
            ~Exists(withdrawn),
            expires_at__gt=Now(),
            conversation__guest__is_active=True,
        )


class Share(models.Model):
    """A link to what a chat showed when the link was made; what comes later is not in it. It shows
    no names, and goes with the chat."""

    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="shares")
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    shown = models.JSONField(help_text="The ids of the messages, in their order.")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()

    objects = ShareQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"a link to chat {self.conversation_id}"

    @classmethod
    def issue(cls, conversation: Conversation, *, days: int) -> str:
        """The link, which cannot be had a second time. Raises NothingToShare."""
        whole = [
            (turn.question.pk, turn.shown.pk)
            for turn in conversation.turns()
            if turn.shown and not turn.is_being_written and turn.shown.text.strip()
        ]
        if not whole:
            raise NothingToShare
        key = secrets.token_urlsafe(32)
        cls.objects.create(
            conversation=conversation,
            sha256=cls.digest(key),
            shown=[pk for pair in whole for pk in pair],
            expires_at=timezone.now() + timedelta(days=days),
        )
        return settings.SITE_URL + reverse("shared_chat", args=[key])

    @classmethod
    def of_link(cls, key: str) -> Share | None:
        found = cls.objects.open().filter(sha256=cls.digest(key))
        return found.select_related("conversation").first()

    @staticmethod
    def digest(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    def messages(self) -> list[Message]:
        """As they are today."""
        return sorted(
            self.conversation.messages.filter(pk__in=self.shown),
            key=lambda each: self.shown.index(each.pk),
        )
