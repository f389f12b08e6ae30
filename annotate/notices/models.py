"""Notices: a row for each operator, stored in the transaction of what has happened.

`annotate.webhooks.models.announce` tells webhooks and operators by one call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from annotate.accounts.addresses import address_of
from annotate.accounts.mails import Mail, is_set_up
from annotate.people.models import Membership, Project, User
from feedback_site.prepared import prepared

KEPT = timedelta(days=90)  # after it was seen
COUNTED = 99  # the header says "99+" beyond


@dataclass(frozen=True)
class News:
    """What operators are told: a line, and the path of the page that shows it."""

    subject: str
    link: str


class NoticeQuerySet(models.QuerySet["Notice"]):
    def of(self, person: User, project: Project) -> Self:
        """This person's own."""
        return self.filter(person=person, project=project)

    def unseen(self) -> Self:
        return self.filter(seen_at=None)

    def stale(self) -> Self:
        return self.filter(seen_at__lt=Now() - KEPT)

    def up_to(self, number: int) -> Self:
        return self.filter(pk__lte=number)

    def mark_seen(self) -> int:
        """Returns how many were new."""
        return self.unseen().update(seen_at=Now())


class Notice(models.Model):
    person = models.ForeignKey(User, models.CASCADE, related_name="notices")
    project = models.ForeignKey(Project, models.CASCADE, related_name="notices")
    event = models.CharField(max_length=20)
    subject = models.CharField(max_length=300)
    link = models.CharField(max_length=200, help_text="The path of a page of this site.")
    created_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(null=True)

    objects = NoticeQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["person", "project", "-id"], name="notices_of_a_person"),
        ]
        constraints = [
            # Whoever has not seen it yet is not told the same again.
            models.UniqueConstraint(
                fields=["person", "project", "event", "subject", "link"],
                condition=Q(seen_at=None),
                name="one_unseen_notice_of_a_thing",
            )
        ]

    def __str__(self) -> str:
        return self.subject

    @classmethod
    @transaction.atomic
    def tell(cls, project: int, event: str, news: News) -> None:
        """Tells each operator of the project, and forgets what was seen long ago. Whoever has not
        seen the same yet is not told again."""
        Notice.objects.stale().filter(project=project).delete()
        subject = " ".join(news.subject.split())[:300]
        about = {"project_id": project, "event": event, "subject": subject, "link": news.link}
        unseen = Notice.objects.unseen().filter(**about, person=OuterRef("user"))
        told = Membership.objects.operating().filter(~Exists(unseen), project=project)
        members = told.filter(user__is_active=True).select_related("user")
        people = {member.user_id: member.user for member in members}
        notices = [Notice(person=person, **about) for person in people.values()]
        Notice.objects.bulk_create(notices, ignore_conflicts=True)
        wanting = [pk for pk, person in people.items() if person.notices_by_mail]
        if wanting and is_set_up():
            unwritten = Notice.objects.unseen().filter(mail=None)
            for notice in unwritten.filter(**about, person__in=wanting):
                notice._write()

    def _write(self) -> None:
        """Writes an e-mail to whoever has a verified address."""
        if address := address_of(self.person):
            Mail.write(Mail.Kind.NEWS, address, person=self.person, notice=self)


@prepared
def _unseen(person: int, project: int) -> models.QuerySet[Notice, int]:
    mine = Notice.objects.unseen().filter(person=person, project=project).order_by()
    return mine.values_list("pk", flat=True)[: COUNTED + 1]


def unseen_of(person: int, project: int) -> str:
    """How many this person has not seen yet, in words: "", "3" or "99+"."""
    count = len(_unseen(person=person, project=project))
    return f"{COUNTED}+" if count > COUNTED else str(count or "")
