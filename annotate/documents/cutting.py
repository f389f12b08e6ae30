"""A text → passages: by headings and paragraphs, no longer than a model reads a few of."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 1200  # characters of a passage, with its heading and overlap
OVERLAP = 200  # characters at most that a passage repeats of the one before
HEADING = re.compile(r"#{1,6}[ \t]+\S")
EMPTY_LINE = re.compile(r"\n[ \t]*\n+")
# Full stops of other scripts need no blank after them.
SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？؟।])\s*|\n")
LONGEST_HEADING = 200


def cut(text: str) -> Iterator[str]:
    """Yields passages of at most LONGEST characters in the order of the text. Each begins with the
    heading it stands under, and within a section with the last sentence of the one before."""
    heading = ""
    paragraphs: list[str] = []
    for block in EMPTY_LINE.split(text.replace("\r\n", "\n")):
        for part in _without_heading(block):
            if HEADING.match(part):
                yield from _passages(heading, paragraphs)
                heading, paragraphs = part[:LONGEST_HEADING].rstrip(), []
            elif part.strip():
                paragraphs.append(part.strip())
    yield from _passages(heading, paragraphs)


def _without_heading(block: str) -> Iterator[str]:
    """The heading lines of a block each by themselves, and what is between."""
    rest: list[str] = []
    for line in block.strip("\n").split("\n"):
        if HEADING.match(line):
            yield "\n".join(rest)
            rest = []
            yield line
        else:
            rest.append(line)
    yield "\n".join(rest)


def _passages(heading: str, paragraphs: list[str]) -> Iterator[str]:
    """Those of one section."""
    room = LONGEST - len(heading) - 1
    if heading and not paragraphs:
        yield heading
    passage = ""
    for piece in (piece for each in paragraphs for piece in _pieces(each, room - OVERLAP - 1)):
        joined = f"{passage}\n\n{piece}" if passage else piece
        if len(joined) <= room:
            passage = joined
            continue
        yield _under(heading, passage)
        overlap = _end_of(passage)
        passage = f"{overlap}\n{piece}" if overlap else piece
    if passage:
        yield _under(heading, passage)


def _under(heading: str, passage: str) -> str:
    return f"{heading}\n{passage}" if heading else passage


def _pieces(paragraph: str, most: int) -> Iterator[str]:
    """The paragraph whole, or else cut after sentences, or else wherever it must be."""
    if len(paragraph) <= most:
        yield paragraph
        return
    piece = ""
    for sentence in filter(None, SENTENCE.split(paragraph)):
        if len(piece) + 1 + len(sentence) <= most:
            piece = f"{piece} {sentence}" if piece else sentence
            continue
        if piece:
            yield piece
        while len(sentence) > most:
            at = sentence.rfind(" ", most // 2, most)
            at = most if at < 0 else at
            yield sentence[:at].rstrip()
            sentence = sentence[at:].lstrip()
        piece = sentence
    if piece:
        yield piece


def _end_of(passage: str) -> str:
    """Its last sentence, if that is short enough to be said twice."""
    last = [each for each in SENTENCE.split(passage) if each and each.strip()][-1].strip()
    return last if len(last) <= OVERLAP and last != passage else ""
