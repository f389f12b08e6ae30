"""A text file line by line, whatever ends its lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from annotate.exchange.files.bad_row import BadRow

MAX_LINE_BYTES = 4 * 2**20
QUOTED = re.compile(rb'"[^"]*"?')


def lines_of(file: BinaryIO, *, blank: bool = False) -> Iterator[tuple[int, str | BadRow]]:
    """The lines, each a text or what is wrong with it; the `blank` ones too, if asked for."""
    for number, line in enumerate(_split(file), start=1):
        if len(line) > MAX_LINE_BYTES:
            yield (
                number,
                BadRow(
                    f"Longer than {MAX_LINE_BYTES // 2**20} MB. Is each object on a"
                    f" line of its own?"
                ),
            )
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            sentence = (
                f"Not UTF-8 (byte {error.start + 1}). Choose the encoding, or save it as UTF-8."
            )
            yield number, BadRow(sentence)
            continue
        if blank or text.strip():
            yield number, text


def _split(file: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends; of one that is too long, the beginning."""
    if _ends_lines_by_cr(file):
        yield from _split_at_cr(file)
        return
    while line := file.readline(MAX_LINE_BYTES + 1):
        rest = line
        while len(rest) > MAX_LINE_BYTES or (len(line) > MAX_LINE_BYTES and rest):
            if rest.endswith(b"\n"):
                break
            rest = file.readline(MAX_LINE_BYTES)
        yield line


def _ends_lines_by_cr(file: BinaryIO) -> bool:
    """As old Macs did."""
    start = file.tell()
    text = QUOTED.sub(b"", file.read(2**16))
    file.seek(start)
    return b"\r" in text and b"\n" not in text


def _split_at_cr(file: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while chunk := file.read(2**16):
        *lines, rest = (rest + chunk).split(b"\r")
        yield from (line + b"\r" for line in lines)
        rest = rest[: MAX_LINE_BYTES + 1]
    if rest:
        yield rest
