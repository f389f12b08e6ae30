"""What guests thought of an answer: thumbs, and how thumbs become labels."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Self

from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from annotate.chat import complaints
from annotate.chat.messages import EXCLUDED, NEW_GUEST, Message
from annotate.labels import of_guests
from annotate.people.models import Membership, MembershipQuerySet, Project, User
from annotate.prompts.policies import Completion, Policy
from annotate.webhooks.models import Event, announce
from annotate.work.tasks import Task
from feedback_site import bell


class FeedbackQuerySet(models.QuerySet["Feedback"]):
    def current(self) -> Self:
        return self.filter(retracted_at=None)

    def of_user(self, user: User) -> Self:
        return self.filter(user=user)

    def of_project(self, project: Project) -> Self:
        return self.filter(
            Q(message__conversation__project=project) | Q(completion__prompt__project=project)
        )

    def trainable(self) -> Self:
        """Without the chats whose guest said no."""
        return self.current().exclude(message__conversation__improves_model=False)

    def undismissed(self, at: datetime | None = None) -> Self:
        """Without those a reviewer has dismissed; now, or at that moment."""
        kept = Q(dismissed_at=None)
        return self.filter(kept | Q(dismissed_at__gt=at) if at else kept)

    def about(self, task: Task) -> Self:
        """What guests complain of in the answers that this task is about."""
        said = self.trainable().undismissed().filter(thumb_up=False)
        about = said.filter(message__completion__in=task.completions.order_by().values("pk"))
        return about.with_answers().order_by("pk")

    def filter_ids(self, ids: Iterable[int | None]) -> Self:
        return self.filter(pk__in=[each for each in ids if each is not None])

    def given_since(self, moment: datetime) -> Self:
        return self.filter(created_at__gte=moment)

    def on_policies(self, *policies: Policy) -> Self:
        """On answers of the chat that these gave."""
        return self.filter(message__policy__in=policies)

    def for_inbox(self) -> Self:
        """With all that a list of them shows."""
        found = self.annotate(is_of_new_guest=Exists(_givers().newcomers()))
        return found.select_related(
            *("message__policy", "message__answers"),
            *("message__completion", "message__conversation"),
        )

    def asked_for(
        self,
        *,
        words: str,
        thumb: str,
        policy: Policy | None,
        reason: str,
        tag: str,
        since: date | None,
        until: date | None,
        state: str,
    ) -> Self:
        """Those of `inbox.thumbs_of` that pass these filters; what is empty filters nothing."""
        found = self
        if words:
            texts = ("note", "wanted_answer", "message__text", "message__answers__text")
            found = found.filter(reduce(or_, (Q((f"{name}__icontains", words)) for name in texts)))
        if thumb:
            found = found.filter(thumb_up=thumb == "up")
        if policy:
            found = found.filter(message__policy=policy)
        if reason:
            found = found.filter(reasons__contains=[reason])
        if tag:
            found = found.filter(message__completion__prompt__tags__contains=[tag])
        if since:
            found = found.filter(created_at__date__gte=since)
        if until:
            found = found.filter(created_at__date__lte=until)
        if state == "dismissed":
            return found.exclude(dismissed_at=None)
        found = found.undismissed()
        return found.filter(is_queued=state == "queued") if state else found

    def of_trusted(self) -> Self:
        """Without people excluded from snapshots."""
        return self.exclude(Exists(_givers().exclude(excluded_at=None)))

    def of_known(self, at: datetime | None = None) -> Self:
        """Without new guests whom nobody has vouched for; now, or at that moment."""
        return self.exclude(Exists(_givers().newcomers(at)))

    def of_newcomers(self, at: datetime | None = None) -> Self:
        return self.filter(Exists(_givers().newcomers(at)))

    def on_answers(self, answers: models.QuerySet[Completion]) -> Self:
        """On answers of the project's data, be they imported or from the chat."""
        among = answers.order_by().values("pk")
        return self.filter(Q(message__completion__in=among) | Q(completion__in=among))

    def on_data(self) -> Self:
        """On answers that have become data of the project."""
        return self.exclude(message__completion=None, completion=None)

    def left_out(self, *, since: datetime) -> Self:
        """On answers of the chat that were looked at and did not become data."""
        seen = self.current().filter(harvested_at__isnull=False, created_at__gte=since)
        return seen.filter(message__isnull=False, message__completion=None)

    def in_words(self) -> Self:
        """Those that say more than the thumb."""
        return self.exclude(note="", wanted_answer="", reasons=[])

    def in_split(self, *splits: str) -> Self:
        return self.filter(
            Q(message__completion__prompt__split__in=splits)
            | Q(completion__prompt__split__in=splits)
        )

    def by_side(self) -> dict[str, int]:
        up = models.Count("pk", filter=Q(thumb_up=True))
        down = models.Count("pk", filter=Q(thumb_up=False))
        return self.aggregate(thumbs_up=up, thumbs_down=down)

    def with_answers(self) -> Self:
        """With all that a row of them says."""
        return self.select_related(
            "message__completion__prompt", "message__conversation", "completion__prompt"
        )

    def unharvested(self) -> Self:
        """Those the bell should have brought in by now, who waits longest first."""
        waiting = self.exclude(message=None).filter(harvested_at=None)
        return waiting.filter(updated_at__lt=Now() - timedelta(minutes=1)).order_by("updated_at")


def _givers() -> MembershipQuerySet:
    """The membership of whoever gave the thumb of the query around."""
    return Membership.objects.filter(
        Q(project=OuterRef("message__conversation__project"))
        | Q(project=OuterRef("completion__prompt__project")),
        user=OuterRef("user"),
    )


class Feedback(models.Model):
    """A thumb, its reasons and a note; one per message and person, retractable."""

    class Reason(models.TextChoices):
        CORRECT = "correct", "Correct"
        HELPFUL = "helpful", "Helpful"
        WELL_WRITTEN = "well_written", "Well written"
        NOT_CORRECT = "not_correct", "Not correct"
        NOT_FOLLOWED = "not_followed", "Didn't follow the instructions"
        REFUSED = "refused", "Shouldn't have refused"
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
    harvested_at = models.DateTimeField(
        null=True, help_text="When it was last looked at for the project's data."
    )
    dismissed_at = models.DateTimeField(
        null=True, help_text="Since when it trains nothing: a reviewer thinks nothing of it."
    )
    dismissed_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    dismissed_why = models.CharField(max_length=300, blank=True, default="", db_default="")
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
        indexes = [
            models.Index(fields=["id"], condition=Q(harvested_at=None), name="thumbs_to_harvest")
        ]

    def __str__(self) -> str:
        return "👍" if self.thumb_up else "👎"

    @property
    def answer(self) -> Completion | None:
        """What it is about, once that is part of the project's data."""
        return self.message.completion if self.message else self.completion

    @property
    def why_it_does_not_count(self) -> str:
        """Empty where the answer is data of the project, or will be, and may train."""
        if self.retracted_at:
            return "The thumb was removed."
        if self.dismissed_at:
            return "A reviewer has dismissed it."
        this = Feedback.objects.filter(pk=self.pk)
        if self.message and self.message.completion is None and self.message.why_no_data:
            return self.message.why_no_data
        if this.of_newcomers().exists():
            return NEW_GUEST
        if not this.of_trusted().exists():
            return EXCLUDED
        return ""

    @property
    def reason_labels(self) -> list[str]:
        return [str(self.Reason(reason).label) for reason in self.reasons]

    @property
    def reason_choices(self) -> list[tuple[str, str]]:
        return self.reasons_for(thumb_up=self.thumb_up)

    @classmethod
    def reasons_for(cls, *, thumb_up: bool) -> list[tuple[str, str]]:
        """The choices that go with a thumb."""
        return [
            (reason.value, reason.label)
            for reason in cls.Reason
            if (reason in cls.GOOD_REASONS) == thumb_up or reason == cls.Reason.OTHER
        ]

    @classmethod
    @transaction.atomic
    def give(cls, *, message: Message, user: User, thumb_up: bool, **why: Any) -> Feedback:
        """One thumb per message and person, however often and from wherever it is given.
        `why`: what `explain` takes; what is left out stays, while the thumb is the same."""
        feedback, _ = cls.objects.select_for_update().get_or_create(
            message=message, user=user, defaults={"thumb_up": thumb_up}
        )
        fields: dict[str, Any] = {"thumb_up": thumb_up, "retracted_at": None}
        if feedback.thumb_up != thumb_up:
            # What explained the one thumb does not explain the other.
            fields |= {"reasons": [], "note": "", "wanted_answer": ""}
        fitting = cls._fitting(thumb_up=thumb_up, **why)
        fields |= {name: fitting[name] for name in why}
        feedback._change(**fields)
        return feedback

    @classmethod
    def take_back(cls, *, message: Message, user: User) -> None:
        """Retracts this person's thumb, if there is one."""
        for feedback in cls.objects.current().of_user(user).filter(message=message):
            feedback.retract()

    def _told(self) -> dict[str, Any]:
        """What webhooks are told of it: nothing in the guest's own words."""
        assert self.message is not None
        policy, up = self.message.policy, "up" if self.thumb_up else "down"
        return {
            "completion_id": str(self.message.public_id),
            "external_id": self.message.conversation.external_id,
            "policy": policy.name if policy else None,
            "thumb": None if self.retracted_at else up,
            "reasons": self.reasons,
        }

    @transaction.atomic
    def retract(self) -> None:
        if self._lock().retracted_at is None:
            self._change(retracted_at=Now())

    @transaction.atomic
    def explain(self, **why: Any) -> None:
        """`reasons`, a `note`, the `wanted_answer`: what is left out is emptied."""
        self._lock()
        self._change(**self._fitting(thumb_up=self.thumb_up, **why))

    @classmethod
    def _fitting(
        cls,
        *,
        thumb_up: bool,
        reasons: Iterable[str] = (),
        note: str = "",
        wanted_answer: str = "",
    ) -> dict[str, Any]:
        """Of an explanation, what goes with the thumb."""
        choices = dict(cls.reasons_for(thumb_up=thumb_up))
        return {
            "reasons": [reason for reason in choices if reason in reasons],
            "note": note,
            "wanted_answer": "" if thumb_up else wanted_answer,
        }

    def _lock(self) -> Feedback:
        self.refresh_from_db(from_queryset=Feedback.objects.select_for_update())
        return self

    def _change(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)
        self.harvested_at = None
        self.save(update_fields=[*fields, "harvested_at", "updated_at"])
        self.refresh_from_db(fields=list(fields))
        if self.message is not None:
            project, about = self.message.conversation.project_id, f"message {self.message_id}"
            announce(project, Event.THUMB, subject=about, data=self._told)
        bell.enqueue_on_commit("label", "annotate.jobs.harvest", self.pk)

    def postpone(self) -> None:
        """Lets those that wait behind it go first."""
        Feedback.objects.filter(pk=self.pk).update(updated_at=Now())

    @transaction.atomic
    def harvest(self) -> None:
        """From thumb to label: the answer becomes data, and a 👎 asks labelers for a better one.
        The answer that the guest wanted goes to a reviewer. A retracted thumb takes its task back,
        as long as nobody works on it, and the wanted answer."""
        self._lock()
        if self.message:
            self._harvest(self.message)
        Feedback.objects.filter(pk=self.pk).update(harvested_at=Now())

    def _harvest(self, message: Message) -> None:
        counts = self.retracted_at is None and self.dismissed_at is None
        answer = message.become_data() if counts else message.completion
        if answer is None:
            return
        is_bad = counts and not self.thumb_up
        if is_bad:
            complaints.ask_people(answer, message.conversation.project.thumbs_down_work)
        else:
            self._withdraw_task(answer)
        if is_bad and self.wanted_answer.strip():
            of_guests.correct(answer, guest=self.user, text=self.wanted_answer)
        else:
            of_guests.uncorrect(answer, guest=self.user)

    def _withdraw_task(self, answer: Completion) -> None:
        """Unless somebody else complains of the same answer, or of another to the same prompt."""
        bad = Feedback.objects.trainable().undismissed().filter(thumb_up=False)
        if not bad.filter(message__completion=answer).exists():
            complaints.withdraw(Completion.objects.filter(pk=answer.pk))

    def ask_people(self, work: str) -> bool:
        """Opens a task about the answer, whatever the project does with thumbs by itself. False:
        the answer is no data of the project, or the thumb is up."""
        if self.thumb_up or self.message is None or self.dismissed_at:
            return False
        answer = self.message.become_data()
        if answer is None:
            return False
        complaints.ask_people(answer, work)
        return True

    @transaction.atomic
    def dismiss(self, *, by: User, why: str) -> None:
        """From now on it trains nothing, and nobody is asked because of it."""
        self._lock()
        self._change(dismissed_at=Now(), dismissed_by=by, dismissed_why=why)

    @transaction.atomic
    def restore(self) -> None:
        self._lock()
        self._change(dismissed_at=None, dismissed_by=None, dismissed_why="")
