"""The letters under which completions stand while their origin is hidden.

Among those it is compared with, a completion has one letter, whoever looks and in whatever order it
is shown: "B is wrong" means the same to a labeler, to the others and to the reviewers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256


def letter_of(index: int) -> str:
    """0 → A, 1 → B."""
    return chr(ord("A") + index)


def letters_of(completions: Iterable[int]) -> dict[int, str]:
    """Completion id → letter, A first. Drawn by lot from the ids, so that a letter says nothing of
    who wrote the text or when."""
    return letters_in(sorted(completions, key=_lot))


def letters_in(order: Sequence[int]) -> dict[int, str]:
    """Completion id → letter, where A is the first in this order."""
    return {pk: letter_of(index) for index, pk in enumerate(order)}


def unlike(theirs: Mapping[int, str], here: Mapping[int, str]) -> list[tuple[str, str]]:
    """(their letter, the one here) of each completion that goes by two."""
    both = ((letter, here.get(pk, letter)) for pk, letter in theirs.items())
    return sorted((letter, other) for letter, other in both if letter != other)


# Places would not do as letters: they are shuffled for each labeler, so that not all lean towards
# what is shown first, and “B is wrong” would mean another text to whoever reads it.
def _lot(completion: int) -> bytes:
    return sha256(f"letter/{completion}".encode()).digest()
