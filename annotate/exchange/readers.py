"""Reading a file row by row, whatever its format, with no more of it in memory than a piece.

Every reader yields (number, row): the line or row of the file, counted from 1, and the object on it
or the BadRow that says what is wrong with it."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NoReturn

from annotate.exchange.values import BadRow

MAX_LINE_BYTES = 4 * 2**20
CHUNK_CHARACTERS = 2**18
PARQUET_ROWS = 64
LARGEST_ROW_GROUP = 128 * 2**20
FORMULA = re.compile(r"'* *[=+\-@\t\r\n]")
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
TOO_MANY_CELLS = "More cells than the header names. A text with a {} in it needs quotes."
ONLY_A_HEADER = "Only the names of columns stand here. Add a row for each thing to import."
# What a file of another kind begins with, and what to do about it.
FOREIGN = {
    b"PK\x03\x04": "This is a spreadsheet or an archive. "
    "Save the sheet as “CSV UTF-8”, or unpack the archive, and choose what is in it.",
    b"\xd0\xcf\x11\xe0": "This is an old Excel file. Save it as “CSV UTF-8”.",
    b"\x1f\x8b": "This file is compressed. Unpack it first.",
    b"PAR1": "This is a Parquet file: give it a name that ends in .parquet.",
    b"%PDF": "This is a PDF. Save its texts as CSV or JSON Lines.",
}

MOST_HEADERS = 1000
UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")

csv.field_size_limit(MAX_LINE_BYTES)


def _lines(file: BinaryIO, *, blank: bool = False) -> Iterator[tuple[int, str | BadRow]]:
    """The lines, each a text or what is wrong with it; the `blank` ones too, if asked for."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)
            yield number, BadRow(f"Longer than {MAX_LINE_BYTES // 2**20} MB. One object a line?")
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            sentence = f"Not UTF-8 (byte {error.start + 1}). Save the file as UTF-8 and try again."
            yield number, BadRow(sentence)
            continue
        if blank or text.strip():
            yield number, text


def _json_objects(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """An object a line; or one array of objects, as Label Studio exports it."""
    start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    file.seek(0)
    if start.startswith(b"["):
        yield from _json_array(file)
        return
    for number, line in _lines(file):
        yield number, line if isinstance(line, BadRow) else _json(line)


def _json_array(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """The elements one by one, never the whole file in memory. The number is that of the line on
    which an element begins."""
    texts = codecs.getreader("utf-8-sig")(file)
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    number, buffer, opened = 1, "", False
    while True:
        try:
            chunk = texts.read(CHUNK_CHARACTERS)
        except UnicodeDecodeError:
            yield number, BadRow("Not UTF-8. Save the file as UTF-8 and try again.")
            return
        buffer += chunk
        while True:
            rest = buffer.lstrip(" \t\r\n," if opened else " \t\r\n[")
            number += buffer.count("\n", 0, len(buffer) - len(rest))
            opened, buffer = True, rest
            if not buffer or buffer.startswith("]"):
                break
            try:
                element, end = decoder.raw_decode(buffer)
            except BadRow as error:
                yield number, error
                return
            except RecursionError:
                yield number, BadRow("Nested too deeply.")
                return
            except ValueError as error:
                if chunk and len(buffer) <= MAX_LINE_BYTES:
                    break  # perhaps only cut off: read on
                too_long = len(buffer) > MAX_LINE_BYTES
                why = f"Longer than {MAX_LINE_BYTES // 2**20} MB" if too_long else str(error)
                yield number, BadRow(f"Not valid JSON: {why}.")
                return
            try:
                yield number, _storable(element, buffer[:end])
            except BadRow as error:
                yield number, error
            number += buffer.count("\n", 0, end)
            buffer = buffer[end:]
        if buffer.startswith("]"):
            return
        if not chunk:
            yield number, BadRow("Not valid JSON: the list has no end.")
            return


def _parquet_objects(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Row by row, a few at a time; the number is that of the row."""
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        table = parquet.ParquetFile(file, pre_buffer=False)
        groups = range(table.metadata.num_row_groups)
        largest = max((table.metadata.row_group(n).total_byte_size for n in groups), default=0)
        if largest > LARGEST_ROW_GROUP:
            limit = LARGEST_ROW_GROUP // 2**20
            yield 1, BadRow(f"A row group holds more than {limit} MB. Write smaller row groups.")
            return
        for batch in table.iter_batches(batch_size=PARQUET_ROWS):
            for raw in batch.to_pylist():
                number += 1
                yield number, {name: value for name, value in raw.items() if value is not None}
    except (pyarrow.ArrowException, OSError) as error:
        yield number + 1, BadRow(f"Not valid Parquet: {str(error).splitlines()[0][:200]}")


def _json(line: str) -> Any:
    try:
        return _storable(json.loads(line, parse_constant=_refuse_constant), line)
    except BadRow as error:
        return error
    except RecursionError:
        return BadRow("Nested too deeply.")
    except json.JSONDecodeError as error:
        return BadRow(f"Not valid JSON: {error.msg} at column {error.colno}.")
    except ValueError as error:
        return BadRow(f"Not valid JSON: {error}.")


def _storable(value: Any, text: str) -> Any:
    """The value of this JSON text, unless it holds what no database can."""
    if not UNSTORABLE.search(text):
        return value
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


def _csv_objects(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """A header line and then rows of texts; see `columns.of_cells` for what the texts stand for."""
    number, separator = 0, separator_of(file)
    header_only = True

    def texts() -> Iterator[str]:
        nonlocal number
        # A blank line may stand inside a cell.
        for number, line in _lines(file, blank=True):  # noqa: B007 - read where an error is told
            if isinstance(line, BadRow):
                raise line
            yield line

    try:
        for cells in csv.DictReader(texts(), strict=True, delimiter=separator):
            header_only = False
            if None in cells:
                yield number, BadRow(TOO_MANY_CELLS.format(SEPARATORS[separator]))
            elif any(cell and cell.strip() for cell in cells.values()):
                yield number, {name: unescaped(cell or "") for name, cell in cells.items()}
    except BadRow as error:
        yield number, error
    except csv.Error as error:
        yield number, BadRow(f"Not valid CSV: {error}.")
    else:
        if header_only and number:
            yield 1, BadRow(ONLY_A_HEADER)


def separator_of(file: BinaryIO) -> str:
    """What parts the cells of a CSV: whatever parts its header into most; a comma, if nothing."""
    header = file.readline(MAX_LINE_BYTES).decode("utf-8-sig", "replace")
    file.seek(0)
    return max(SEPARATORS, key=lambda each: len(next(csv.reader([header], delimiter=each), [])))


def foreign_to(file: BinaryIO, format: str) -> str:
    """What to do about a file that is of no format read here; empty if it may well be read."""
    start = file.read(1024)
    file.seek(0)
    if format == "parquet":
        return "" if start.startswith(b"PAR1") else "This is no Parquet file, in spite of its name."
    for beginning, what_to_do in FOREIGN.items():
        if start.startswith(beginning):
            return what_to_do
    if b"\0" in start:
        return "This is no text in UTF-8. Save it as “CSV UTF-8”, as JSON Lines or as Parquet."
    return ""


def escaped(cell: str) -> str:
    """What a spreadsheet would run as a formula begins with an apostrophe (OWASP, CSV Injection);
    so does, with one more, what looks like that already: `unescaped` gives back each text."""
    return f"'{cell}" if FORMULA.match(cell) else cell


def unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


READERS: dict[str, Callable[[BinaryIO], Iterator[tuple[int, Any]]]] = {
    "jsonl": _json_objects,
    "json": _json_objects,
    "csv": _csv_objects,
    "parquet": _parquet_objects,
}


def rows_in(file: BinaryIO, format: str) -> Iterator[tuple[int, Any]]:
    """(number, row or BadRow) of the file. The names of columns can be shown and stored."""
    fine: set[tuple[str, ...]] = set()
    for number, row in READERS[format](file):
        if isinstance(row, dict) and (names := tuple(row)) not in fine:
            if "\0" in "".join(names):
                row = BadRow("The name of a column contains a NUL character. Remove it.")
            elif len(fine) < MOST_HEADERS:
                fine.add(names)
        yield number, row


def objects_in(file: BinaryIO, format: str) -> Iterator[dict[str, Any]]:
    """The rows that are objects, whatever is wrong with the others."""
    return (row for _, row in rows_in(file, format) if isinstance(row, dict))


def format_of(name: str) -> str:
    """What a file of this name holds, by its ending."""
    ending = name.lower().rpartition(".")[2]
    return ending if ending in READERS else "jsonl"
