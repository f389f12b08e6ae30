"""Files -> the rows a run learns from: one JSON object a line, read strictly, the line named on
error."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .records import DataError, Demonstration, Document, Message, Prompt, Ranking, Thumb

CUT_OFF = ("length", "stopped", "failed")  # what ends an answer before its own end
# Templates make control tokens of roles: one that they do not know could spell any.
ROLES = ("system", "developer", "user", "assistant", "tool")
# JSON writes one as an escape: in UTF-8 it cannot stand.
HALF_A_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
Row = TypeVar("Row")


def read_prompts(path: Path) -> list[Prompt]:
    return _read(path, _prompt)


def read_demonstrations(path: Path) -> list[Demonstration]:
    return _read(path, _demonstration)


def read_rankings(path: Path) -> list[Ranking]:
    """Rankings, and pairs `{prompt, chosen, rejected, margin?}` as rankings of two."""
    return _read(path, _ranking)


def read_thumbs(path: Path) -> list[Thumb]:
    return _read(path, _thumb)


def read_documents(path: Path) -> list[Document]:
    return _read(path, _document)


def each_row(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, row) of a file whatever the shape of its rows; a row that cannot be learnt from is the
    DataError that says why."""
    yield from _each(path, _by_shape)


def _by_shape(row: dict[str, Any], number: int) -> Any:
    if "text" in row:
        return _document(row, number)
    if "label" in row:
        return _thumb(row, number)
    if "chosen" in row or "completions" in row:
        return _ranking(row, number)
    return _demonstration(row, number) if "completion" in row else _prompt(row, number)


def _each(
    path: Path, parse: Callable[[dict[str, Any], int], Row]
) -> Iterator[tuple[int, Row | DataError]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        for number, written in enumerate(file, 1):
            if not written.strip():
                continue
            row: Any = None
            try:
                line = _text(written, "utf-8-sig" if number == 1 else "utf-8")
                row = json.loads(line, parse_constant=_no_number, parse_float=_finite)
                if not isinstance(row, dict):
                    raise DataError("not a JSON object")
                if HALF_A_CHARACTER.search(line):
                    _check_characters(row)
                yield number, parse(row, number)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
                too_deep = "lists in lists, or objects in objects, a thousand deep"
                refused = DataError(too_deep if isinstance(error, RecursionError) else reason)
                refused.row = str(row.get("id", "")) if isinstance(row, dict) else ""
                yield number, refused


def _read(path: Path, parse: Callable[[dict[str, Any], int], Row]) -> list[Row]:
    rows = []
    for number, row in _each(path, parse):
        if isinstance(row, DataError):
            raise DataError(f"{path.name}, line {number}: {row}") from row
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: empty")
    return rows


def _text(line: bytes, encoding: str) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise DataError(
            f"the file is not UTF-8 (byte 0x{byte:02x} at {error.start}): save it as UTF-8"
        ) from error


def _check_characters(row: dict[str, Any]) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise DataError(
            f"a text holds half a character ({half}), as a cut in the middle of an emoji leaves it"
        ) from error


def _no_number(name: str) -> float:
    raise DataError(f"{name} is no number to learn from")


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise DataError(f"{value} is no number to learn from")
    return number


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise DataError("messages must be a list with at least one message")
    for message in value:
        if not isinstance(message, dict) or not all(
            isinstance(message.get(name), str) for name in ("role", "content")
        ):
            raise DataError("a message must be an object with the texts 'role' and 'content'")
        if message["role"] not in ROLES:
            raise DataError(f"role must be one of {', '.join(ROLES)}, not {message['role']!r}")
    return tuple({"role": each["role"], "content": each["content"]} for each in value)


def _prompt(row: dict[str, Any], number: int) -> Prompt:
    reference = row.get("reference") or ""
    if not isinstance(reference, str):
        raise DataError("reference must be a text")
    reads = row.get("reads") or {}
    if not isinstance(reads, dict) or not all(isinstance(each, str) for each in reads.values()):
        raise DataError("reads must be a text for each policy that reads something")
    then = row.get("then") or []
    if not isinstance(then, list) or not all(isinstance(each, str) for each in then):
        raise DataError("then must be a list of texts")
    messages = _messages(row["prompt"])
    return Prompt(str(row.get("id", number)), messages, reference, reads, tuple(then))


def _demonstration(row: dict[str, Any], number: int) -> Demonstration:
    text = _answer(row["completion"], "completion")
    if not text.strip():
        raise DataError("completion is empty: whoever learns from it learns to say nothing")
    return Demonstration(_prompt(row, number), text)


def _thumb(row: dict[str, Any], number: int) -> Thumb:
    if not isinstance(row["label"], bool):
        raise DataError("label must be true or false")
    text, finished = _answer(row["completion"], "completion"), _finished(row, 1)
    _check_learnable([text], finished)
    weight = _finite(row.get("weight", 1.0))
    if not 0 < weight <= 1:
        raise DataError("weight must be above 0, and 1 at most")
    return Thumb(_prompt(row, number), text, row["label"], all(finished), weight)


def _finished(row: dict[str, Any], count: int) -> tuple[bool, ...]:
    """Which answers came to an end of their own; () where the row does not say: all of them.

    One that was cut off is encoded without EOS, or it would teach to stop in mid-sentence."""
    finished = tuple(reason not in CUT_OFF for reason in row.get("finish_reasons") or ())
    _one_each("finish_reasons", finished, count)
    return finished


def _one_each(name: str, values: Sequence[Any], count: int) -> None:
    if values and len(values) != count:
        raise DataError(f"{count} completions but {len(values)} {name}")


def _document(row: dict[str, Any], number: int) -> Document:
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise DataError("text must be a text that is not empty")
    return Document(str(row.get("id", number)), row["text"])


def _answer(value: Any, name: str) -> str:
    """The text of an answer, which is a list with one message, or the text itself."""
    messages = _messages([{"role": "assistant", "content": value}] if type(value) is str else value)
    if len(messages) != 1:
        raise DataError(f"{name} must be one message")
    return messages[0]["content"]


def _check_learnable(completions: Sequence[str], finished: Sequence[bool]) -> None:
    """A judged answer may be empty, whatever the shape of its row: that a model said nothing is
    worth knowing, and the end of its turn is what is learnt. One that was cut off before its first
    word has no token at all."""
    for text, ended in zip(completions, finished or [True] * len(completions), strict=True):
        if not text.strip() and not ended:
            raise DataError("an answer is empty and was cut off: there is nothing to learn in it")


def _ranking(row: dict[str, Any], number: int) -> Ranking:
    if "chosen" in row:
        pair = [_answer(row[name], name) for name in ("chosen", "rejected")]
        row = {"strength": row.get("margin"), **row, "completions": pair, "ranks": [1, 2]}
    completions, ranks = row["completions"], row["ranks"]
    if not all(isinstance(text, str) for text in completions) or len(completions) < 2:
        raise DataError("completions must be two or more texts")
    if len(ranks) != len(completions):
        raise DataError(f"{len(completions)} completions but {len(ranks)} ranks")
    finished = _finished(row, len(completions))
    _check_learnable(completions, finished)
    policies = tuple(str(each) for each in row.get("policies") or ())
    _one_each("policies", policies, len(completions))
    reliability = _finite(row.get("reliability", 1.0))
    if not reliability >= 0:
        raise DataError("reliability must be at least 0")
    return Ranking(
        _prompt(row, number),
        tuple(completions),
        tuple(_finite(rank) for rank in ranks),
        _finite(row.get("strength") or 0.0),
        str(row.get("labeler") or ""),
        finished,
        policies,
        reliability,
    )
