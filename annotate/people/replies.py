"""What calls of the API were answered, so that a call that is sent again is not done again."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now

from annotate.people.tokens import ApiToken

KEPT = timedelta(days=1)
LONGEST_KEY = 200  # characters


class ReplyQuerySet(models.QuerySet["Reply"]):
    def stale(self) -> ReplyQuerySet:
        return self.filter(created_at__lt=Now() - KEPT)


class Reply(models.Model):
    """The answer to one call, by the key its client made for it."""

    token = models.ForeignKey(ApiToken, models.CASCADE, related_name="replies")
    key = models.CharField(max_length=LONGEST_KEY)
    asked = models.CharField(max_length=64, help_text="A hash of address and body.")
    status = models.PositiveSmallIntegerField(default=0)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ReplyQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["token", "key"], name="one_reply_a_key")]

    def __str__(self) -> str:
        return f"{self.status} to {self.key}"
