"""A text occurs in the answer."""

from __future__ import annotations

from collections.abc import Iterable

from .check import Check, CheckError, alternatives


class Contains(Check):
    name = "contains"
    setting = "a|b"
    meaning = "one of these occurs, in upper or lower case; without a setting, the reference"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        self.texts = alternatives(setting)
        if setting and not self.texts:
            raise CheckError(f"contains({setting}) names no text: write contains(a|b)")

    @property
    def needs_reference(self) -> bool:
        return not self.texts

    def passes(self, completion: str, reference: str) -> bool:
        return contains_any(completion, self.texts or [reference.strip()])


def contains_any(text: str, parts: Iterable[str]) -> bool:
    """Tells whether one of the parts occurs in the text, in upper or lower case."""
    folded = text.casefold()
    return any(part.casefold() in folded for part in parts)


CHECK = Contains
