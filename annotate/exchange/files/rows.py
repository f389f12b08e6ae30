"""The rows of a file that a stranger may have written: unpacked here, and read in a child."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from annotate.exchange.files import sandbox
from annotate.exchange.files.bad_row import BadRow, Note, Unreadable
from annotate.exchange.files.opening import prepared

MOST_HEADERS = 1000


def rows_in(
    file: BinaryIO, format: str, *, encoding: str = "", key: str = ""
) -> Iterator[tuple[int, Any]]:
    """(number, row, or BadRow, or a Note on the file). Texts alone are prompts, in a file
    that begins with one. The names of columns can be shown and stored. `encoding` is that of a text
    in neither UTF-8 nor UTF-16; for `key` see `json_rows`."""
    fine: set[tuple[str, ...]] = set()
    are_texts = None
    try:
        with prepared(file, format, encoding) as text:
            for number, row in sandbox.rows(text, format, key):
                if are_texts is None and not isinstance(row, Note):
                    are_texts = type(row) is str
                if are_texts and type(row) is str:
                    row = {"prompt": row}
                if isinstance(row, dict) and (names := tuple(row)) not in fine:
                    if "\0" in "".join(names):
                        row = BadRow("The name of a column contains a NUL character. Remove it.")
                    elif len(fine) < MOST_HEADERS:
                        fine.add(names)
                yield number, row
    except Unreadable as error:
        yield 1, error
