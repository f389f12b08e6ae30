"""The answer is made of words, in sentences.

Three measures, each where there is enough text for it: letters stand in pairs that words have;
long stretches of words contain frequent ones, as sentences of every language do (Zipf 1935); no
word is repeated on and on."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from .check import Check
from .languages import FREQUENT

# After each letter those that follow it in 95 of 100 places of English words, counted over some
# four thousand of them. Random letters stand so in 35 of 100 places.
FOLLOWS = {
    "a": "bcdgiklmnprstuvy", "b": "aeilorsuy", "c": "acehiklortu", "d": "adeilorsu",
    "e": "acdefgilmnpqrstvwx", "f": "aefiloru", "g": "aehinorsu", "h": "aeiot",
    "i": "abcdefglmnoprstvz", "j": "aeou", "k": "eis", "l": "adeilostuy", "m": "abeimopu",
    "n": "acdeginostuv", "o": "abcdgiklmnoprstuvw", "p": "aeiloprstu", "q": "u",
    "r": "acdegimnorstuvy", "s": "acehiklopstuy", "t": "acehilorstuy", "u": "abcdegilmnprst",
    "v": "aeio", "w": "aehior", "x": "ipt", "y": "ept", "z": "e",
}  # fmt: skip
FEWEST_PAIRS, LIKELY_PAIRS = 8, 0.65
RUN, FEWEST_FREQUENT = 8, 0.12  # words without a stop between them, and the share in such runs
REPEATED_FROM, MOST_OF_ONE, FEWEST_DISTINCT = 6, 0.5, 0.15
WORD = re.compile(r"[^\W\d_]+")
SHORT = "a an in on at by from as or but not it its be was has have can will they we he she my your"
FREQUENT_ANYWHERE = {word for words in (*FREQUENT.values(), SHORT) for word in words.split()}


class Readable(Check):
    name = "readable"
    meaning = "words and sentences instead of gibberish"

    def passes(self, completion: str, reference: str) -> bool:
        return is_readable(completion)


def is_readable(text: str) -> bool:
    """Tells words from gibberish. Scripts other than Latin are taken for words; so are numbers."""
    if not any(character.isalnum() for character in text):
        return False
    words = WORD.findall(text.casefold())
    return _has_likely_pairs(words) and _has_frequent_words(text) and _has_different(words)


def _has_likely_pairs(words: list[str]) -> bool:
    plain = (_without_accents(word) for word in words)
    pairs = [
        (one, other)
        for word in plain
        for one, other in zip(word, word[1:], strict=False)
        if one in FOLLOWS and other in FOLLOWS
    ]
    if len(pairs) < FEWEST_PAIRS:
        return True
    return sum(other in FOLLOWS[one] for one, other in pairs) >= LIKELY_PAIRS * len(pairs)


def _without_accents(word: str) -> str:
    parts = unicodedata.normalize("NFKD", word)
    return "".join(each for each in parts if not unicodedata.combining(each))


def _has_frequent_words(text: str) -> bool:
    """Lists, tables and JSON have stops between their words, and are not asked."""
    runs = (WORD.findall(run) for run in re.split(r"[^\w\s'’-]+|\n", text.casefold()))
    words = [word for run in runs if len(run) >= RUN for word in run if word.isascii()]
    if len(words) < RUN:
        return True
    return sum(word in FREQUENT_ANYWHERE for word in words) >= FEWEST_FREQUENT * len(words)


def _has_different(words: list[str]) -> bool:
    if len(words) < REPEATED_FROM:
        return True
    counts = Counter(words)
    is_varied = len(counts) >= FEWEST_DISTINCT * len(words) or len(counts) > 100
    return is_varied and counts.most_common(1)[0][1] <= MOST_OF_ONE * len(words)
