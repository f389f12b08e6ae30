"""Who says the user's turns after the model's answers: a script, a game of Hangman, or a policy
that plays a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from annotate.playground.grids import Grid
from annotate.playground.rows import Row
from annotate.prompts.models import Messages
from annotate.prompts.policies import Policy
from feedback_site.answer_checks.hangman import Game

END = "END"  # with which a policy that plays the user ends the conversation
BEGIN = "Begin the conversation."
ROLES = {"user": "assistant", "assistant": "user"}


class User(Protocol):
    def reply(self, conversation: Messages, answers: Sequence[str]) -> str | None:
        """The turn after these answers; None where the conversation is over."""


@dataclass(frozen=True)
class Script:
    turns: Sequence[str]

    def reply(self, conversation: Messages, answers: Sequence[str]) -> str | None:
        written = self.turns[len(answers) - 1 :]
        return written[0] if written else None


@dataclass(frozen=True)
class Hangman:
    word: str

    def reply(self, conversation: Messages, answers: Sequence[str]) -> str | None:
        game = Game(self.word).after(answers)
        return None if game.is_over else game.reply


@dataclass(frozen=True)
class Played:
    """By a policy, for so many turns. It sees the conversation with the roles changed, and is told
    who it is by its own system prompt."""

    say: Callable[[Messages], str]
    turns: int

    def reply(self, conversation: Messages, answers: Sequence[str]) -> str | None:
        if len(answers) > self.turns:
            return None
        said = self.say(as_seen_by_user(conversation)).strip()
        return None if said.strip(" .!") in ("", END) else said


def as_seen_by_user(conversation: Messages) -> Messages:
    """The conversation for a model that speaks as the user: it begins as models are used to."""
    turns = [turn for turn in conversation if turn["role"] in ROLES]
    seen = [{"role": ROLES[turn["role"]], "content": turn["content"]} for turn in turns]
    return [{"role": "user", "content": BEGIN}, *seen]


def user_of(grid: Grid, row: Row, say: Callable[[Policy, Messages], str]) -> User:
    """Who answers the model in this row. `say` asks a policy that plays the user."""
    player = grid.player
    if grid.partner == Grid.Partner.HANGMAN:
        return Hangman(row.reference)
    if player is not None:
        return Played(lambda seen: say(player, seen), grid.turns)
    return Script(row.then)
