"""What an answer says with a citation stands in the passage that it cites."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .check import Check, CheckError

CITED = re.compile(r"\[((?:\d{1,3}\s*[,;]\s*)*\d{1,3})\]")
# A citation behind the full stop still belongs to the sentence.
SENTENCE = re.compile(r"[^\n]+?(?:[.!?。！？]+(?:\s*\[[\d,;\s]+\])*(?=\s|$)|$)", re.MULTILINE)
WORD = re.compile(r"\w+")
SHORTEST = 4  # letters of a word that counts; numbers count however short
SHARE = 0.6


class Supported(Check):
    name = "supported"
    setting = "0.6"
    rests_on = "passages of documents"
    meaning = (
        "each sentence that cites a passage as [1] has 60 % of its longer words and all of its "
        "numbers in common with what it cites, and there is such a sentence"
    )

    def __init__(self, setting: str = "") -> None:
        super().__init__(setting)
        try:
            self.share = float(setting or SHARE)
        except ValueError:
            self.share = 0.0
        if not 0 < self.share <= 1:
            raise CheckError(f"supported({setting}): write a share of words, from 0.1 to 1")

    def passes(self, completion: str, reference: str) -> bool:
        return False  # without passages nothing is supported

    def passes_with(
        self,
        completion: str,
        reference: str,
        passages: Sequence[str],
        before: Sequence[str],
    ) -> bool:
        cited = [(each, numbers) for each in _sentences(completion) if (numbers := _cited(each))]
        return bool(cited) and all(
            self._is_supported(sentence, numbers, passages) for sentence, numbers in cited
        )

    def _is_supported(self, sentence: str, numbers: list[int], passages: Sequence[str]) -> bool:
        if not all(0 < number <= len(passages) for number in numbers):
            return False
        there = {word for number in numbers for word in _words(passages[number - 1])}
        said = _words(CITED.sub(" ", sentence))
        counted = {word for word in said if len(word) >= SHORTEST}
        figures = {word for word in said if any(map(str.isdigit, word))}
        if not counted | figures or not figures <= there:
            return False
        return len(counted & there) >= self.share * len(counted)


def _sentences(text: str) -> list[str]:
    return SENTENCE.findall(text)


def _cited(sentence: str) -> list[int]:
    return [int(n) for group in CITED.findall(sentence) for n in re.findall(r"\d+", group)]


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))
