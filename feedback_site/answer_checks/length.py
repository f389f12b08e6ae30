"""The answer has so many words."""

from __future__ import annotations

import re

from .check import Check, CheckError

BOUNDS = re.compile(r"\s*([0-9]{1,6})\s*-\s*([0-9]{1,6})\s*")


class Length(Check):
    name = "length"
    setting = "5-200"
    needs_setting = True
    meaning = "a number of words in this range"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        bounds = BOUNDS.fullmatch(setting)
        least, most = (int(each) for each in bounds.groups()) if bounds else (1, 0)
        if least > most:
            raise CheckError(
                f"length({setting}): write the fewest and the most words, e.g. length(5-200)"
            )
        self.least, self.most = least, most

    def passes(self, completion: str, reference: str) -> bool:
        return self.least <= len(completion.split()) <= self.most
