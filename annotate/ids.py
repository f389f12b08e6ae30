"""Ids as a browser sends them: whatever somebody wrote into an address or a form."""

from __future__ import annotations

LONGEST = 18  # digits: all of these fit into a column of the database


def id_in(text: str | None) -> int | None:
    """The number that the text is; None for what no row can have as its id."""
    if not text or not text.isascii() or not text.isdigit() or len(text) > LONGEST:
        return None
    return int(text)
