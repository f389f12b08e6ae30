"""What changed between two texts, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

LONGEST_BY_WORDS = 20_000


def changes(before: str, after: str) -> list[tuple[str, str]]:
    """The texts in pieces: ("same" | "gone" | "new", piece). Without the new pieces they join to
    `before`, without the gone ones to `after`. Long texts are compared by lines, to stay quick."""
    is_long = max(len(before), len(after)) > LONGEST_BY_WORDS
    old, new = (
        text.splitlines(keepends=True) if is_long else re.findall(r"\w+|\s+|[^\w\s]", text)
        for text in (before, after)
    )
    pieces = []
    for act, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if act == "equal":
            pieces.append(("same", "".join(old[a:b])))
            continue
        pieces += [("gone", "".join(old[a:b]))] if b > a else []
        pieces += [("new", "".join(new[c:d]))] if d > c else []
    return pieces
