"""Files → the texts of documents. A child process takes HTML and PDF to pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from django.core.exceptions import ValidationError

from annotate.exchange.files import sandbox
from annotate.exchange.files.bad_row import BadRow

LONGEST = 1_000_000  # characters
LARGEST = 50 * 2**20  # bytes of a file that is read as a whole
TOO_MUCH = "Reading it takes too much memory or time. Save it as plain text."
NO_TEXT = "There is no text in it. If it was scanned, recognise its text first (OCR)."
TAKEN_APART = {".pdf": "pdf", ".html": "html", ".htm": "html", ".xhtml": "html"}


def texts_in(file: BinaryIO, *, name: str) -> Iterator[str]:
    """Yields, of JSON Lines, the `text` of each; of any other file, the whole: plain text and
    Markdown as they are, HTML and PDF as text. Raises ValidationError with the number of the
    line."""
    ending = name.lower()[name.rfind(".") :] if "." in name else ""
    if ending in (".jsonl", ".json"):
        yield from _lines_of(file)
    elif ending in TAKEN_APART:
        yield _checked(_taken_apart(file, TAKEN_APART[ending], where=name), where=name)
    else:
        yield _checked(_decoded(file.read(LARGEST + 1), where=name), where=name)


def _lines_of(file: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"Line {number}"
        try:
            row = json.loads(_decoded(line, where=where))
        except ValueError:
            raise ValidationError(f"{where}: not valid JSON. Nothing was imported.") from None
        text = row.get("text") if isinstance(row, dict) else None
        yield _checked(text if isinstance(text, str) else "", where=where)


def _taken_apart(file: BinaryIO, format: str, *, where: str) -> str:
    """The text of all pages. Raises ValidationError for what cannot be read."""
    pages, length = [], 0
    for _, page in sandbox.rows(file, format):
        if isinstance(page, BadRow):
            raise ValidationError(f"{where}: {_why(page)} Nothing was imported.")
        pages.append(page["text"].strip())
        length += len(pages[-1])
        if length > LONGEST:
            break
    text = "\n\n".join(filter(None, pages))
    if not text:
        raise ValidationError(f"{where}: {NO_TEXT} Nothing was imported.")
    return text


def _why(unreadable: BadRow) -> str:
    """The sandbox's own sentence is about tables."""
    is_too_much = str(unreadable).startswith(sandbox.TOO_MUCH.split("{")[0])
    return TOO_MUCH if is_too_much else str(unreadable)


def _decoded(content: bytes, *, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValidationError(f"{where}: not UTF-8. Nothing was imported.") from None


def _checked(text: str, *, where: str) -> str:
    if not text.strip() or "\x00" in text or len(text) > LONGEST:
        raise ValidationError(
            f'{where}: it needs a "text" of at most {LONGEST:,} characters. Nothing was imported.'
        )
    return text
