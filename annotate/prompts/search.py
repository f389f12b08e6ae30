"""What people search for → the prompts that contain it, in any script.

A prompt contains a term if its folded texts do, letter by letter: there are no words to cut at in
Chinese or Thai, no stop words, and `C++` or `path.join` is what it says. An index of all pieces of
three letters says which prompts may contain one. It needs no extension of PostgreSQL and does not
depend on the locale of the server.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.contrib.postgres.search import SearchQuery
from django.db.backends.utils import CursorWrapper
from django.db.models import Q

GRAM = 3
INDEXED = 80_000  # letters: more could be too much for a tsvector, and no prompt is as long
BATCH = 2000
TERM = re.compile(r'(?P<without>-(?=["\w]))?(?:"(?P<phrase>[^"]*)"?|(?P<word>\S+))')
QUOTES = str.maketrans("“”„‟«»", '""""""')
# What has no parts in Unicode, and is typed otherwise.
LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "‘": "'", "’": "'", "ʼ": "'"}
)
UNSEEN = ("Cc", "Cf", "Cs")  # joiners, direction marks, and what no text of PostgreSQL contains


def fold(text: str) -> str:
    """Without capitals, accents, vowel points, joiners and differences of width (Unicode NFKD, case
    folding); one blank between words. Marks that make another letter, as in Thai, Hindi and kana,
    stay."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        bare = "".join(each for each in parts if not _is_accent(each)).casefold()
        text = unicodedata.normalize("NFC", bare.translate(LETTERS).translate(QUOTES))
    if not text.isprintable():
        text = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in UNSEEN)
    return " ".join(text.casefold().split())


def _is_accent(character: str) -> bool:
    """By canonical combining class: 10 to 35 are the points of Hebrew, Arabic and Syriac, from 200
    on stand the marks above and below letters of Latin, Greek and Cyrillic."""
    place = unicodedata.combining(character)
    return 10 <= place <= 35 or place >= 200 or character == "ـ"


def folded_texts(messages: Iterable[dict[str, str]]) -> str:
    """What is searched of a conversation: every message, one a line."""
    return "\n".join(fold(each["content"]) for each in messages)


def grams(folded: str) -> str:
    """The index entry of folded text, as a tsvector: at each letter of a word, what starts there,
    three letters long or up to the word's end."""
    words = set(folded[:INDEXED].split())
    found = {word[at : at + GRAM] for word in words for at in range(len(word))}
    return " ".join(map(_quoted, found))


def _quoted(gram: str) -> str:
    return "'" + gram.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass(frozen=True)
class Term:
    """Something that prompts contain, or that they do not; its text is folded."""

    text: str
    without: bool = False

    def condition(self, *, is_indexed: bool = True) -> Q:
        contains = Q(folded__contains=self.text)
        if self.without:
            return ~contains
        return Q(search=GramQuery(index_query(self.text))) & contains if is_indexed else contains


class GramQuery(SearchQuery):
    """A tsquery as it is written, which no dictionary reads."""

    template = "(%(expressions)s)::tsquery"


def index_query(text: str) -> str:
    """What the index must have for `text`: all its pieces of three letters. If it has none, the
    start of such a piece, of its longest word."""
    words = text.split()
    whole = {word[at : at + GRAM] for word in words for at in range(len(word) - GRAM + 1)}
    if whole:
        return " & ".join(map(_quoted, sorted(whole)))
    return _quoted(max(words, key=len)) + ":*"


def alternatives(words: str) -> list[list[Term]]:
    """The search as it was typed: prompts have all terms of one list.

    A term is a word or "a phrase"; a minus before it turns it round; OR between terms begins
    another list. Terms of which folding leaves nothing are left out, and empty lists too."""
    found: list[list[Term]] = [[]]
    for without, text in _terms(words):
        if text is None:
            found.append([])
        elif folded := fold(text):
            found[-1].append(Term(folded, without))
    return [terms for terms in found if terms]


def _terms(words: str) -> Iterator[tuple[bool, str | None]]:
    """(is without, text) of each; the text is None for OR."""
    for match in TERM.finditer(words.translate(QUOTES)):
        text = match["word"] if match["phrase"] is None else match["phrase"]
        yield bool(match["without"]), None if match["word"] == "OR" else text


def condition(words: str, *, is_indexed: bool = True) -> Q:
    """What prompts must meet to be found; nothing, if there is nothing to search for. Of rows that
    are few, `folded` is all there has to be, and no index."""
    found = Q()
    for terms in alternatives(words):
        together = Q()
        for term in terms:
            together &= term.condition(is_indexed=is_indexed)
        found |= together
    return found


def index_prompts(cursor: CursorWrapper) -> None:
    """Indexes the prompts that were stored without: by an earlier version, or by SQL."""
    last = 0
    while True:
        cursor.execute(
            "SELECT id, messages FROM annotate_prompt WHERE folded = '' AND id > %s "
            f"ORDER BY id LIMIT {BATCH}",
            [last],
        )
        rows = [(pk, folded_texts(json.loads(messages))) for pk, messages in cursor.fetchall()]
        if not rows:
            return
        ids, texts = zip(*rows, strict=True)
        cursor.execute(
            "UPDATE annotate_prompt SET folded = new.folded, search = new.search "
            "FROM unnest(%s::bigint[], %s::text[], %s::tsvector[]) AS new (id, folded, search) "
            "WHERE annotate_prompt.id = new.id",
            [list(ids), list(texts), [grams(each) for each in texts]],
        )
        last = ids[-1]
