"""The answer is more like one text than like another."""

from __future__ import annotations

from .check import Check, CheckError, alternatives
from .exact import token_f1


class Nearer(Check):
    name = "nearer"
    setting = "good|bad"
    needs_setting = True
    meaning = "more words in common with the first text than with the second: the higher token F1"

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        texts = alternatives(setting)
        if len(texts) != 2:
            raise CheckError(f"nearer({setting}) needs two texts: write nearer(good|bad)")
        self.good, self.bad = texts

    def passes(self, completion: str, reference: str) -> bool:
        return token_f1(completion, self.good) > token_f1(completion, self.bad)
