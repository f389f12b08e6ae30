"""The answer chooses the right one of several."""

from __future__ import annotations

import re

from .check import CheckError, ReferenceCheck, alternatives


class Choice(ReferenceCheck):
    name = "choice"
    setting = "A|B|C|D"
    needs_setting = True
    meaning = "the last of these words that the answer names is the reference"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        self.options = alternatives(setting)
        if len(set(self.options)) < 2:
            raise CheckError(f"choice({setting}): name two or more, e.g. choice(A|B|C|D)")
        longest_first = sorted(self.options, key=len, reverse=True)
        words = "|".join(re.escape(option) for option in longest_first)
        # Of letters the case tells: "a" is an article, "A" an answer.
        flags = 0 if all(len(option) == 1 for option in self.options) else re.IGNORECASE
        self.words = re.compile(rf"(?<!\w)(?:{words})(?!\w)", flags)

    def passes(self, completion: str, reference: str) -> bool:
        named, right = self.words.findall(completion), self.words.findall(reference)
        return bool(named and right) and named[-1].casefold() == right[-1].casefold()
