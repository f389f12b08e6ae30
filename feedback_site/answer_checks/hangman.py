"""Hangman: a word is found letter by letter. The game gives the user's turns, and the check replays
it from the answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .check import ReferenceCheck

MOST_WRONG = 6
LETTER = re.compile(r"\bletter\W+([^\W\d_])(?![^\W\d_]|['’])", re.IGNORECASE)
ALONE = re.compile(r"(?<![^\W_])(?<!['’])([^\W\d_])(?![^\W_]|['’])")
WORDS_TOO = ("i", "a")  # “I guess A”: where another letter stands alone, that is the guess


@dataclass(frozen=True)
class Game:
    """A game as it stands: the word, the letters that were found, how many guesses were wrong."""

    word: str
    found: frozenset[str] = frozenset()
    wrong: int = 0
    reply: str = ""

    @property
    def is_won(self) -> bool:
        return set(self.word.casefold()) <= self.found

    @property
    def is_over(self) -> bool:
        return self.is_won or self.wrong >= MOST_WRONG

    @property
    def shown(self) -> str:
        """The word with a line for each letter that is not found yet."""
        return " ".join(each if each.casefold() in self.found else "_" for each in self.word)

    @property
    def opening(self) -> str:
        """The user's first turn."""
        return (
            f"Let us play Hangman. My word has {len(self.word)} letters: {self.shown}\n"
            f"Guess one letter at a time. You may guess wrong {MOST_WRONG} times."
        )

    @property
    def _left(self) -> str:
        left = MOST_WRONG - self.wrong
        return f"You may guess wrong {left} more time{'s' if left > 1 else ''}."

    def after(self, answers: Sequence[str]) -> Game:
        """How it stands after these answers, one guess each."""
        game = self
        for answer in answers:
            if not game.is_over:
                game = game._guessed(answer)
        return game

    def _guessed(self, answer: str) -> Game:
        letters = set(self.word.casefold())
        if self.word.casefold() in re.findall(r"[^\W\d_]+", answer.casefold()):
            return Game(self.word, frozenset(letters), self.wrong, "Yes, that is the word.")
        letter = guess_in(answer)
        if letter in letters - self.found:
            return self._told(f"Yes, there is “{letter}”.", found=self.found | {letter})
        if letter in self.found:
            return self._told(f"“{letter}” was there already.", wrong=self.wrong + 1)
        said = f"No, there is no “{letter}”." if letter else "That is no single letter."
        return self._told(said, wrong=self.wrong + 1)

    def _told(self, said: str, *, found: frozenset[str] | None = None, wrong: int = 0) -> Game:
        game = Game(self.word, found or self.found, wrong or self.wrong)
        reply = f"{said}\n{game.shown}\n{game._left} Your next letter?"
        return Game(game.word, game.found, game.wrong, reply)


def guess_in(answer: str) -> str:
    """The letter that an answer guesses, small; empty where there is none."""
    named = LETTER.search(answer)
    if named:
        return named[1].casefold()
    alone = [each.casefold() for each in ALONE.findall(answer)]
    return next((each for each in alone if each not in WORDS_TOO), alone[-1] if alone else "")


class Hangman(ReferenceCheck):
    name = "hangman"
    rests_on = "all answers of a game"
    meaning = "finds the word of the reference in a game of Hangman, by all answers of the row"

    def passes_with(
        self,
        completion: str,
        reference: str,
        passages: Sequence[str],
        before: Sequence[str],
    ) -> bool:
        return Game(reference.strip()).after([*before, completion]).is_won
