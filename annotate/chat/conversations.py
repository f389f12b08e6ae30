"""The production chat: conversations, turn by turn. What guests think of answers is feedback."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from django.db import models, transaction
from django.utils.crypto import salted_hmac

from annotate.chat.messages import PROMPT_SOURCE, Message
from annotate.people.models import Project, User
from annotate.prompts.models import Messages, Prompt, content_hash
from annotate.prompts.policies import Completion, Policy


def title_of(text: str) -> str:
    return textwrap.shorten(text, 60, placeholder="…")


def digest_of(project: Project, end_user: str) -> str:
    """All that is kept of an end user: a keyed digest, in hex; empty for nobody."""
    if not end_user:
        return ""
    whose = f"{project.pk}/{end_user}"
    return salted_hmac("annotate.end_user", whose, algorithm="sha256").hexdigest()


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

    def of_end_user(self, project: Project, name: str) -> Self:
        """Those of a person as a product calls them."""
        return self.of_products(project).filter(end_user=digest_of(project, name))


class Conversation(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="conversations")
    guest = models.ForeignKey(User, models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=100, blank=True)
    via_api = models.BooleanField(default=False, help_text="An exchange of a product outside.")
    end_user = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text="Of an exchange of a product: a keyed digest of what it calls its user.",
    )
    improves_model = models.BooleanField(
        default=True,
        help_text="The guest's switch “use this chat to improve the model”. "
        "Off: nothing of it leaves the chat tables.",
    )
    metadata = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        help_text="Of an exchange of a product: names and texts of its own.",
    )
    external_id = models.CharField(
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text="What a product calls an answer of another server that it has logged here.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "external_id"],
                condition=~models.Q(external_id=""),
                name="one_exchange_an_external_id",
            )
        ]

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
            self.title = title_of(text)
            self.save(update_fields=["title"])
        return self._expect_answer(question, self.history(question), self._speaker())

    @transaction.atomic
    def ask_again(self, *, instead_of: Message) -> Message:
        """Another draft of an answer; the earlier ones stay."""
        question = instead_of.answers
        assert question is not None
        self._lock()
        return self._expect_answer(question, self.history(question), self._speaker())

    @classmethod
    @transaction.atomic
    def of_api_call(
        cls,
        *,
        project: Project,
        user: User,
        messages: Messages,
        policy: Policy | None = None,
        improves_model: bool = True,
        end_user: str = "",
        metadata: dict[str, str] | None = None,
        **sampling: Any,
    ) -> Message:
        """The exchange of a product outside: it brings its history along. Of `end_user`, as the
        product calls them, only a digest is kept. Without `policy` the project's own answers."""
        text = messages[-1]["content"]
        conversation = cls.objects.create(
            project=project,
            guest=user,
            via_api=True,
            end_user=digest_of(project, end_user),
            improves_model=improves_model,
            metadata=metadata or {},
            title=title_of(text),
        )
        question = conversation.messages.create(role=Message.Role.USER, text=text)
        policy = policy or conversation._speaker()
        return conversation._expect_answer(question, messages, policy, **sampling)

    @property
    def split_key(self) -> str:
        """All that a guest asks is in one split: who is held out has trained nothing. What products
        send comes from many guests, and is split by its content."""
        return "" if self.via_api else content_hash(["guest", self.guest_id])

    def held(self) -> Conversation:
        """As it is now, its row held till the transaction ends."""
        return Conversation.objects.select_for_update().get(pk=self.pk)

    def _lock(self) -> None:
        self.held()
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

    def _expect_answer(
        self, question: Message, asked: Messages, policy: Policy, **sampling: Any
    ) -> Message:
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
        self.held()
        self.improves_model = allowed
        self.save(update_fields=["improves_model"])
        if not allowed:
            self._take_back()
        for message in self.messages.all():
            message.feedback.update(harvested_at=None)  # to be looked at again

    @transaction.atomic
    def erase(self) -> None:
        """Deletes the chat, and what became of it; a question on which people have worked is put
        out of use with all they said of it."""
        self.held()
        self._take_back()
        self.delete()

    def _take_back(self) -> None:
        completions = Completion.objects.filter(message__conversation=self)
        prompts = list(completions.values_list("prompt", flat=True))
        completions.filter(placements=None, tasks=None).delete()
        from_chat = Prompt.objects.filter(pk__in=prompts, source=PROMPT_SOURCE)
        worked_on = {"demonstrations": None, "rankings": None, "tasks__assignments": None}
        from_chat.filter(completions=None, **worked_on).delete()
        others = Conversation.objects.filter(improves_model=True).exclude(pk=self.pk)
        from_chat.exclude(completions__message__conversation__in=others).take_back()


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
