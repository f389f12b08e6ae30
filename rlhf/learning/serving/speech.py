"""The text of an answer while its tokens come: whole characters, up to the first stop text."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.learning.models.render import Renderer

HALF = "\ufffd"  # what is decoded of a character whose other bytes are still to come


class Speech:
    """Lets through what can be shown by now. The pieces together are `Renderer.text` of the ids,
    cut before the first of `stops`; of a text that `is_raw`, `Renderer.visible`."""

    def __init__(
        self, render: Renderer, stops: Sequence[str] = (), *, is_raw: bool = False
    ) -> None:
        self.render, self.stops = render, [stop for stop in stops if stop]
        self.lead, self.closing = ("", "") if is_raw else render.around
        self.is_over = False  # a stop text has come
        self._ids: list[int] = []
        self._from = self._read = 0  # ids before `_read` are shown; decoding begins at `_from`
        self._held = ""

    def add(self, token: int) -> str:
        """What one token more lets through."""
        self._ids.append(token)
        before = self.render.visible(self._ids[self._from : self._read])
        text = self.render.visible(self._ids[self._from :])
        if len(text) <= len(before) or text.endswith(HALF):
            return ""
        # A tokenizer may write the first of some tokens without its blank: one decodes with some
        # that went before.
        self._from, self._read = self._read, len(self._ids)
        return self._through(text[len(before) :])

    def rest(self, *, is_finished: bool) -> str:
        """What was held back. `is_finished`: the model has ended its turn, and what its template
        writes after the text is none of it."""
        before = self.render.visible(self._ids[self._from : self._read])
        text = self._through(self.render.visible(self._ids[self._from :])[len(before) :])
        held, self._held = self._held.removeprefix(self.lead), ""
        return text + (held.removesuffix(self.closing) if is_finished else held)

    def _through(self, piece: str) -> str:
        if self.is_over:
            return ""
        text, self._held = self._held + piece, ""
        if self.lead:
            if self.lead.startswith(text):
                self._held = text
                return ""
            text, self.lead = text.removeprefix(self.lead), ""
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            self.is_over = True
            return text[: min(found)]
        begun = max(
            _begun(text, self.closing, len(self.closing)),
            *(_begun(text, stop, len(stop) - 1) for stop in self.stops),
            0,
        )
        self._held = text[len(text) - begun :]
        return text[: len(text) - begun]


def _begun(text: str, whole: str, longest: int) -> int:
    """How many characters at the end of the text begin `whole`; `longest` at most."""
    return next((n for n in range(min(longest, len(text)), 0, -1) if text.endswith(whole[:n])), 0)
