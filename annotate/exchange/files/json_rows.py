"""JSON as people have it: an object a line, one list of objects, several, lists and then lines, or
one object wrapped round the list; with no more of it in memory than a piece."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO, NoReturn

from annotate.exchange.files.bad_row import BadRow, Note, Unreadable
from annotate.exchange.files.lines import MAX_LINE_BYTES, lines_of

CHUNK_CHARACTERS = 2**18
MEGABYTES = MAX_LINE_BYTES // 2**20
BLANKS = re.compile(r"[ \t\r\n]*")
SUSPECT = re.compile(r"NaN|Infinity|\\u(?:0000|[dD][89a-fA-F])")
# Of a row; an object without any of them that holds a list of objects is wrapped round rows.
OF_ROWS = {
    *("prompt", "messages", "conversations", "conversation", "completion", "completions", "chosen"),
    *(
        "rejected",
        "instruction",
        "input",
        "question",
        "annotations",
        "fields",
        "context",
        "history",
    ),
    *("message_tree_id", "conversation_a", "response", "text", "responses"),
}


def json_rows(file: BinaryIO, key: str = "") -> Iterator[tuple[int, Any]]:
    """(line, row or what is wrong with it). `key` is where the rows stand in an object that is
    wrapped round them, if there are several such places."""
    if _is_a_line_each(file, key):
        for number, line in lines_of(file):
            row = line if isinstance(line, BadRow) else _of_line(line)
            if isinstance(row, list) and row and all(isinstance(each, dict) for each in row):
                yield from ((number, each) for each in row)
            else:
                yield number, row
    else:
        yield from _Stream(file, key).rows()


def _is_a_line_each(file: BinaryIO, key: str) -> bool:
    first, second = (*(line for _, line in islice(lines_of(file), 2)), "", "")[:2]
    file.seek(0)
    start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    file.seek(0)
    if start == b"[":
        return False
    if isinstance(first, BadRow):
        return start != b"{" or bool(second)
    first = first.strip()
    row = _of_line(first)
    if isinstance(row, dict):
        return bool(second) or not _holds_rows(row, key)
    return not first.startswith("{") or first[-1:] not in ("{", "[", ",", ":")


def _holds_rows(row: dict[str, Any], key: str) -> list[str]:
    """The names under which an object that is no row itself holds rows."""
    if OF_ROWS & row.keys() and not key:
        return []
    lists = [name for name, value in row.items() if isinstance(value, list) and value]
    found = [name for name in lists if all(map(_may_be_row, row[name]))]
    return [name for name in found if not key or name == key]


def _may_be_row(value: Any) -> bool:
    return isinstance(value, dict) and not {"role", "from"} & value.keys()


def _of_line(line: str) -> Any:
    try:
        return value_of(line)
    except BadRow as error:
        return error
    except RecursionError:
        return BadRow("Nested too deeply.")
    except json.JSONDecodeError as error:
        return BadRow(f"Not valid JSON: {error.msg} at column {error.colno}.")
    except ValueError as error:
        return BadRow(f"Not valid JSON: {error}.")


def value_of(text: str) -> Any:
    """The value of a JSON text, be it a line or in a cell. Raises BadRow where it holds what JSON
    does not know, or no database can; ValueError or RecursionError where it is no JSON."""
    return _checked(json.loads(text), text)


def _checked(value: Any, text: str) -> Any:
    if not SUSPECT.search(text):
        return value
    json.loads(text, parse_constant=_refuse_constant)
    written = json.dumps(value, ensure_ascii=False)
    if "\\u0000" in written.replace("\\\\", ""):
        raise BadRow("It contains a NUL character (\\u0000), which cannot be stored. Remove it.")
    try:
        written.encode()
    except UnicodeEncodeError as error:
        raise BadRow("It contains half a character (a lone surrogate). Remove it.") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise BadRow(f"{name} is not a number that JSON knows.")


class _Stream:
    """Values one after the other. The number of each is that of the line on which it begins."""

    def __init__(self, file: BinaryIO, key: str) -> None:
        self.texts = codecs.getreader("utf-8-sig")(file)
        self.decoder = json.JSONDecoder()
        self.key = key
        self.buffer, self.at, self.line, self.is_over = "", 0, 1, False

    def rows(self) -> Iterator[tuple[int, Any]]:
        try:
            yield from self._rows()
        except Unreadable as error:
            yield self.line, error
        except RecursionError:
            yield self.line, Unreadable("Nested too deeply.")

    def _rows(self) -> Iterator[tuple[int, Any]]:
        while begins := self._peek():
            if begins == "[":
                yield from self._list()
            elif begins == "{":
                yield from self._object()
            elif begins == ",":
                self.at += 1
            else:
                yield self._value()

    def _list(self) -> Iterator[tuple[int, Any]]:
        self.at += 1
        while begins := self._peek():
            if begins == ",":
                self.at += 1
            elif begins == "]":
                self.at += 1
                return
            else:
                yield self._value()
        raise Unreadable("Not valid JSON: the list has no end.")

    def _object(self) -> Iterator[tuple[int, Any]]:
        """A row; or what is in an object that is wrapped round rows, however many they are."""
        before = self.at, self.line
        try:
            number, value = self._value()
        except TooLong:
            yield from self._wrapped()
            return
        if not isinstance(value, dict) or not (names := _holds_rows(value, self.key)):
            yield number, value
        elif len(names) > 1:
            raise Unreadable(_which(names))
        else:
            self.at, self.line = before
            yield from self._wrapped()

    def _wrapped(self) -> Iterator[tuple[int, Any]]:
        self.at += 1
        found = ""
        while (begins := self._peek()) and begins != "}":
            if begins == ",":
                self.at += 1
                continue
            _, name = self._value()
            if self._peek() != ":" or not isinstance(name, str):
                raise Unreadable("Not valid JSON: a name and a colon were expected.")
            self.at += 1
            is_meant = name == self.key if self.key else name not in OF_ROWS
            if self._peek() != "[" or not is_meant:
                self._value()
                continue
            rows = self._list()
            number, first = next(rows, (0, None))
            if not isinstance(first, dict):
                for _ in rows:
                    pass
                continue
            if found:
                raise Unreadable(_which([found, name]))
            found = name
            yield number, Note(f"The rows are under “{name}”.")
            yield number, first
            yield from rows
        if not begins:
            raise Unreadable("Not valid JSON: the object has no end.")
        self.at += 1
        if not found:
            raise Unreadable(
                "The file is one object without a list of rows. Name the list by its key."
            )

    def _value(self) -> tuple[int, Any]:
        number = self.line
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.at)
            except ValueError as error:
                # Perhaps only cut off.
                if len(self.buffer) - self.at > MAX_LINE_BYTES:
                    raise TooLong(f"Longer than {MEGABYTES} MB.") from error
                if not self._more():
                    raise Unreadable(f"Not valid JSON: {error}.") from error
                continue
            if end == len(self.buffer) and self._more():
                continue  # a number may go on
            text = self.buffer[self.at : end]
            self.line += text.count("\n")
            self.at = end
            try:
                return number, _checked(value, text)
            except BadRow as error:
                return number, error

    def _peek(self) -> str:
        """The next character that is no blank; none at the end."""
        while True:
            match = BLANKS.match(self.buffer, self.at)
            assert match
            self.line += self.buffer.count("\n", self.at, match.end())
            self.at = match.end()
            if self.at < len(self.buffer) or not self._more():
                return self.buffer[self.at : self.at + 1]

    def _more(self) -> bool:
        if self.is_over:
            return False
        try:
            chunk = self.texts.read(CHUNK_CHARACTERS)
        except UnicodeDecodeError as error:
            raise Unreadable(
                "Not UTF-8. Choose the encoding, or save the file as UTF-8 and try again."
            ) from error
        self.is_over = not chunk
        self.buffer, self.at = self.buffer[self.at :] + chunk, 0
        return bool(chunk)


class TooLong(Unreadable):
    pass


def _which(names: list[str]) -> str:
    known = " and ".join(f"“{name}”" for name in names[:9])
    return f"There are rows under {known}: choose a key (on the command line: --key)."
