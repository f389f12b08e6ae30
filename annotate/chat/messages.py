"""What was said in the chat, turn by turn, and how an answer becomes data of the project."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Self

from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from annotate.costs.uses import Use
from annotate.prompts.models import FROM_CHAT, Prompt, content_hash, prompt_key
from annotate.prompts.policies import Completion, Policy
from annotate.prompts.written import Written, WrittenQuerySet

COUNTED_A_DAY = 200  # rated answers of one person that become data: of those of a day, the first
NOT_ALLOWED = "This exchange was opted out of improving the model."
NOT_WHOLE = "The answer is incomplete or empty."
NEW_GUEST = (
    "This account is new: a reviewer has to approve its feedback before it is used for training."
)
EXCLUDED = "Feedback from this account is not used for training."
TOO_MANY = f"Only the first {COUNTED_A_DAY} answers a person rates in a day count."
TOO_MANY_UNNAMED = (
    f"{TOO_MANY} Send `user` with each chat, so that each person is counted separately."
)


class MessageQuerySet(WrittenQuerySet):
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


class Message(Written):
    """One turn."""

    class Role(models.TextChoices):
        USER = "user"
        ASSISTANT = "assistant"

    conversation = models.ForeignKey(
        "annotate.Conversation", models.CASCADE, related_name="messages"
    )
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    role = models.CharField(max_length=10, choices=Role)
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
    policy = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="messages")
    template_hash = models.CharField(max_length=64, blank=True)
    asked = models.JSONField(
        default=list, help_text="The conversation it answers: without the policy's own prompt."
    )
    left_out = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Earlier messages of the chat that no longer fit."
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

    @property
    def use(self) -> str:
        return Use.GATEWAY if self.conversation.via_api else Use.CHAT

    @property
    def has_failed(self) -> bool:
        return self.state == self.State.FAILED or self.is_broken_off

    @property
    def ended_by(self) -> str:
        """What ended the answer: its policy (`stop`, `length`), or else `stopped`, `failed`."""
        return self.finish_reason or ("" if self.state == self.State.DONE else self.state)

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

    def end(self, *, state: str, text: str, **facts: Any) -> None:
        super().end(state=state, text=text, **facts)
        self.conversation.index()

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
            passages=self.passages,
            finish_reason=self.finish_reason,
        )
        self.save(update_fields=["completion"])
        return self.completion

    @property
    def is_of_nobody(self) -> bool:
        """Whether a product asked it without saying for whom."""
        return self.conversation.via_api and not self.conversation.end_user

    @property
    def why_no_data(self) -> str:
        """Why a thumb on it does not count; empty where it does."""
        if self.why_not_usable:
            return self.why_not_usable
        if self._rated_before().count() >= COUNTED_A_DAY:
            return TOO_MANY_UNNAMED if self.is_of_nobody else TOO_MANY
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
