"""What an import brought, or why it brought nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SHOWN_PROBLEMS = 20
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
    def reason(self) -> str:
        if not self.lines:
            return "the file is empty."
        have = "line has a problem" if self.count == 1 else "lines have problems"
        return f"{self.count:,} of {self.lines:,} {have}."

    @property
    def summary(self) -> str:
        return f"Nothing was imported: {self.reason}"

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
