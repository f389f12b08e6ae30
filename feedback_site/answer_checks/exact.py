"""The answer is the reference: in words, nearly, by meaning; or nearer to one text than another."""

from __future__ import annotations

import re
from collections import Counter

from .check import Check, CheckError, ReferenceCheck, alternatives

WORD = re.compile(r"\w+")


class Exact(ReferenceCheck):
    name = "exact"
    meaning = "the answer is the reference, apart from capitals and blanks"

    def passes(self, completion: str, reference: str) -> bool:
        one, other = (" ".join(text.split()).casefold() for text in (completion, reference))
        return one == other


class Similar(ReferenceCheck):
    name = "similar"
    setting = "0.5"
    meaning = (
        "as many words in common with the reference: token F1 of at least the setting; without a"
        " setting the score is the F1"
    )

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        try:
            self.least = float(setting) if setting.strip() else None
        except ValueError:
            self.least = -1.0
        if self.least is not None and not 0 < self.least <= 1:
            raise CheckError(f"similar({setting}): write a share above 0, e.g. similar(0.5)")

    def passes(self, completion: str, reference: str) -> bool | float:
        share = token_f1(completion, reference)
        return share if self.least is None else share >= self.least


class Means(ReferenceCheck):
    name = "means"
    setting = "0.8"
    rests_on = "the embedding model of a project"
    asks_a_model = True
    meaning = (
        "means the same as the reference: the cosine of their vectors, by the embedding model"
        " chosen on Documents, is at least the setting; without a setting the score is the cosine"
    )

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        try:
            self.least = float(setting) if setting.strip() else None
        except ValueError:
            self.least = -1.0
        if self.least is not None and not 0 < self.least <= 1:
            raise CheckError(f"means({setting}): write a cosine above 0, e.g. means(0.8)")

    def passes(self, completion: str, reference: str) -> bool:
        return False  # without vectors nothing passes

    def score_of(self, cosine: float) -> float:
        """How well an answer passes whose vector has this cosine, -1 to 1, with the reference's."""
        return max(0.0, min(1.0, cosine)) if self.least is None else float(cosine >= self.least)


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


def token_f1(one: str, other: str) -> float:
    """The harmonic mean of precision and recall of words, repeated ones counted as often as they
    stand in both (Rajpurkar et al. 2016, arXiv 1606.05250); 0 to 1, without a word on both sides
    1."""
    ours, theirs = (Counter(WORD.findall(text.casefold())) for text in (one, other))
    total = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / total if total else 1.0
