"""The production chat: conversations, turn by turn. What guests think of answers is feedback."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from django.db import models, transaction
from django.utils.crypto import salted_hmac

from annotate.chat import complaints
from annotate.chat.messages import Message
from annotate.chat.turns import Turn, all_turns, leading_to, shown_branch
from annotate.labels import of_guests
from annotate.people.models import Project, User
from annotate.prompts.models import FROM_CHAT, Messages, Prompt, content_hash
from annotate.prompts.policies import Completion, Policy
from annotate.prompts.search import condition, fold
from annotate.prompts.windows import fitting


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

    def matching(self, words: str) -> Self:
        """Search in titles, questions and answers, as in prompts; see `prompts.search`."""
        return self.filter(condition(words, is_indexed=False)) if words else self

    def erase(self) -> None:
        """Erases each, as by itself."""
        for conversation in self:
            conversation.erase()

    def of_guests(self, project: Project) -> Self:
        """The chats of all its guests."""
        return self.filter(project=project, via_api=False)

    def left_before(self, moment: datetime) -> Self:
        """Those in which nothing was said since."""
        later = Message.objects.filter(conversation=models.OuterRef("pk"), created_at__gte=moment)
        return self.filter(~models.Exists(later), created_at__lt=moment)

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
    folded = models.TextField(
        editable=False, db_default="", help_text="Title and texts, for search; of a guest's chat."
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
    def ask(
        self, *, text: str, instead_of: Message | None = None, follows: int | None = None
    ) -> Message:
        """The guest's turn, and the place of the answer to it, which is still to be written.
        `instead_of`: the question of which this is another version; it begins a branch of its
        own, and what was said after the other stays there. `follows`: the number of the question
        that it follows, where that may not be the last one shown."""
        self._lock()
        question = self.messages.create(
            role=Message.Role.USER,
            text=text,
            follows=instead_of.follows if instead_of else self._question_before(follows),
        )
        if not self.title:
            self.title = title_of(text)
            self.save(update_fields=["title"])
        self.index()
        answer = self._expect_answer(question, self.history(question), self._speaker())
        if self._is_answered_twice(question) and (other := self._other_speaker(answer)):
            self._expect_answer(
                question,
                answer.asked,
                other,
                compared_with=answer,
                is_blind=True,
                shown_at=answer.shown_at,  # of the two, the first goes on until one is chosen
            )
        return answer

    @transaction.atomic
    def ask_again(self, *, instead_of: Message) -> Message:
        """Another draft of an answer; the earlier ones stay. What failed is no draft to compare
        with: the one before it is."""
        question = instead_of.answers
        assert question is not None
        self._lock()
        compared_with = instead_of.compared_with if instead_of.has_failed else instead_of
        return self._expect_answer(
            question, self.history(question), self._speaker(), compared_with=compared_with
        )

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
        return conversation._expect_answer(question, messages, policy, sampling=sampling)

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
        # By the chat and not the turn: nobody talks with two policies at once, and as a function of
        # the number the lot needs no column to be remembered in.
        lot = int(content_hash(["challenger", self.pk])[:8], 16) % 100
        if lot < self.project.challenger_percent:
            return policies.challenger().first() or live
        return live

    def _is_answered_twice(self, question: Message) -> bool:
        """A share of the turns, of chats that may teach anything."""
        lot = int(content_hash(["two drafts", question.pk])[:8], 16) % 100
        return self.improves_model and lot < self.project.two_drafts_percent

    def _other_speaker(self, answer: Message) -> Policy | None:
        """Who writes the second of two blind drafts: the challenger beside the live policy and the
        other way round; without one the same policy, if it does not always say the same."""
        policies = Policy.objects.filter(project=self.project_id)
        rivals = [policies.live().first(), policies.challenger().first()]
        others = [each for each in rivals if each and each != answer.policy]
        same = answer.policy if answer.policy and answer.policy.temperature > 0 else None
        return others[0] if others else same

    def _expect_answer(
        self,
        question: Message,
        asked: Messages,
        policy: Policy,
        *,
        sampling: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Message:
        left_out = 0
        if not self.via_api:  # a product says itself what is sent
            whole, asked = asked, fitting(policy, asked)
            left_out = len(whole) - len(asked)
        return self.messages.create(
            role=Message.Role.ASSISTANT,
            state=Message.State.STREAMING,
            answers=question,
            policy=policy,
            template_hash=policy.template_hash,
            asked=asked,
            left_out=left_out,
            # A policy's own prompt is for a chat; a raw text stands alone.
            context=asked if (sampling or {}).get("is_raw") else policy.messages_for(asked),
            sampling={
                "temperature": policy.temperature,
                "max_tokens": policy.max_new_tokens,
                **(sampling or {}),
            },
            **fields,
        )

    def turns(self) -> list[Turn]:
        """The chat as its guest sees it, with the guest's own thumbs."""
        return shown_branch(self._all_turns())

    def _all_turns(self) -> list[Turn]:
        mine = (
            models.Prefetch("feedback", self.guest.feedback.current()),
            models.Prefetch("preferences", self.guest.preferences.current()),
        )
        said = self.messages.select_related("policy", "compared_with")
        return all_turns(said.prefetch_related(*mine))

    def _question_before(self, follows: int | None) -> Message | None:
        """The question with this number, whose branch is shown from now on; without one of this
        chat, the last of the branch that is shown."""
        turns = self._all_turns()
        named = next((turn for turn in turns if turn.question.pk == follows), None)
        if named is None:
            shown = shown_branch(turns)
            return shown[-1].question if shown else None
        for turn in (*leading_to(named.question, turns), named):
            if not turn.is_shown_version:
                turn.question.show()
        return named.question

    def turn_of(self, answer: Message) -> Turn:
        return next(turn for turn in self._all_turns() if turn.question.pk == answer.answers_id)

    def history(self, question: Message) -> Messages:
        """What was said up to this question, and the question. A turn without answer is left out:
        chat templates want user and assistant to take turns."""
        said = []
        for turn in leading_to(question, self._all_turns()):
            if turn.shown and turn.shown.text.strip():
                said += [
                    {"role": "user", "content": turn.question.text},
                    {"role": "assistant", "content": turn.shown.text},
                ]
        return [*said, {"role": "user", "content": question.text}]

    def rename(self, title: str) -> None:
        self.title = title
        self.save(update_fields=["title"])
        self.index()

    def index(self) -> None:
        """Makes what was said up to now found; of a guest's chat, for a product searches none."""
        if self.via_api:
            return
        this = Conversation.objects.filter(pk=self.pk)
        titles, texts = this.values_list("title"), self.messages.values_list("text")
        said = [text for (text,) in (*titles, *texts)]
        this.update(folded="\n".join(map(fold, said)))

    @transaction.atomic
    def allow_improving(self, *, allowed: bool) -> None:
        self.held()
        self.improves_model = allowed
        self.save(update_fields=["improves_model"])
        if not allowed:
            self._take_back()
        for message in self.messages.all():
            message.feedback.update(harvested_at=None)  # to be looked at again
            message.preferences.update(harvested_at=None)

    @transaction.atomic
    def erase(self) -> None:
        """Deletes the chat, and what became of it; a question on which people have worked is put
        out of use with all they said of it."""
        self.held()
        self._take_back()
        self.delete()

    def _take_back(self) -> None:
        completions = Completion.objects.filter(message__conversation=self)
        of_guests.forget(completions)
        complaints.withdraw(completions)
        prompts = list(completions.values_list("prompt", flat=True))
        completions.filter(placements=None, tasks=None, edits=None).delete()
        from_chat = Prompt.objects.filter(pk__in=prompts, source=FROM_CHAT)
        worked_on = {"demonstrations": None, "rankings": None, "tasks__assignments": None}
        from_chat.filter(completions=None, **worked_on).delete()
        others = Conversation.objects.filter(improves_model=True).exclude(pk=self.pk)
        from_chat.exclude(completions__message__conversation__in=others).take_back()
