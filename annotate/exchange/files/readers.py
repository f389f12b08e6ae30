"""Reading a file row by row, whatever its format, with no more of it in memory than a piece.

Every reader yields (number, row): the line or row of the file, counted from 1, and the object on it
or the BadRow that says what is wrong with it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from annotate.exchange.files import pages
from annotate.exchange.files.bad_row import BadRow, Unreadable
from annotate.exchange.files.json_rows import json_rows
from annotate.exchange.files.lines import MAX_LINE_BYTES, lines_of
from annotate.exchange.files.opening import COMPRESSED, prepared

PARQUET_ROWS = 64
LARGEST_ROW_GROUP = 128 * 2**20
FORMULA = re.compile(r"'* *[=+\-@\t\r\n]")
ESCAPED = "formulas_escaped"  # the column by which a table of ours is known
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SEPARATOR_LINE = re.compile(r"sep=(.)\s*$", re.IGNORECASE)  # for Excel
TOO_MANY_CELLS = "More cells than the header names. A text with a {} in it needs quotes."
ONLY_A_HEADER = "The file has only column names. Add a row for each thing to import."

csv.field_size_limit(MAX_LINE_BYTES)


def rows_here(file: BinaryIO, format: str, key: str = "") -> Iterator[tuple[int, Any]]:
    """Reads in this process: for the child of `sandbox`, since nobody else takes a file that a
    stranger wrote to pieces."""
    if format in pages.READERS:
        return pages.READERS[format](file)
    if format == "parquet":
        return _parquet_rows(file)
    return _csv_rows(file) if format == "csv" else json_rows(file, key)


def _parquet_rows(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Row by row, a few at a time; the number is that of the row."""
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        table = parquet.ParquetFile(file, pre_buffer=False)
        names = table.schema_arrow.names
        if twice := _twice(names):
            yield 1, Unreadable(twice)
            return
        groups = range(table.metadata.num_row_groups)
        largest = max((table.metadata.row_group(n).total_byte_size for n in groups), default=0)
        if largest > LARGEST_ROW_GROUP:
            limit = LARGEST_ROW_GROUP // 2**20
            yield (
                1,
                Unreadable(f"A row group holds more than {limit} MB. Write smaller row groups."),
            )
            return
        for batch in table.iter_batches(batch_size=PARQUET_ROWS, use_threads=False):
            for raw in batch.to_pylist():
                number += 1
                yield number, {name: value for name, value in raw.items() if value is not None}
    except pyarrow.ArrowMemoryError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        why = (str(error).splitlines() or [""])[0][:200]
        yield number + 1, Unreadable(f"Not valid Parquet: {why}")


def _csv_rows(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """A header line and then rows of texts; see `columns.of_cells` for what the texts stand for."""
    number, separator = 0, separator_of(file)

    def texts() -> Iterator[str]:
        nonlocal number
        # A blank line may stand inside a cell.
        for number, line in lines_of(file, blank=True):  # noqa: B007 - read where an error is told
            if isinstance(line, BadRow):
                raise Unreadable(str(line))
            if number > 1 or not SEPARATOR_LINE.match(line):
                yield line

    try:
        rows = (cells for cells in csv.reader(texts(), strict=True, delimiter=separator) if cells)
        names = [name or f"column {n}" for n, name in enumerate(next(rows, []), start=1)]
        if twice := _twice(names):
            yield number, Unreadable(twice)
            return
        header, header_only = number, True
        is_ours = ESCAPED in names
        for cells in rows:
            header_only = False
            if len(cells) > len(names):
                yield number, BadRow(TOO_MANY_CELLS.format(SEPARATORS.get(separator, separator)))
            elif any(cell.strip() for cell in cells):
                row = dict.fromkeys(names, "") | dict(zip(names, cells, strict=False))
                if is_ours and row.pop(ESCAPED):
                    row = {name: unescaped(cell) for name, cell in row.items()}
                yield number, row
    except Unreadable as error:
        yield number, error
    except csv.Error as error:
        yield number, Unreadable(f"Not valid CSV: {error}.")
    else:
        if header_only and number:
            yield header, BadRow(ONLY_A_HEADER)


def _twice(names: list[str]) -> str:
    """What to do about columns of one name; empty if there are none."""
    name = next((name for name in names if names.count(name) > 1), None)
    return name and f"Two columns are named “{name}”. Give each a name of its own." or ""


def separator_of(file: BinaryIO) -> str:
    """What parts the cells of a CSV: what a first line `sep=` says, or else whatever parts its
    header into most; a comma, if nothing."""
    line = next((line for _, line in lines_of(file)), "")
    file.seek(0)
    header = "" if isinstance(line, BadRow) else line
    if said := SEPARATOR_LINE.match(header):
        return said[1]
    counts = {}
    for each in SEPARATORS:
        try:
            counts[each] = len(next(csv.reader([header], delimiter=each), []))
        except csv.Error:
            counts[each] = 0
    return max(SEPARATORS, key=lambda each: counts[each])


def unusual_separator(file: BinaryIO, encoding: str) -> str:
    """What parts the cells of a CSV, where one would not take it for granted."""
    try:
        with prepared(file, "csv", encoding) as text:
            separator = separator_of(text)
    except Unreadable:
        return ""
    return "" if separator == "," else SEPARATORS.get(separator, separator)


def escaped(cell: str) -> str:
    """What a spreadsheet would run as a formula begins with an apostrophe (OWASP, CSV Injection);
    so does, with one more, what looks like that already: `unescaped` gives back each text."""
    return f"'{cell}" if FORMULA.match(cell) else cell


def unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


FORMATS = {"jsonl": "jsonl", "json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet"}


def format_of(name: str) -> str:
    """What a file of this name holds, by its ending, compressed or not."""
    name = name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return FORMATS.get(name.rpartition(".")[2], "jsonl")
