"""How people come into a project, and back into their account.

An account belongs to its owner. An invitation is for whoever holds its link, and makes nobody a
member before its owner accepts it; an operator learns nothing of the accounts there are. A sign-in
link is made for accounts of one project alone, and its owner sees who had it made."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.urls import reverse

from annotate.people.models import Membership, Project, User
from annotate.people.sign_in import login_link

LASTS = timedelta(days=7)


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self) -> Self:
        """Neither answered, withdrawn nor expired, of somebody who still operates the project."""
        return self.filter(
            answered_at=None,
            created_at__gt=Now() - LASTS,
            by__memberships__project=F("project"),
            by__memberships__role=Membership.Role.OPERATOR,
            by__memberships__state=Membership.State.ACTIVE,
        ).select_related("project", "by")

    def known_to(self, user: User) -> Self:
        """Open ones that need no link: by their name, from somebody they share a project with.
        A name alone says nothing of whose it is."""
        shared = Project.objects.of(user).values("pk")
        known = Membership.objects.active().filter(project__in=shared).values("user")
        return self.open().filter(name=user.username, by__in=known)


class Invitation(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="invitations")
    name = models.CharField(max_length=150)
    role = models.CharField(max_length=10, choices=Membership.Role)
    by = models.ForeignKey(User, models.CASCADE, related_name="+")
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    answered_at = models.DateTimeField(null=True, help_text="Accepted, declined or withdrawn.")
    accepted_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} as {self.role} of {self.project}"

    @classmethod
    def issue(cls, *, project: Project, name: str, role: str, by: User) -> str:
        """The link of a new one, for its operator to hand on."""
        return cls.make(project=project, name=name, role=role, by=by)[1]

    @classmethod
    @transaction.atomic
    def make(cls, *, project: Project, name: str, role: str, by: User) -> tuple[Invitation, str]:
        """The invitation and its link, which cannot be had a second time; earlier ones to this name
        end."""
        cls.objects.filter(project=project, name=name, answered_at=None).update(answered_at=Now())
        secret = secrets.token_urlsafe(32)
        made = cls.objects.create(
            project=project, name=name, role=role, by=by, sha256=cls.digest(secret)
        )
        return made, settings.SITE_URL + reverse("invitation", args=[secret])

    @classmethod
    def of_link(cls, secret: str) -> Invitation | None:
        return cls.objects.open().filter(sha256=cls.digest(secret)).first()

    @staticmethod
    def digest(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()

    @transaction.atomic
    def accept(self, user: User) -> bool:
        """Makes `user` a member; False where somebody has answered before. Who is one already
        stays what they are."""
        if not self._answer(accepted_by=user):
            return False
        membership, is_new = self.project.memberships.get_or_create(
            user=user, defaults={"role": self.role}
        )
        if not is_new and membership.state == Membership.State.LEFT:
            membership.come_back(role=self.role)
        return True

    def end(self) -> bool:
        """Declined by whom it was for, or withdrawn."""
        return self._answer()

    def _answer(self, **fields: User) -> bool:
        this = Invitation.objects.filter(pk=self.pk, answered_at=None)
        return this.update(answered_at=Now(), **fields) == 1


class SignInLink(models.Model):
    """That an operator had a link made which signs somebody in. The link itself is not kept."""

    user = models.ForeignKey(User, models.CASCADE, related_name="sign_in_links")
    by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"a link for {self.user} by {self.by}"

    @classmethod
    @transaction.atomic
    def hand_out(cls, person: User, *, by: User, project: Project) -> str:
        cls.objects.create(user=person, by=by, project=project)
        return login_link(person)
