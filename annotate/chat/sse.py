"""Server-sent events as model servers write them: the WHATWG format, and the ways they stray."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

DONE = "[DONE]"
LONGEST_LINE = 2**20  # bytes
# A CR at the end of a block may be the first half of a CRLF.
LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
RAW_BYTES = re.compile("[\udc80-\udcff]+")
# What may be the beginning of a character: a high surrogate, or bytes of UTF-8.
BEGUN = re.compile("(?:[\ud800-\udbff]|[\udcc2-\udcf4][\udc80-\udcbf]{0,2})\\Z")


async def events(blocks: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    """The JSON of each event's data, or DONE. Bytes that are not UTF-8 become surrogates, as
    `surrogateescape` has it, for TextPieces to put together.

    An event is over as soon as its data are complete, as not every server leaves an empty line
    behind it. Raises ValueError for data that are no JSON."""
    data: list[str] = []
    async for line in _lines(blocks):
        name, _, value = line.partition(":")
        if line and name != "data":
            continue
        if line:
            data.append(value.removeprefix(" "))
        said = "\n".join(data).strip()
        if said == DONE:
            yield DONE
            data = []
        elif said:
            try:
                event = json.loads(said)
            except ValueError:
                if not line:
                    raise
                continue
            yield event
            data = []


async def _lines(blocks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    rest, mark = b"", "\ufeff"
    async for block in blocks:
        *lines, rest = LINE_END.split(rest + block)
        if len(rest) > LONGEST_LINE:
            raise ValueError("a line without end")
        for line in lines:
            yield line.decode("utf-8", "surrogateescape").removeprefix(mark)
            mark = ""
    yield rest.rstrip(b"\r").decode("utf-8", "surrogateescape").removeprefix(mark)


class TextPieces:
    """Puts the pieces of a text together, where a character may be cut between two of them."""

    def __init__(self) -> None:
        self.begun = ""

    def add(self, piece: str) -> str:
        """What is whole by now; the beginning of a character waits for its end."""
        text = _with_pairs_joined(self.begun + piece)
        cut = BEGUN.search(text)
        whole, self.begun = (text[: cut.start()], cut[0]) if cut else (text, "")
        return clean(whole)

    def rest(self) -> str:
        """What was begun and is not going to be finished."""
        text, self.begun = clean(self.begun), ""
        return text


def clean(text: str) -> str:
    """What PostgreSQL can store: no NUL, no half characters."""
    text = RAW_BYTES.sub(
        lambda raw: raw[0].encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        _with_pairs_joined(text),
    )
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _with_pairs_joined(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
