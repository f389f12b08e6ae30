"""Keys with which products outside speak to the API."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from annotate.people.models import Membership, Project, User


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> Self:
        """Neither revoked nor expired, of somebody who is still a member of the project."""
        is_member = Q(
            user__memberships__project=models.F("project"),
            user__memberships__state=Membership.State.ACTIVE,
        )
        alive = Q(expires_at=None) | Q(expires_at__gt=Now())
        return self.filter(alive, is_member, revoked_at=None, user__is_active=True)

    def with_secret(self, secret: str) -> ApiToken | None:
        found = self.usable().select_related("project", "user")
        return found.filter(sha256=ApiToken.digest(secret)).first()

    def beginning(self, prefix: str) -> Self:
        return self.filter(prefix__startswith=prefix)


class ApiToken(models.Model):
    """256 random bits, of which only a digest is kept. Shown once, when they are made."""

    class Scope(models.TextChoices):
        CHAT = "chat", "ask policies"
        FEEDBACK = "feedback", "give thumbs"
        LOG = "log", "log answers of other servers, and delete those of an end user"
        READ = "read", "read what its member may read"
        LABEL = "label", "take tasks and submit labels"
        MANAGE = "manage", "import, launch and promote, where its member may"

    project = models.ForeignKey(Project, models.CASCADE, related_name="api_tokens")
    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=12, editable=False)
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=10, choices=Scope))
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.user}"

    @classmethod
    def issue(
        cls,
        *,
        project: Project,
        user: User,
        scopes: list[str],
        name: str = "",
        expires_at: datetime | None = None,
    ) -> tuple[ApiToken, str]:
        """The token and its secret, which cannot be had a second time."""
        secret = f"fs_{secrets.token_urlsafe(32)}"
        token = cls.objects.create(
            project=project,
            user=user,
            scopes=scopes,
            name=name,
            expires_at=expires_at,
            prefix=secret[:9],
            sha256=cls.digest(secret),
        )
        return token, secret

    @staticmethod
    def secret_in(authorization: str) -> str | None:
        """What the header Authorization has for a secret; None: it names no token."""
        scheme, _, secret = authorization.partition(" ")
        return secret.strip() if scheme.lower() == "bearer" else None

    @staticmethod
    def digest(secret: str) -> str:
        # No salt and no slow hash: nobody guesses 256 random bits.
        return hashlib.sha256(secret.encode()).hexdigest()

    def revoke(self) -> None:
        ApiToken.objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=Now())
