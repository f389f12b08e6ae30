"""What an import brought, or why it brought nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SHOWN_PROBLEMS = 20
KEPT_PROBLEMS = 100_000
SHOWN_UNREAD = 20
LONG_PREFIX = 200  # characters


@dataclass(frozen=True)
class Problem:
    line: int
    sentence: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.sentence}"


@dataclass
class ImportFailed(Exception):
    """Nothing was imported. Holds the problems, the first to show and more to keep, and how many
    there are; and what must be answered before anything can be imported."""

    lines: int = 0
    kept: list[Problem] = field(default_factory=list)
    count: int = 0
    questions: list[Problem] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    is_broken: bool = False  # from the last problem on, nothing could be read

    def add(self, line: int, sentence: str) -> None:
        """Notes what is wrong with a line; of very many the first are kept, and all are counted."""
        self.count += 1
        if self.count <= KEPT_PROBLEMS:
            self.kept.append(Problem(line, sentence))

    def ask(self, line: int, sentence: str) -> None:
        """Notes what somebody must decide before anything can be imported."""
        self.questions.append(Problem(line, sentence))

    def stops(self, *, leave_out_bad: bool) -> bool:
        """Whether nothing may be written: a question is open, the file is broken off, or a line is
        bad and `leave_out_bad` was not chosen."""
        must_stop = bool(self.questions) or self.is_broken
        return must_stop or (bool(self.count) and not leave_out_bad)

    def tell_of_skipped(self, done: Imported) -> None:
        """Where nothing else is wrong with a file that brings nothing, this is why."""
        self.skipped = done.skipped
        if not self.count and not self.questions:
            for reason, line in done.first_skipped.items():
                self.ask(line, f"Skipped: {reason}.")

    @property
    def problems(self) -> list[Problem]:
        """The first to show, questions before mistakes."""
        return (self.questions + self.kept)[:SHOWN_PROBLEMS]

    @property
    def unshown(self) -> int:
        """How many more there are than `problems` shows."""
        return len(self.questions) + self.count - len(self.problems)

    @property
    def can_leave_out(self) -> bool:
        """Whether the other lines could be imported without the bad ones."""
        is_readable = not self.questions and not self.is_broken
        return is_readable and 0 < self.count < self.lines

    @property
    def reason(self) -> str:
        """Why nothing was imported: the end of a sentence."""
        if not self.lines:
            return "the file is empty."
        if self.count:
            of = f"{self.count:,} of {self.lines:,} line{'' if self.lines == 1 else 's'}"
            return f"{of} {'has a problem' if self.count == 1 else 'have problems'}."
        if self.skipped and sum(self.skipped.values()) >= self.lines:
            return "no line holds anything to import."
        return "a choice is needed first."

    @property
    def summary(self) -> str:
        """Why nothing was imported, as a sentence."""
        return f"Nothing was imported: {self.reason}"

    def __str__(self) -> str:
        more = [f"…and {self.unshown:,} more"] if self.unshown else []
        return "\n".join([self.summary, *map(str, self.problems), *more])


@dataclass
class Imported:
    """What an import brought, or in a dry run would bring."""

    kinds: dict[str, None] = field(default_factory=dict)
    lines: int = 0
    is_dry_run: bool = False
    left_out: int = 0  # lines that have a problem
    skipped: Counter[str] = field(default_factory=Counter)
    first_skipped: dict[str, int] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # on the file
    new: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    beginnings: Counter[bytes] = field(default_factory=Counter)

    def skip(self, reason: str, line: int) -> None:
        """Counts a row that holds nothing to import, and the first line of each reason."""
        self.skipped[reason] += 1
        self.first_skipped.setdefault(reason, line)

    @property
    def kind(self) -> str:
        """What the file held, in words: “rankings”, “prompts and thumbs”."""
        return " and ".join(self.kinds)

    @property
    def brought(self) -> bool:
        """Whether there was anything in the file, new or known."""
        return bool(self.new.total() or self.known.total())

    @property
    def skips(self) -> list[tuple[str, int]]:
        """(why, how many rows), the most frequent first."""
        return self.skipped.most_common()

    @property
    def unread_names(self) -> str:
        """The columns that were not read, in alphabetical order; of very many the first."""
        names = sorted(self.unread)
        more = f" and {len(names) - SHOWN_UNREAD} more" if len(names) > SHOWN_UNREAD else ""
        return ", ".join(names[:SHOWN_UNREAD]) + more

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
        said = " ".join([said, *self.notes])
        if self.left_out:
            said += f" Left out: {self.left_out:,} with problems."
        for reason, count in self.skips:
            said += f" Skipped {count:,}: {reason}."
        if self.unread:
            said += f" Not imported: {self.unread_names}."
        if self.alike:
            said += (
                f" {self.alike:,} of the new prompts start with the same {LONG_PREFIX} characters."
            )
        return said
