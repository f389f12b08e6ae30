"""Which of two drafts of an answer a guest prefers, and how that becomes a ranking of two."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from django.db import models, transaction
from django.db.models.functions import Now

from annotate.chat.messages import (
    COUNTED_A_DAY,
    EXCLUDED,
    NEW_GUEST,
    TOO_MANY,
    TOO_MANY_UNNAMED,
    Message,
)
from annotate.labels import of_guests
from annotate.labels.kinds.ranking.answer import Ranking
from annotate.people.models import Project, User
from feedback_site import bell

THE_SAME = "The two say the same."


class AnotherPair(Exception):
    """Each of the two is already compared with another answer."""


class PreferenceQuerySet(models.QuerySet["Preference"]):
    def current(self) -> Self:
        return self.filter(retracted_at=None)

    def of_user(self, user: User) -> Self:
        return self.filter(user=user)

    def of_new_guests(self, project: Project, at: datetime | None = None) -> Self:
        """Those that have become rankings, and wait until a reviewer has looked at the new guest
        who gave them; now, or at that moment."""
        new = project.memberships.newcomers(at).filter(excluded_at=None).values("user")
        given = self.current().exclude(ranking=None)
        return given.filter(ranking__prompt__project=project, user__in=new)

    def unharvested(self) -> Self:
        """Those the bell should have brought in by now, who waits longest first."""
        waiting = self.filter(harvested_at=None, updated_at__lt=Now() - timedelta(minutes=1))
        return waiting.order_by("updated_at")


class Preference(models.Model):
    """How a draft is, beside the one it is compared with; one per draft and person, retractable."""

    class Verdict(models.TextChoices):
        BETTER = "better", "Better"
        SAME = "same", "Same"
        WORSE = "worse", "Worse"

    # What it says of the other one.
    REVERSED = {
        Verdict.BETTER: Verdict.WORSE, Verdict.SAME: Verdict.SAME, Verdict.WORSE: Verdict.BETTER,
    }  # fmt: skip
    # The places of the draft and of the one it is compared with.
    PLACES = {Verdict.BETTER: (1, 2), Verdict.SAME: (1, 1), Verdict.WORSE: (2, 1)}

    draft = models.ForeignKey(Message, models.CASCADE, related_name="preferences")
    user = models.ForeignKey(User, models.CASCADE, related_name="preferences")
    verdict = models.CharField(max_length=10, choices=Verdict)
    ranking = models.OneToOneField(
        Ranking,
        models.SET_NULL,
        null=True,
        related_name="preference",
        help_text="What became of it.",
    )
    retracted_at = models.DateTimeField(null=True)
    harvested_at = models.DateTimeField(
        null=True, help_text="When it was last looked at for the project's data."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = PreferenceQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["draft", "user"], name="one_preference_a_draft")
        ]
        indexes = [
            models.Index(
                fields=["id"], condition=models.Q(harvested_at=None), name="preferences_to_harvest"
            )
        ]

    def __str__(self) -> str:
        return self.verdict

    @classmethod
    @transaction.atomic
    def give(cls, *, draft: Message, user: User, verdict: str) -> Preference:
        """One verdict per draft and person; the draft that wins a blind choice is shown from now
        on."""
        preference, _ = cls.objects.select_for_update().get_or_create(
            draft=draft, user=user, defaults={"verdict": verdict}
        )
        preference._change(verdict=verdict, retracted_at=None)
        if draft.is_blind and draft.compared_with:
            (draft.compared_with if verdict == cls.Verdict.WORSE else draft).show()
        return preference

    @classmethod
    @transaction.atomic
    def between(
        cls, one: Message, other: Message, *, user: User, verdict: str | None
    ) -> Preference | None:
        """Says how `one` is beside `other`, two answers to the same messages; None takes it back.
        Raises AnotherPair where each of them is compared with a third."""
        both = Message.objects.select_for_update(no_key=True).filter(pk__in=[one.pk, other.pk])
        found = {each.pk: each for each in both.order_by("pk")}
        one, other = found[one.pk], found[other.pk]
        is_taken = one.compared_with_id not in (None, other.pk)
        if other.compared_with_id == one.pk or (is_taken and other.compared_with_id is None):
            one, other = other, one
            verdict = cls.REVERSED[cls.Verdict(verdict)] if verdict else None
        if one.compared_with_id not in (None, other.pk):
            raise AnotherPair
        if verdict is None:
            cls.take_back(draft=one, user=user)
            return None
        one.compared_with = other
        one.save(update_fields=["compared_with"])
        return cls.give(draft=one, user=user, verdict=verdict)

    @classmethod
    @transaction.atomic
    def take_back(cls, *, draft: Message, user: User) -> None:
        """Retracts this person's verdict, if there is one."""
        for preference in cls.objects.current().of_user(user).filter(draft=draft):
            preference._lock()
            preference._change(retracted_at=Now())

    def postpone(self) -> None:
        """Lets those that wait behind it go first."""
        Preference.objects.filter(pk=self.pk).update(updated_at=Now())

    @transaction.atomic
    def harvest(self) -> None:
        """From verdict to label: both drafts become data, and a ranking of the two says which is
        better. What was taken back or changed takes its ranking along."""
        self._lock()
        if self.ranking:
            of_guests.unprefer(self.ranking)
        is_void = self.retracted_at or self.why_no_data
        self.ranking = None if is_void else self._rank()
        Preference.objects.filter(pk=self.pk).update(ranking=self.ranking, harvested_at=Now())

    def _rank(self) -> Ranking | None:
        other = self.draft.compared_with
        if other is None:
            return None
        own, others = self.PLACES[self.Verdict(self.verdict)]
        shown = self.draft.in_shown_order
        one, two = (own if each == self.draft else others for each in shown)
        first, second = (each.become_data(rated=False) for each in shown)
        if first is None or second is None:
            return None
        return of_guests.prefer((first, second), guest=self.user, places=(one, two))

    @property
    def why_it_does_not_count(self) -> str:
        """Empty where it becomes a ranking, and that may train."""
        if self.why_no_data:
            return self.why_no_data
        giver = self.draft.conversation.project.memberships.filter(user=self.user)
        if giver.newcomers().exists():
            return NEW_GUEST
        return EXCLUDED if giver.exclude(excluded_at=None).exists() else ""

    @property
    def why_no_data(self) -> str:
        """Why it becomes no ranking; empty where it does. Only the first of a day count, of this
        person or of this end user of a product."""
        drafts = [each for each in (self.draft, self.draft.compared_with) if each]
        if unusable := next((each.why_not_usable for each in drafts if each.why_not_usable), ""):
            return unusable
        if len({each.text.strip() for each in drafts}) < len(drafts):
            return THE_SAME
        if self._given_before().count() >= COUNTED_A_DAY:
            return TOO_MANY_UNNAMED if self.draft.is_of_nobody else TOO_MANY
        return ""

    def _given_before(self) -> PreferenceQuerySet:
        conversation = self.draft.conversation
        day = self.created_at.replace(hour=0, minute=0, second=0, microsecond=0)
        return Preference.objects.current().filter(
            user=self.user,
            draft__conversation__project=conversation.project_id,
            draft__conversation__via_api=conversation.via_api,
            draft__conversation__end_user=conversation.end_user,
            draft__conversation__improves_model=True,
            created_at__gte=day,
            created_at__lt=day + timedelta(days=1),
            pk__lt=self.pk,
        )

    def _lock(self) -> None:
        self.refresh_from_db(from_queryset=Preference.objects.select_for_update())

    def _change(self, **fields: object) -> None:
        for name, value in fields.items():
            setattr(self, name, value)
        self.harvested_at = None
        self.save(update_fields=[*fields, "harvested_at", "updated_at"])
        self.refresh_from_db(fields=list(fields))
        bell.enqueue_on_commit("label", "annotate.jobs.harvest_preference", self.pk)
