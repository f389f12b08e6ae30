"""The answer is the reference, word for word."""

from __future__ import annotations

from .check import ReferenceCheck


class Exact(ReferenceCheck):
    name = "exact"
    meaning = "the answer is the reference, apart from capitals and blanks"

    def passes(self, completion: str, reference: str) -> bool:
        one, other = (" ".join(text.split()).casefold() for text in (completion, reference))
        return one == other


CHECK = Exact
