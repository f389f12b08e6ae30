"""Import of prompts and labels: all or nothing, whatever the size of the file; or, if asked for,
all but the lines that have a problem.

A file is read line by line and written in batches inside one transaction. From the first bad line
on nothing is written any more, only read, so that one try shows every mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, BinaryIO

from django.db import transaction

from annotate.exchange.choices import Choices
from annotate.exchange.columns import LEFT_OUT, guess, judges, of_cells, renamed
from annotate.exchange.files.bad_row import BadRow, Note, Unreadable
from annotate.exchange.files.rows import rows_in
from annotate.exchange.outcome import Imported, ImportFailed, Problem
from annotate.exchange.parsing import PARSERS, READ, Row, parse, parse_prompt
from annotate.exchange.shapes import BY_NAME, OURS, shape_of
from annotate.exchange.shapes.shape import Reading, Shape, Skip
from annotate.exchange.writer import Entry, Writer
from annotate.people.models import Project, User

KINDS = tuple(PARSERS)
# Lines held in memory at once.
BATCH = 2000
PREVIEWED_LINES = 50
SHOWN_ROWS = 5
MOST_COLUMNS = 60
NOTHING_SAID = Choices()
Line = tuple[int, Any]


@dataclass(frozen=True)
class Beginning:
    """The first lines of a file, and those of its first lines that are objects."""

    format: str
    lines: list[Line]
    rows: list[dict[str, Any]]


def beginning(file: BinaryIO, format: str, choices: Choices = NOTHING_SAID) -> Beginning:
    """Reads until there are enough rows for a guess. For each file and encoding it need be done
    once: to read is to start a process."""
    lines: list[Line] = []
    rows: list[dict[str, Any]] = []
    for line in rows_in(file, format, **choices.of_file):
        if len(lines) < PREVIEWED_LINES:
            lines.append(line)
        if isinstance(line[1], dict):
            rows.append(line[1])
        if len(rows) == PREVIEWED_LINES:
            break
    return Beginning(format, lines, rows)


def guessed(begins: Beginning, said: Choices = NOTHING_SAID) -> Choices:
    """How a file is read, by its first rows, where nobody has said it."""
    rows = begins.rows
    if begins.format == "csv":
        rows = [of_cells(row) for row in rows]
    shape = BY_NAME.get(said.shape) or shape_of(rows) or OURS
    columns = guess(rows) if shape is OURS else {}
    taken = {name for name in said.columns.values() if name}
    columns = {column: name for column, name in columns.items() if name not in taken}
    return replace(said, shape=shape.name, columns={**columns, **said.columns})


def import_labels(
    file: BinaryIO,
    *,
    project: Project,
    by: User,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    choices: Choices | None = None,
    format: str = "jsonl",
    source: str = "",
    references: bool = False,
    leave_out_bad: bool = False,
    dry_run: bool = False,
) -> Imported:
    """Imports a file, or raises ImportFailed and leaves everything as it was.

    Asked for prompts, it takes those of a file of any kind; else the first line gives the kind.
    Without `choices`, the shape of the rows is guessed, and without `columns` the names of them.
    `source` is for lines that name none;
    `references` makes demonstrations of the reference answers in a file of completions.
    `leave_out_bad` imports what is without a problem. A dry run does everything and takes it
    back."""
    if choices is None:
        choices = Choices(kind=kind or "")
        choices = guessed(beginning(file, format, choices), choices)
        choices = choices if columns is None else replace(choices, columns=columns)
    failed = ImportFailed()
    with transaction.atomic():
        writer = Writer(project=project, by=by, source=source, references=references)
        # Before anything is read: what is there already must not change under the comparison.
        writer.wait_for_turn()
        rows = _Rows(choices, format, writer.done, failed)
        entries = rows.of(rows_in(file, format, **choices.of_file))
        while batch := list(islice(entries, BATCH)):
            # After the first mistake all that is written would be rolled back: only read on, for
            # the rest of them.
            if not failed.stops(leave_out_bad=leave_out_bad):
                writer.write(batch, failed)
        failed.lines = writer.done.lines
        if failed.stops(leave_out_bad=leave_out_bad) or not writer.done.brought:
            failed.tell_of_skipped(writer.done)
            raise failed
        writer.done.left_out = failed.count
        writer.done.is_dry_run = dry_run
        # Rolled back instead of not done: constraints and counts are those of the real thing.
        if dry_run:
            transaction.set_rollback(True)
    return writer.done


@dataclass
class Preview:
    """The first rows of a file as they would be stored, and its columns, each with a value."""

    done: Imported
    shape_label: str
    rows: list[tuple[int, Row]]
    problems: list[Problem]
    columns: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.done.kind


def preview(begins: Beginning, choices: Choices) -> Preview:
    """What becomes of the first lines. Asks nothing of the database."""
    done, failed = Imported(), ImportFailed()
    entries = list(_Rows(choices, begins.format, done, failed).of(begins.lines))
    rows = [(entry.line, entry.row) for entry in entries[:SHOWN_ROWS]]
    columns = columns_of(begins.rows)
    columns |= {name: "" for name in done.unread if name not in columns}
    shape = BY_NAME.get(choices.shape, OURS)
    return Preview(done, shape.label, rows, failed.problems, columns)


def columns_of(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The names in these rows, each with the first value that says something."""
    found: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            found[name] = found.get(name) or value
    return dict(islice(found.items(), MOST_COLUMNS))


NOTHING: tuple[Any, ...] = (None, "", [], {})  # values that say nothing
# Rows of one group held at once, should a column be the same all through a file.
MOST_TOGETHER = 5000  # rows
QUESTION = (
    "“{0}” looks like a judgement, but is not imported. Choose which field it is, or leave it out "
    "(on the command line: --column '{0}=')."
)
# What is asked about an image cannot be judged, or learnt from, without it.
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
HAS_MEDIA = "it comes with an image, sound or video (leave that column out to import its text)"
ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass
class _Rows:
    """Makes rows of lines, and notes what came of each line."""

    choices: Choices
    format: str
    done: Imported
    failed: ImportFailed

    def __post_init__(self) -> None:
        self.shape: Shape | None = BY_NAME.get(self.choices.shape)
        self.reading = Reading(each_answer=self.choices.each_answer)
        self.kind = self.choices.kind
        self.left_out = {n for n, chosen in self.choices.columns.items() if chosen == LEFT_OUT}
        self.names_seen: set[str] = set()

    def of(self, lines: Iterable[Line]) -> Iterator[Entry]:
        for number, row in self._joined(map(self._named, lines)):
            try:
                if isinstance(row, Note):
                    continue
                if isinstance(row, BadRow):
                    self.failed.is_broken |= isinstance(row, Unreadable)
                    raise row
                for raw in self._read(row):
                    if isinstance(raw, Skip):
                        self.done.skip(str(raw), number)
                    else:
                        yield Entry(number, *self._parsed(raw, number))
            except Skip as skip:
                self.done.skip(str(skip), number)
            except BadRow as error:
                self.failed.add(number, str(error))
            except RecursionError:
                self.failed.add(number, "Nested too deeply.")
            # A shape reads rows of a tool that promises nothing: what it trips over is the row's
            # fault.
            except ODD:
                self.failed.add(number, "This row does not fit the chosen format.")
            self._tell_of_unread(number)

    def _named(self, line: Line) -> Line:
        """The line under the names that were chosen."""
        number, row = line
        if isinstance(row, Note):
            self.done.notes.append(str(row))
            return line
        self.done.lines += 1
        if not isinstance(row, dict):
            return line
        for name in self.left_out & row.keys():
            if row[name] not in NOTHING:
                self.done.unread.setdefault(name)
        row = renamed(row, self.choices.columns)
        if self.format == "csv":
            row = of_cells(row)
        if self.shape is not None and self.shape is not OURS and isinstance(row, dict):
            self._note_unread(row, self.shape.unread_of(row))
        return number, row

    def _joined(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Rows in succession as one, if the shape says so."""
        name = self.shape.together if self.shape else ""
        if not name:
            yield from lines
            return

        def key(line: Line) -> Any:
            row = line[1]
            return str(row[name]) if isinstance(row, dict) and name in row else line[0]

        for _, group in groupby(lines, key):
            rows = list(islice(group, MOST_TOGETHER))
            first, row = rows[0]
            yield (first, {name: [r for _, r in rows]}) if isinstance(row, dict) else rows[0]

    def _read(self, row: Any) -> Iterable[Any]:
        if not isinstance(row, dict):
            return [row]
        if any(row.get(name) not in NOTHING for name in MEDIA):
            raise Skip(HAS_MEDIA)
        return (self.shape or OURS).read(row, self.reading)

    def _parsed(self, raw: Any, number: int) -> tuple[str, Row]:
        is_ours = self.shape is None or self.shape is OURS
        if self.choices.kind == "prompts":
            kind, row = "prompts", parse_prompt(raw)
        elif is_ours:
            kind, row = parse(raw, self.kind or None)
            self.kind = kind
        else:
            kind, row = parse(raw, None)
            if self.kind and kind != self.kind:
                raise Skip(f"{kind}, and only {self.kind} were asked for")
        self.done.kinds.setdefault(kind)
        if is_ours:
            self._note_unread(raw, raw.keys() - READ[kind])
        return kind, row

    def _note_unread(self, row: dict[str, Any], names: Iterable[str]) -> None:
        for name in names:
            if row[name] not in NOTHING:
                implied = self.shape is not None and name in self.shape.implied
                self.reading.note(name, judges=not implied and judges(name))

    def _tell_of_unread(self, number: int) -> None:
        """Each name once; of one that judges, that the import needs to know what it is."""
        unread = self.reading.unread
        if len(unread) == len(self.names_seen):
            return
        for name in sorted(unread.keys() - self.names_seen):
            self.names_seen.add(name)
            self.done.unread.setdefault(name)
            asked = self.choices.kind != "prompts" and name not in self.left_out
            if asked and unread[name]:
                self.failed.ask(number, QUESTION.format(name))
