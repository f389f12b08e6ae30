"""The production chat: conversations and their messages. What guests think of them is feedback."""

from __future__ import annotations

import textwrap
import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from django.db import models, transaction
from django.db.models import Case, Q, Value, When
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from annotate.models.people import Project, User
from annotate.models.policies import Completion, Policy
from annotate.models.prompts import Messages, Prompt, content_hash
from annotate.models.work import Task

if TYPE_CHECKING:
    from annotate.models.feedback import Feedback

# An answer that nobody was heard writing for so long will not come any more.
SILENCE = timedelta(seconds=30)
HARVEST_LIMIT = 200  # answers that one guest may put into a project's data


def _title(text: str) -> str:
    return textwrap.shorten(text, 60, placeholder="…")


class NoLivePolicy(Exception):
    """Nobody answers in this project."""


class StillAnswering(Exception):
    """One answer at a time."""


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def of_guest(self, guest: User, project: Project) -> Self:
        """What this person sees as their chats; what a product sent through the API is none."""
        return self.filter(guest=guest, project=project, via_api=False)

    def of_products(self, project: Project) -> Self:
        """The exchanges that came through the API."""
        return self.filter(project=project, via_api=True)


class Conversation(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="conversations")
    guest = models.ForeignKey(User, models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=100, blank=True)
    via_api = models.BooleanField(default=False, help_text="An exchange of a product outside.")
    improves_model = models.BooleanField(
        default=True,
        help_text="The guest's switch “use this chat to improve the model”. "
        "Off: nothing of it leaves the chat tables.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title or f"chat {self.pk}"

    @classmethod
    @transaction.atomic
    def start(
        cls, *, project: Project, guest: User, text: str, improves_model: bool = True
    ) -> Message:
        """A new chat with its first question; the place of the answer to it."""
        conversation = cls.objects.create(
            project=project, guest=guest, improves_model=improves_model
        )
        return conversation.ask(text=text)

    @transaction.atomic
    def ask(self, *, text: str) -> Message:
        """The guest's turn, and the place of the answer to it, which is still to be written."""
        self._lock()
        question = self.messages.create(role=Message.Role.USER, text=text)
        if not self.title:
            self.title = _title(text)
            self.save(update_fields=["title"])
        return self._expect_answer(question, self.history(question))

    @transaction.atomic
    def ask_again(self, *, instead_of: Message) -> Message:
        """Another draft of an answer; the earlier ones stay."""
        question = instead_of.answers
        assert question is not None
        self._lock()
        return self._expect_answer(question, self.history(question))

    @classmethod
    @transaction.atomic
    def of_api_call(
        cls,
        *,
        project: Project,
        user: User,
        messages: Messages,
        improves_model: bool = True,
        **sampling: Any,
    ) -> Message:
        """The exchange of a product outside: it brings its history along."""
        text = messages[-1]["content"]
        conversation = cls.objects.create(
            project=project,
            guest=user,
            via_api=True,
            improves_model=improves_model,
            title=_title(text),
        )
        question = conversation.messages.create(role=Message.Role.USER, text=text)
        return conversation._expect_answer(question, messages, **sampling)

    @property
    def split_key(self) -> str:
        """All that a guest asks is in one split: who is held out has trained nothing. What products
        send comes from many guests, and is split by its content."""
        return "" if self.via_api else content_hash(["guest", self.guest_id])

    def _lock(self) -> None:
        Conversation.objects.select_for_update().get(pk=self.pk)
        self.messages.broken_off().update(state=Message.State.FAILED, failure=Message.BROKE_OFF)
        if self.messages.running().exists():
            raise StillAnswering

    def _speaker(self) -> Policy:
        """The live policy; in a share of the chats the challenger, in all turns of those."""
        policies = Policy.objects.filter(project=self.project_id)
        live = policies.live().first()
        if live is None:
            raise NoLivePolicy
        lot = int(content_hash(["challenger", self.pk])[:8], 16) % 100
        if lot < self.project.challenger_percent:
            return policies.challenger().first() or live
        return live

    def _expect_answer(self, question: Message, asked: Messages, **sampling: Any) -> Message:
        policy = self._speaker()
        return self.messages.create(
            role=Message.Role.ASSISTANT,
            state=Message.State.STREAMING,
            answers=question,
            policy=policy,
            template_hash=policy.template_hash,
            asked=asked,
            context=policy.messages_for(asked),
            sampling={
                "temperature": policy.temperature,
                "max_tokens": policy.max_new_tokens,
                **sampling,
            },
        )

    def turns(self) -> list[Turn]:
        """The chat as its guest sees it, with the guest's own thumbs."""
        mine = models.Prefetch("feedback", self.guest.feedback.current())
        messages = list(self.messages.select_related("policy").prefetch_related(mine))
        return [
            Turn(question, [each for each in messages if each.answers_id == question.pk])
            for question in messages
            if question.role == Message.Role.USER
        ]

    def turn_of(self, answer: Message) -> Turn:
        return next(turn for turn in self.turns() if answer in turn.drafts)

    def history(self, question: Message) -> Messages:
        """What was said up to this question, and the question. A turn without answer is left out:
        chat templates want user and assistant to take turns."""
        said = []
        for turn in self.turns():
            if turn.question.pk < question.pk and turn.shown and turn.shown.text.strip():
                said += [
                    {"role": "user", "content": turn.question.text},
                    {"role": "assistant", "content": turn.shown.text},
                ]
        return [*said, {"role": "user", "content": question.text}]

    @transaction.atomic
    def allow_improving(self, *, allowed: bool) -> None:
        Conversation.objects.select_for_update().get(pk=self.pk)
        self.improves_model = allowed
        self.save(update_fields=["improves_model"])
        if not allowed:
            self._take_back()
        for message in self.messages.all():
            message.feedback.update(harvested_at=None)  # to be looked at again

    @transaction.atomic
    def erase(self) -> None:
        """Deletes the chat, and what became of it unless people have worked on it."""
        Conversation.objects.select_for_update().get(pk=self.pk)
        self._take_back()
        self.delete()

    def _take_back(self) -> None:
        completions = Completion.objects.filter(message__conversation=self)
        prompts = list(completions.values_list("prompt", flat=True))
        completions.filter(placements=None, tasks=None).delete()
        from_chat = Prompt.objects.filter(pk__in=prompts, source=PROMPT_SOURCE)
        unused = from_chat.filter(
            completions=None, demonstrations=None, rankings=None, tasks__assignments=None
        )
        unused.delete()


@dataclass
class Turn:
    """A question with the drafts of its answer, the one shown among them."""

    question: Message
    drafts: list[Message]

    @cached_property
    def shown(self) -> Message | None:
        return max(self.drafts, key=lambda draft: draft.shown_at, default=None)

    @property
    def number(self) -> int:
        return self.drafts.index(self.shown) + 1 if self.shown else 0

    @property
    def steps(self) -> list[tuple[Message | None, str, str]]:
        """To the draft before the shown one and to the one after it: draft, icon, name."""
        before = self.drafts[self.number - 2] if self.number > 1 else None
        after = self.drafts[self.number] if self.number < len(self.drafts) else None
        return [
            (before, "chevron-left", "Previous draft"),
            (after, "chevron-right", "Next draft"),
        ]


class MessageQuerySet(models.QuerySet["Message"]):
    def answers_in(self, conversations: ConversationQuerySet) -> Self:
        """With all that showing, writing or judging an answer asks for."""
        answers = self.filter(conversation__in=conversations, role=Message.Role.ASSISTANT)
        return answers.select_related(
            "conversation__project", "conversation__guest", "policy", "answers"
        )

    def _with_sign_of_life(self) -> Self:
        return self.filter(state=Message.State.STREAMING).alias(
            alive_at=Coalesce("heard_at", "created_at")
        )

    def running(self) -> Self:
        return self._with_sign_of_life().filter(alive_at__gt=Now() - SILENCE)

    def broken_off(self) -> Self:
        """Whoever was writing them has died without a word."""
        return self._with_sign_of_life().filter(alive_at__lte=Now() - SILENCE)


PROMPT_SOURCE = "chat"


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

    BROKE_OFF = "The answer broke off. What had come is kept."

    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="messages")
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    role = models.CharField(max_length=10, choices=Role)
    text = models.TextField(blank=True)
    answers = models.ForeignKey(
        "self", models.CASCADE, null=True, related_name="drafts", help_text="The user's turn."
    )
    state = models.CharField(max_length=10, choices=State, default=State.DONE)
    failure = models.CharField(max_length=300, blank=True, help_text="Why it failed.")
    policy = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="messages")
    template_hash = models.CharField(max_length=64, blank=True)
    asked = models.JSONField(
        default=list, help_text="The conversation it answers: without the policy's own prompt."
    )
    context = models.JSONField(default=list, help_text="The messages the model was given.")
    sampling = models.JSONField(default=dict)
    finish_reason = models.CharField(max_length=20, blank=True)
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
                fields=["conversation"],
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
    def trouble(self) -> str:
        """What went wrong with it, in a sentence."""
        if self.is_broken_off:
            return self.BROKE_OFF
        return self.failure if self.state == self.State.FAILED else ""

    @property
    def thumb(self) -> Feedback | None:
        """The guest's own, in a message of `Conversation.turns`."""
        return next(iter(self.feedback.all()), None)

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

    def stop(self) -> bool:
        return self._row.filter(state=self.State.STREAMING).update(state=self.State.STOPPED) == 1

    def show(self) -> None:
        """Makes this the draft with which the chat goes on."""
        self._row.update(shown_at=Now())

    @transaction.atomic
    def become_data(self) -> Completion | None:
        """This answer and its prompt in the project's data, if its guest allows that."""
        conversation = Conversation.objects.select_for_update().get(pk=self.conversation_id)
        self.refresh_from_db()
        assert self.policy is not None
        if self.completion or not conversation.improves_model or not self._may_become_data():
            return self.completion
        prompt, _ = Prompt.objects.get_or_create(
            project=conversation.project,
            content_hash=content_hash(self.asked),
            defaults={
                "messages": self.asked,
                "source": PROMPT_SOURCE,
                "split_key": conversation.split_key,
            },
        )
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

    def _may_become_data(self) -> bool:
        """A whole answer, of a guest who has not filled the data with their own already."""
        harvested = Message.objects.exclude(completion=None)
        of_guest = harvested.filter(
            conversation__guest=self.conversation.guest,
            conversation__project=self.conversation.project,
        )
        is_whole = self.state == self.State.DONE and bool(self.text.strip())
        return is_whole and of_guest.count() < HARVEST_LIMIT

    def open_write_task(self) -> Task:
        """Asks labelers what they would have said here; once, however often it is wished."""
        assert self.completion is not None
        prompt = Prompt.objects.select_for_update().get(pk=self.completion.prompt_id)
        wish = {"project": prompt.project, "prompt": prompt, "kind": Task.Kind.WRITE}
        return Task.objects.filter(**wish).first() or Task.objects.create(
            **wish, overlap=prompt.project.overlap, batch=PROMPT_SOURCE
        )
