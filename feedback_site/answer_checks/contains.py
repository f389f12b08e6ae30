"""A text occurs in the answer, or does not."""

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


class Lacks(Check):
    name = "lacks"
    setting = "a|b"
    needs_setting = True
    meaning = "none of these occurs, in upper or lower case"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        self.texts = alternatives(setting)
        if not self.texts:
            raise CheckError(f"lacks({setting}) names no text: write lacks(a|b)")

    def passes(self, completion: str, reference: str) -> bool:
        return not contains_any(completion, self.texts)


def contains_any(text: str, parts: Iterable[str]) -> bool:
    """Tells whether one of the parts occurs in the text, in upper or lower case."""
    folded = text.casefold()
    return any(part.casefold() in folded for part in parts)
