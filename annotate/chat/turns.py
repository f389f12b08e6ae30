"""A chat as its guest sees it: questions with the drafts of their answers, one branch of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from annotate.chat.messages import Message
from annotate.chat.preferences import Preference

Step = tuple[Message | None, str, str]


def all_turns(messages: Iterable[Message]) -> list[Turn]:
    """Every question of every branch, in the order in which they were asked."""
    messages = list(messages)
    asked_after, answers = defaultdict(list), defaultdict(list)
    for each in messages:
        if each.role == Message.Role.USER:
            asked_after[each.follows_id].append(each)
        else:
            answers[each.answers_id].append(each)
    return [
        Turn(question, answers[question.pk], asked_after[question.follows_id])
        for question in messages
        if question.role == Message.Role.USER
    ]


def shown_branch(turns: Iterable[Turn]) -> list[Turn]:
    """From the first question on, of several versions of a question the one shown last."""
    shown = {turn.question.follows_id: turn for turn in turns if turn.is_shown_version}
    branch, last = [], None
    while turn := shown.get(last):
        branch.append(turn)
        last = turn.question.pk
    return branch


def leading_to(question: Message, turns: Iterable[Turn]) -> list[Turn]:
    """The turns that lead to a question."""
    by_question = {turn.question.pk: turn for turn in turns}
    found, last = [], question.follows_id
    while last:
        found.append(by_question[last])
        last = found[-1].question.follows_id
    return found[::-1]


@dataclass
class Turn:
    """A question, all that was answered to it, and the versions of the question: itself and those
    that it was edited from or into."""

    question: Message
    answers: list[Message]
    versions: list[Message] = field(default_factory=list)

    @property
    def is_shown_version(self) -> bool:
        return self.question == max(self.versions, key=lambda each: (each.shown_at, each.pk))

    @cached_property
    def drafts(self) -> list[Message]:
        """Answers to choose from. One that failed is none, unless there is no other."""
        return [each for each in self.answers if not each.has_failed] or self.answers[-1:]

    @cached_property
    def shown(self) -> Message | None:
        return max(self.drafts, key=lambda draft: draft.shown_at, default=None)

    @property
    def failed(self) -> Message | None:
        """The last attempt at an answer, where it failed and an earlier draft is shown."""
        last = self.answers[-1] if self.answers else None
        is_news = last and last.has_failed and self.shown and self.shown.shown_at < last.shown_at
        return last if is_news else None

    @cached_property
    def pair(self) -> list[Message]:
        """Two drafts to choose between, blind, in the order in which they are shown; empty where
        there is nothing to choose, or no more."""
        if len(self.drafts) != 2 or not self.drafts[1].is_blind or self.drafts[1].preference:
            return []
        first, second = self.drafts
        are_written = not (first.is_running or second.is_running)
        if are_written and not (first.is_whole and second.is_whole and self._differ(first, second)):
            return []
        by_id = {each.pk: each for each in self.drafts}  # with the guest's thumbs
        return [by_id[each.pk] for each in second.in_shown_order]

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        return [*Preference.Verdict.choices]

    @property
    def is_being_written(self) -> bool:
        return any(draft.is_running for draft in self.drafts)

    @property
    def blind(self) -> Message:
        """The draft of the pair that the verdict is of."""
        return self.drafts[1]

    @property
    def compared(self) -> Message | None:
        """The shown draft, if the guest can say whether it is better than the one it came after."""
        shown = self.shown
        before = shown.compared_with if shown else None
        if shown is None or before is None or not (shown.is_whole and before.is_whole):
            return None
        return shown if self._differ(shown, before) else None

    @staticmethod
    def _differ(one: Message, other: Message) -> bool:
        return one.text.strip() != other.text.strip()

    @property
    def number(self) -> int:
        return self.drafts.index(self.shown) + 1 if self.shown else 0

    @property
    def steps(self) -> list[Step]:
        """To the draft before the shown one and to the one after it: draft, icon, name."""
        return _steps(self.drafts, self.number, "draft")

    @property
    def version(self) -> int:
        return self.versions.index(self.question) + 1

    @property
    def version_steps(self) -> list[Step]:
        """As `steps`, between the versions of the question."""
        return _steps(self.versions, self.version, "version")


def _steps(among: list[Message], number: int, what: str) -> list[Step]:
    previous = among[number - 2] if number > 1 else None
    following = among[number] if number < len(among) else None
    return [
        (previous, "chevron-left", f"Previous {what}"),
        (following, "chevron-right", f"Next {what}"),
    ]
