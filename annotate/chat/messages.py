"""What was said in the chat, turn by turn, and how an answer becomes data of the project."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Self

from django.db import models, transaction
from django.db.models import Case, Q, Value, When
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from annotate.prompts.models import FROM_CHAT, Prompt, content_hash, prompt_key
from annotate.prompts.policies import Completion, Policy

# An answer that nobody was heard writing for so long will not come any more.
SILENCE = timedelta(seconds=30)
COUNTED_A_DAY = 200  # rated answers of one person that become data: of those of a day, the first
NOT_ALLOWED = "This exchange was opted out of improving the model."
NOT_WHOLE = "The answer is incomplete or empty."
TOO_MANY = f"Only the first {COUNTED_A_DAY} answers a person rates in a day count."
TOO_MANY_UNNAMED = (
    f"{TOO_MANY} Send `user` with each chat, so that each person is counted separately."
)


class MessageQuerySet(models.QuerySet["Message"]):
    def answers_in(self, conversations: models.QuerySet[Any]) -> Self:
        """With all that showing, writing or judging an answer asks for."""
        answers = self.filter(conversation__in=conversations, role=Message.Role.ASSISTANT)
        return answers.select_related(
            "conversation__project", "conversation__guest", "policy", "answers", "compared_with"
        )

    def questions_in(self, conversations: models.QuerySet[Any]) -> Self:
        asked = self.filter(conversation__in=conversations, role=Message.Role.USER)
        return asked.select_related("conversation__project", "conversation__guest", "follows")

    def beside(self, answer: Message) -> Self:
        """The second of two blind drafts, if there is one."""
        return self.filter(compared_with=answer, is_blind=True).select_related("policy")

    def _with_sign_of_life(self) -> Self:
        return self.filter(state=Message.State.STREAMING).alias(
            alive_at=Coalesce("heard_at", "created_at")
        )

    def running(self) -> Self:
        return self._with_sign_of_life().filter(alive_at__gt=Now() - SILENCE)

    def broken_off(self) -> Self:
        """Whoever was writing them has died without a word."""
        return self._with_sign_of_life().filter(alive_at__lte=Now() - SILENCE)


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

    BROKE_OFF = "The answer was interrupted. The text so far is kept."

    conversation = models.ForeignKey(
        "annotate.Conversation", models.CASCADE, related_name="messages"
    )
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    role = models.CharField(max_length=10, choices=Role)
    text = models.TextField(blank=True)
    answers = models.ForeignKey(
        "self", models.CASCADE, null=True, related_name="drafts", help_text="The user's turn."
    )
    follows = models.ForeignKey(
        "self",
        models.CASCADE,
        null=True,
        related_name="followed_by",
        help_text="Of a question, the one before it. Those that follow the same are versions.",
    )
    compared_with = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        related_name="rivals",
        help_text="The draft of the same answer that this one is to be better than.",
    )
    is_blind = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Written at the same time as the draft it is compared with, for a blind choice.",
    )
    state = models.CharField(max_length=10, choices=State, default=State.DONE)
    failure = models.CharField(max_length=300, blank=True, help_text="Why it failed.")
    policy = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="messages")
    template_hash = models.CharField(max_length=64, blank=True)
    asked = models.JSONField(
        default=list, help_text="The conversation it answers: without the policy's own prompt."
    )
    context = models.JSONField(default=list, help_text="The messages the model was given.")
    left_out = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Earlier messages of the chat that no longer fit."
    )
    sampling = models.JSONField(default=dict)
    finish_reason = models.CharField(max_length=20, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True, help_text="As its server counts.")
    completion_tokens = models.PositiveIntegerField(null=True)
    first_token_ms = models.PositiveIntegerField(null=True)
    total_ms = models.PositiveIntegerField(null=True)
    heard_at = models.DateTimeField(
        null=True, help_text="The last sign of life of the process that writes the answer."
    )
    shown_at = models.DateTimeField(
        default=timezone.now, help_text="Of several drafts, the one shown last goes on."
    )
    completion = models.OneToOneField(
        Completion,
        models.SET_NULL,
        null=True,
        related_name="message",
        help_text="Set once the answer has become part of the project's data.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["conversation", "is_blind"],
                condition=Q(state="streaming"),
                name="one_answer_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return self.text[:60]

    @property
    def is_broken_off(self) -> bool:
        alive_at = self.heard_at or self.created_at
        return self.state == self.State.STREAMING and alive_at <= timezone.now() - SILENCE

    @property
    def is_running(self) -> bool:
        return self.state == self.State.STREAMING and not self.is_broken_off

    @property
    def has_failed(self) -> bool:
        return self.state == self.State.FAILED or self.is_broken_off

    @property
    def ended_by(self) -> str:
        """What ended the answer: its policy (`stop`, `length`), or else `stopped`, `failed`."""
        return self.finish_reason or ("" if self.state == self.State.DONE else self.state)

    @property
    def trouble(self) -> str:
        """What went wrong with it, in a sentence."""
        if self.is_broken_off:
            return self.BROKE_OFF
        return self.failure if self.state == self.State.FAILED else ""

    @property
    def thumb(self) -> Any:
        """The guest's own feedback or None, in a message of `Conversation.turns`."""
        return next(iter(self.feedback.all()), None)

    @property
    def preference(self) -> Any:
        """What the guest said of it beside another draft, or None; as `thumb`."""
        return next(iter(self.preferences.all()), None)

    @property
    def in_shown_order(self) -> list[Message]:
        """This draft and the one it is compared with, as the guest sees them: a blind pair by lot,
        always the same; of others the earlier one first."""
        if self.compared_with is None:
            return [self]
        drafts = [self.compared_with, self]
        lot = int(content_hash(["order of drafts", self.pk])[:8], 16) % 2
        return drafts[::-1] if self.is_blind and lot else drafts

    @property
    def is_whole(self) -> bool:
        """Whether there is an answer that can be judged."""
        return self.state == self.State.DONE and bool(self.text.strip())

    @property
    def _row(self) -> MessageQuerySet:
        return Message.objects.filter(pk=self.pk)

    def begin(self) -> bool:
        """Claims the writing of the answer; True for one caller only."""
        return self._row.running().filter(heard_at=None).update(heard_at=Now()) == 1

    def hear(self, text: str) -> bool:
        """Saves what has come so far, with a sign of life. False: the guest has stopped it."""
        return self._row.running().update(text=text, heard_at=Now()) == 1

    def end(self, *, state: str, text: str, **facts: Any) -> None:
        """The last word of the process that wrote it. A stop that came before stays a stop."""
        stopped = self.State.STOPPED
        self._row.filter(state__in=(self.State.STREAMING, stopped)).update(
            state=Case(When(state=stopped, then=Value(stopped)), default=Value(state)),
            text=text,
            heard_at=Now(),
            **facts,
        )
        self.refresh_from_db(fields=["state", "text", "heard_at", *facts])
        self.conversation.index()

    def stop(self) -> bool:
        return self._row.filter(state=self.State.STREAMING).update(state=self.State.STOPPED) == 1

    def show(self) -> None:
        """Makes this the draft, or the version of a question, with which the chat goes on."""
        self._row.update(shown_at=Now())

    @transaction.atomic
    def become_data(self, *, rated: bool = True) -> Completion | None:
        """This answer and its prompt in the project's data, if its guest allows that. `rated`: it
        counts among those the guest gave a thumb on that day."""
        conversation = self.conversation.held()
        self.refresh_from_db()
        self.conversation = conversation
        assert self.policy is not None
        if self.completion or (self.why_no_data if rated else self.why_not_usable):
            return self.completion
        prompt, _ = Prompt.objects.get_or_create(
            project=conversation.project,
            content_hash=prompt_key(self.asked),
            defaults={
                "messages": self.asked,
                "source": FROM_CHAT,
                "split_key": conversation.split_key,
            },
        )
        Prompt.objects.filter(pk=prompt.pk).give_again(source=FROM_CHAT)
        self.completion = prompt.completions.create(
            policy=self.policy,
            text=self.text,
            source=Completion.Source.CHAT,
            sampling=self.sampling,
            template_hash=self.template_hash,
            finish_reason=self.finish_reason,
        )
        self.save(update_fields=["completion"])
        return self.completion

    @property
    def why_no_data(self) -> str:
        """Why a thumb on it does not count; empty where it does."""
        conversation = self.conversation
        if self.why_not_usable:
            return self.why_not_usable
        if self._rated_before().count() >= COUNTED_A_DAY:
            unnamed = conversation.via_api and not conversation.end_user
            return TOO_MANY_UNNAMED if unnamed else TOO_MANY
        return ""

    @property
    def why_not_usable(self) -> str:
        """Why it cannot become data, whatever is said of it; empty where it can."""
        if not self.conversation.improves_model:
            return NOT_ALLOWED
        return "" if self.is_whole else NOT_WHOLE

    def _rated_before(self) -> MessageQuerySet:
        """The other answers that the same person got on the same day, and rated earlier."""
        conversation = self.conversation
        mine = self.feedback.current().first()
        rated = Q(feedback__retracted_at=None) & Q(feedback__isnull=False)
        if mine:
            rated &= Q(feedback__pk__lt=mine.pk)
        day = self.created_at.replace(hour=0, minute=0, second=0, microsecond=0)
        of_person = Message.objects.filter(
            conversation__project=conversation.project_id,
            conversation__guest=conversation.guest_id,
            conversation__via_api=conversation.via_api,
            conversation__end_user=conversation.end_user,
            conversation__improves_model=True,
            state=self.State.DONE,
            created_at__gte=day,
            created_at__lt=day + timedelta(days=1),
        )
        return of_person.filter(rated).exclude(pk=self.pk).distinct()
