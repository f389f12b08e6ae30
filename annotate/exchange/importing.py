"""Import of prompts and labels: all or nothing, whatever the size of the file.

A file is read line by line and written in batches inside one transaction. From the first bad line
on nothing is written any more, only read, so that one try shows every mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from django.db import transaction

from annotate.exchange.columns import of_cells, renamed
from annotate.exchange.other_tools import translated
from annotate.exchange.outcome import Imported, ImportFailed, Problem
from annotate.exchange.parsing import PARSERS, Row, parse, parse_prompt
from annotate.exchange.readers import READERS, objects_in
from annotate.exchange.values import BadRow
from annotate.exchange.writer import Entry, Writer
from annotate.people.models import Project, User

KINDS = tuple(PARSERS)
BATCH = 2000
PREVIEWED_LINES = 50
SHOWN_ROWS = 5
MOST_COLUMNS = 30


def import_labels(
    file: BinaryIO,
    *,
    project: Project,
    by: User,
    kind: str | None = None,
    format: str = "jsonl",
    source: str = "",
    columns: Mapping[str, str] | None = None,
    references: bool = False,
    dry_run: bool = False,
) -> Imported:
    """Imports a file, or raises ImportFailed and leaves everything as it was.

    Asked for prompts, it takes those of a file of any kind; else the first line gives the kind.
    `columns` says which column is which field, where the names are others; see `columns`.
    `source` is for lines that name none; `references` makes demonstrations of the reference answers
    in a file of completions. A dry run does everything and takes it back."""
    failed = ImportFailed()
    with transaction.atomic():
        writer = Writer(project=project, by=by, source=source, references=references)
        writer.wait_for_turn()
        lines = _lines(file, format, columns or {})
        rows = _rows(lines, kind, writer.done, failed)
        while batch := [Entry(line, row) for line, row in islice(rows, BATCH)]:
            if not failed.count:
                writer.write(batch, failed)
        failed.lines = writer.done.lines
        if failed.count or not failed.lines:
            raise failed
        writer.done.is_dry_run = dry_run
        if dry_run:
            transaction.set_rollback(True)
    return writer.done


@dataclass
class Preview:
    """The first rows of a file as they would be stored, and its columns, each with a value."""

    kind: str
    rows: list[tuple[int, Row]]
    problems: list[Problem]
    columns: dict[str, Any]


def preview(
    file: BinaryIO, *, kind: str | None, format: str, columns: Mapping[str, str]
) -> Preview:
    """Reads the first lines only, and asks nothing of the database."""
    done, failed = Imported(), ImportFailed()
    first = islice(_lines(file, format, columns), PREVIEWED_LINES)
    rows = list(islice(_rows(first, kind, done, failed), SHOWN_ROWS))
    file.seek(0)
    return Preview(done.kind, rows, failed.problems, columns_of(file, format))


def columns_of(file: BinaryIO, format: str) -> dict[str, Any]:
    """The names on the first lines of a file, each with the first value that says something."""
    found: dict[str, Any] = {}
    for row in islice(objects_in(file, format), PREVIEWED_LINES):
        for name, value in row.items():
            found[name] = found.get(name) or value
    return dict(islice(found.items(), MOST_COLUMNS))


def _lines(file: BinaryIO, format: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Any]]:
    for number, line in READERS[format](file):
        row = renamed(line, columns)
        yield number, of_cells(row) if format == "csv" else row


def _rows(
    lines: Iterable[tuple[int, Any]], kind: str | None, done: Imported, failed: ImportFailed
) -> Iterator[tuple[int, Row]]:
    done.kind = kind or ""
    for number, line in lines:
        done.lines += 1
        try:
            if isinstance(line, BadRow):
                raise line
            for raw in translated(line):
                if kind == "prompts":
                    row = parse_prompt(raw)
                else:
                    done.kind, row = parse(raw, done.kind or None)
                yield number, row
        except BadRow as error:
            failed.add(number, str(error))
        except RecursionError:
            failed.add(number, "Nested too deeply.")
