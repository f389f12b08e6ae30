"""E-mail that is to be sent: noted in the transaction of what it is about, and sent by a worker.

Whether there is an account at an address is asked by the worker alone: whoever types one in learns
nothing, by the reply or by the time it takes. Links are made when they are sent, so that none lies
here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from annotate.accounts.addresses import address_of
from annotate.connections.sealing import seal
from annotate.people.invitations import Invitation
from annotate.people.models import Project, User
from feedback_site.bell import enqueue_on_commit

CLAIMED = timedelta(minutes=2)  # after which somebody else may send a mail


def is_set_up() -> bool:
    """Whether this installation sends e-mail."""
    return bool(settings.MAIL_IS_SET_UP)


class MailQuerySet(models.QuerySet["Mail"]):
    def pending(self) -> Self:
        return self.filter(sent_at=None, given_up_at=None)

    def trouble_of(self, person: User) -> str:
        """Why the message that verifies an address has not come, as far as it is known."""
        newest = self.filter(person=person, kind=Mail.Kind.VERIFY).first()
        return newest.trouble if newest else ""

    def due(self) -> Self:
        free = Q(claimed_until=None) | Q(claimed_until__lt=Now())
        return self.pending().filter(free, next_at__lte=Now())

    def claim(self, number: int) -> Mail | None:
        """This one, if it is due and nobody else is sending it."""
        taken = (
            self.due()
            .filter(pk=number)
            .update(claimed_until=Now() + CLAIMED, attempts=models.F("attempts") + 1)
        )
        found = self.select_related(
            "person", "invitation__project", "invitation__by", "notice__project"
        )
        return found.filter(pk=number).first() if taken else None


class Mail(models.Model):
    class Kind(models.TextChoices):
        SIGN_IN = "sign_in", "sign-in link"
        RESET = "reset", "new password"
        VERIFY = "verify", "address"
        INVITATION = "invitation"
        NOTICE = "notice"
        NEWS = "news"

    kind = models.CharField(max_length=10, choices=Kind)
    to = models.EmailField()
    person = models.ForeignKey(User, models.CASCADE, null=True, related_name="+")
    invitation = models.OneToOneField(Invitation, models.CASCADE, null=True, related_name="mail")
    notice = models.OneToOneField("annotate.Notice", models.CASCADE, null=True, related_name="mail")
    sealed_link = models.TextField(blank=True, help_text="Of an invitation, till it is sent.")
    said = models.CharField(max_length=300, blank=True, help_text="Of a notice: what happened.")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(db_default=Now())
    claimed_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)
    trouble = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MailQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["next_at"],
                condition=Q(sent_at=None, given_up_at=None),
                name="mails_to_send",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} to {self.to}"

    @classmethod
    def write(cls, kind: str, to: str, **fields: Any) -> Mail:
        """Notes a mail, and rings for its sending. Raises ImproperlyConfigured where none is
        sent."""
        if not is_set_up():
            raise ImproperlyConfigured("EMAIL_URL is not set: no e-mail is sent.")
        mail = cls.objects.create(kind=kind, to=to, **fields)
        enqueue_on_commit("label", "annotate.jobs.send_mail", mail.pk)
        return mail

    @classmethod
    @transaction.atomic
    def invite(cls, to: str, *, project: Project, name: str, role: str, by: User) -> Mail:
        """An invitation whose link nobody sees but whoever reads that mailbox."""
        made, link = Invitation.make(project=project, name=name, role=role, by=by)
        return cls.write(cls.Kind.INVITATION, to, invitation=made, sealed_link=seal(link))

    @property
    def is_pending(self) -> bool:
        return self.sent_at is None and self.given_up_at is None

    def arrive(self) -> None:
        """Notes that it was sent. Of most mails nothing is kept: an address that somebody typed in
        need not be anybody's here."""
        if self.kind == self.Kind.INVITATION:
            self._note(sent_at=timezone.now(), sealed_link="", trouble="")
        else:
            self.delete()

    def wait(self, pause: timedelta, *, trouble: str) -> None:
        """Puts the next attempt off."""
        self._note(next_at=timezone.now() + pause, trouble=trouble[:300])

    def give_up(self, *, trouble: str) -> None:
        self._note(given_up_at=timezone.now(), sealed_link="", trouble=trouble[:300])

    def _note(self, **fields: Any) -> None:
        Mail.objects.filter(pk=self.pk).update(claimed_until=None, **fields)


def proved_address(invitation: Invitation) -> str:
    """The address that whoever has this invitation's link reads, or "" where it was handed on."""
    mail = Mail.objects.filter(invitation=invitation).exclude(sent_at=None).first()
    return mail.to if mail else ""


def tell(person: User, said: str, *, to: str = "") -> None:
    """Writes to the owner of an account what has changed there, where they have an address."""
    address = to or address_of(person)
    if address and is_set_up():
        Mail.write(Mail.Kind.NOTICE, address, person=person, said=said)
