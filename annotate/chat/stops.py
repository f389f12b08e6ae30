"""Ends an answer at a text that its asker named. Not every model server does, and some leave the
text at the end of the answer."""

from __future__ import annotations

from collections.abc import Iterable


class UntilStop:
    """Lets an answer through, piece by piece, up to the first of the stop texts in it."""

    def __init__(self, stops: Iterable[str] = ()) -> None:
        self.stops = tuple(filter(None, stops))
        self.is_over = False
        self.held = ""

    def add(self, piece: str) -> str:
        """What can be shown by now: what may be the beginning of a stop text waits."""
        if self.is_over:
            return ""
        text = self.held + piece
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            self.is_over, self.held = True, ""
            return text[: min(found)]
        begun = max((_begun(text, stop) for stop in self.stops), default=0)
        shown, self.held = text[: len(text) - begun], text[len(text) - begun :]
        return shown

    def rest(self) -> str:
        """What was held back and turned out to be no stop text."""
        text, self.held = self.held, ""
        return text


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of the stop text."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
