"""Import of prompts and labels: all or nothing, whatever the size of the file.

A file is read line by line and written in batches inside one transaction. From the first bad line
on nothing is written any more, only read, so that one try shows every mistake. What is there
already is recognised by its content: the same file may come twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any, BinaryIO

from django.db import connection, transaction

from annotate.bulk import copy_in
from annotate.columns import of_cells, renamed
from annotate.foreign import translated
from annotate.models import (
    Completion,
    Demonstration,
    Feedback,
    Placement,
    Policy,
    Project,
    Prompt,
    Ranking,
    User,
)
from annotate.models.prompts import content_hash
from annotate.readers import READERS, objects_in
from annotate.rows import PARSERS, BadRow, Row, parse, parse_prompt

KINDS = tuple(PARSERS)
BATCH = 2000
SHOWN_PROBLEMS = 20
PREVIEWED_LINES = 50
SHOWN_ROWS = 5
MOST_COLUMNS = 30
LONG_PREFIX = 200  # characters


@dataclass(frozen=True)
class Problem:
    line: int
    sentence: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.sentence}"


@dataclass
class ImportFailed(Exception):
    """Nothing was imported. Holds the first problems, and how many there are."""

    lines: int = 0
    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, sentence: str) -> None:
        self.count += 1
        if self.count <= SHOWN_PROBLEMS:
            self.problems.append(Problem(line, sentence))

    @property
    def unshown(self) -> int:
        return self.count - len(self.problems)

    @property
    def summary(self) -> str:
        if not self.lines:
            return "Nothing was imported: the file is empty."
        have = "line has a problem" if self.count == 1 else "lines have problems"
        return f"Nothing was imported: {self.count:,} of {self.lines:,} {have}."

    def __str__(self) -> str:
        more = [f"…and {self.unshown:,} more"] if self.unshown else []
        return "\n".join([self.summary, *map(str, self.problems), *more])


@dataclass
class Imported:
    """What an import brought, or in a dry run would bring."""

    kind: str = ""
    lines: int = 0
    is_dry_run: bool = False
    new: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    beginnings: Counter[bytes] = field(default_factory=Counter)

    @property
    def alike(self) -> int:
        """How many new prompts begin like another of the file for LONG_PREFIX characters: perhaps
        one prompt in variants (InstructGPT, section 3.2, drops such duplicates)."""
        return sum(count for count in self.beginnings.values() if count > 1)

    @property
    def counts(self) -> list[tuple[str, int, int]]:
        """(what, how many are new, how many were there), without what does not occur."""
        return [
            (what, self.new[what], self.known[what])
            for what in ("prompts", "completions", "demonstrations", "rankings", "thumbs")
            if self.new[what] or self.known[what]
        ]

    def __str__(self) -> str:
        verb = "would bring" if self.is_dry_run else "brought"
        parts = [
            f"{new:,} new {what if new != 1 else what[:-1]} ({known:,} already there)"
            for what, new, known in self.counts
        ]
        lines = f"{self.lines:,} lines" if self.lines != 1 else "1 line"
        said = f"{lines} of {self.kind} {verb} {', '.join(parts)}."
        if self.alike:
            said += f" {self.alike:,} of the new prompts begin alike for {LONG_PREFIX} characters."
        return said


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
    `columns` says which column is which field, where the names are others; see `annotate.columns`.
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


@dataclass(slots=True)
class Entry:
    """A row on its way into the database."""

    line: int
    row: Row
    labeler: User | None = None
    prompt_hash: str = ""
    prompt_id: int = 0
    completion_ids: list[int] = field(default_factory=list)


@dataclass
class Writer:
    """Writes rows in batches, and only what is not there yet."""

    project: Project
    by: User
    source: str
    references: bool
    done: Imported = field(default_factory=Imported)
    policies: dict[str, Policy] = field(default_factory=dict)
    labelers: dict[str, User] = field(default_factory=dict)

    def wait_for_turn(self) -> None:
        """One import at a time in a project: two of the same file would not see each other."""
        with connection.cursor() as cursor:
            key: list[str | int] = ["import", self.project.pk]
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s), %s)", key)

    def write(self, batch: list[Entry], failed: ImportFailed) -> None:
        self._find_labelers(batch, failed)
        if failed.count:
            return
        self._write_prompts(batch)
        self._write_completions(batch)
        match self.done.kind:
            case "demonstrations":
                self._write_demonstrations([(entry, entry.row.label) for entry in batch])
            case "completions" if self.references:
                answered = [entry for entry in batch if entry.row.reference]
                self._write_demonstrations([(e, {"text": e.row.reference}) for e in answered])
            case "rankings" | "preferences":
                self._write_rankings(batch)
            case "thumbs":
                self._write_thumbs(batch, failed)

    def _find_labelers(self, batch: list[Entry], failed: ImportFailed) -> None:
        for entry in batch:
            name, is_simulated = entry.row.labeler, entry.row.is_simulated
            if not name:
                entry.labeler = self.by
                continue
            if name not in self.labelers:
                self.labelers[name] = self.project.labeler_named(name, simulated=is_simulated)
            entry.labeler = self.labelers[name]
            if entry.labeler.is_simulated != is_simulated:
                here, there = (
                    ("simulated", "a person") if is_simulated else ("a person", "simulated")
                )
                failed.add(
                    entry.line,
                    f"The labeler “{name}” is {here} in this line and {there} in the project. "
                    "Rename one of the two.",
                )

    def _write_prompts(self, batch: list[Entry]) -> None:
        wanted: dict[str, Prompt] = {}
        for entry in batch:
            prompt = Prompt(
                project=self.project,
                messages=entry.row.prompt,
                source=self._source_of(entry),
                tags=entry.row.tags,
                author=entry.labeler if entry.row.written.get("kind") else self.by,
                **entry.row.written,
            ).derive()
            entry.prompt_hash = prompt.content_hash
            wanted.setdefault(prompt.content_hash, prompt)
        there = Prompt.objects.ids_by_hash(self.project, wanted)
        new = [prompt for digest, prompt in wanted.items() if digest not in there]
        if new:
            # Somebody may write the same prompt at this moment.
            copy_in(new, unless_known=True)
            there = Prompt.objects.ids_by_hash(self.project, wanted)
        long = (prompt.text[:LONG_PREFIX] for prompt in new if len(prompt.text) >= LONG_PREFIX)
        self.done.beginnings.update(blake2b(each.encode(), digest_size=8).digest() for each in long)
        for entry in batch:
            entry.prompt_id = there[entry.prompt_hash]
        self._count("prompts", new, len(batch) if self.done.kind == "prompts" else len(wanted))

    def _write_completions(self, batch: list[Entry]) -> None:
        wanted: dict[tuple[int, int, str], Completion] = {}
        keys: list[list[tuple[int, int, str]]] = []
        for entry in batch:
            completions = [
                Completion(
                    prompt_id=entry.prompt_id,
                    policy=self._policy(said.policy),
                    text=said.text,
                    finish_reason=said.finish_reason,
                    source=Completion.Source.IMPORTED,
                ).derive()
                for said in entry.row.completions
            ]
            keys.append([(c.prompt_id, c.policy_id, c.text) for c in completions])
            for key, completion in zip(keys[-1], completions, strict=True):
                wanted.setdefault(key, completion)
        if not wanted:
            return
        there = Completion.objects.ids_by_content({prompt for prompt, _, _ in wanted})
        new = [completion for key, completion in wanted.items() if key not in there]
        copy_in(new)
        for created in new:
            there[created.prompt_id, created.policy_id, created.text] = created.pk
        for entry, own in zip(batch, keys, strict=True):
            entry.completion_ids = [there[key] for key in own]
        self._count("completions", new, len(wanted))

    def _write_demonstrations(self, entries: list[tuple[Entry, dict[str, Any]]]) -> None:
        there = set(
            Demonstration.objects.filter(prompt__in={entry.prompt_id for entry, _ in entries})
            .values_list("prompt", "labeler", "text")
            .order_by()
        )
        new = []
        for entry, label in entries:
            assert entry.labeler
            key = (entry.prompt_id, entry.labeler.pk, label["text"])
            if key not in there:
                there.add(key)
                new.append(Demonstration(**self._label(entry), **label))
        copy_in(new)
        self._count("demonstrations", new, len(entries))

    def _write_rankings(self, batch: list[Entry]) -> None:
        there = _orders_there({entry.prompt_id for entry in batch})
        new, placements = [], []
        for entry in batch:
            ids, row = entry.completion_ids, entry.row
            shown = [ids[position] for position in row.shown_order]
            ranking = Ranking(**self._label(entry), **row.label, shown_order=shown)
            placed = [
                Placement(ranking=ranking, completion_id=pk, **fields)
                for pk, fields in zip(ids, row.placements, strict=True)
            ]
            order = _order_of(ranking, placed)
            if order not in there:
                there.add(order)
                new.append(ranking)
                placements += placed
        copy_in(new)
        for placement in placements:
            placement.ranking_id = placement.ranking.pk  # which it has only now
        copy_in(placements)
        self._count("rankings", new, len(batch))

    def _write_thumbs(self, batch: list[Entry], failed: ImportFailed) -> None:
        answers = {entry.completion_ids[0] for entry in batch}
        thumbs = Feedback.objects.filter(completion__in=answers)
        there = {(thumb.completion_id, thumb.user_id): thumb.thumb_up for thumb in thumbs}
        in_chats = self._thumbs_in_chats(batch)
        new = []
        for entry in batch:
            assert entry.labeler
            [said] = entry.row.completions
            key = (entry.completion_ids[0], entry.labeler.pk)
            thumb = Feedback(completion_id=key[0], user=entry.labeler, **entry.row.label)
            if (entry.labeler.pk, said.policy, said.text, entry.prompt_hash) in in_chats:
                continue
            if key not in there:
                there[key] = thumb.thumb_up
                new.append(thumb)
            elif there[key] != thumb.thumb_up:
                name = entry.labeler.labeler_name
                failed.add(entry.line, f"{name} gave this answer the other thumb too.")
        copy_in(new)
        self._count("thumbs", new, len(batch))

    def _thumbs_in_chats(self, batch: list[Entry]) -> set[tuple[Any, ...]]:
        """What these people thought of answers in this site's own chats, which exports hold too."""
        thumbs = Feedback.objects.filter(
            user__in={entry.labeler for entry in batch},
            message__conversation__project=self.project,
        ).select_related("message__policy")
        return {
            (thumb.user_id, m.policy.name, m.text, content_hash(m.asked))
            for thumb in thumbs
            if (m := thumb.message) and m.policy
        }

    def _policy(self, name: str) -> Policy:
        if name not in self.policies:
            self.policies[name] = Policy.objects.said_by(self.project, name)
        return self.policies[name]

    def _label(self, entry: Entry) -> dict[str, Any]:
        return {
            "prompt_id": entry.prompt_id,
            "labeler": entry.labeler,
            "source": self._source_of(entry),
        }

    def _source_of(self, entry: Entry) -> str:
        return self.source if entry.row.source is None else entry.row.source

    def _count(self, what: str, new: list[Any], wanted: int) -> None:
        self.done.new[what] += len(new)
        self.done.known[what] += wanted - len(new)


Order = tuple[Any, ...]


def _order_of(ranking: Ranking, placed: Iterable[Placement]) -> Order:
    """What makes two rankings the same: one labeler, the same completions at the same places."""
    places = frozenset((p.completion_id, p.place) for p in placed)
    return ranking.prompt_id, ranking.labeler_id, ranking.outcome, ranking.strength, places


def _orders_there(prompt_ids: set[int]) -> set[Order]:
    rankings = Ranking.objects.filter(prompt__in=prompt_ids).prefetch_related("placements")
    return {_order_of(ranking, ranking.placements.all()) for ranking in rankings}
