"""What a grid asks: texts that were pasted, prompts of the project, a table of variables."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError

from annotate.prompts.models import Messages, PromptQuerySet
from feedback_site.answer_checks.hangman import Game

# Lines of their own: empty lines belong to the prompt.
NEXT_PROMPT = re.compile(r"^---[ \t]*$", re.MULTILINE)
NEXT_TURN = re.compile(r"^\+\+\+[ \t]*$", re.MULTILINE)
VARIABLE = re.compile(r"\{([A-Za-z_]\w*)\}")
RIGHT = "== "  # begins the last line of a prompt: its right answer
LONGEST_WORD = 30
REFERENCE, PROMPT = "reference", "prompt"  # columns of a table with a meaning of their own


@dataclass(frozen=True)
class Row:
    """A conversation that ends with the user's turn, and the user's turns after the model's answers
    in between. `reference`: the right last answer, where one is known; checks compare with it."""

    messages: Messages
    then: list[str] = field(default_factory=list)
    reference: str = ""

    @classmethod
    def saying(cls, *turns: str, reference: str = "") -> Row:
        """A row of the user's turns alone."""
        return cls([{"role": "user", "content": turns[0]}], list(turns[1:]), reference)

    @property
    def is_plain(self) -> bool:
        """Whether it can be written as text."""
        if len(self.messages) > 1:
            return False
        try:
            return typed(self.written) == [self]
        except ValidationError:
            return False

    @property
    def written(self) -> str:
        """As it is typed, with its right answer."""
        return f"{self.text}\n{RIGHT}{self.reference}" if self.reference else self.text

    @property
    def text(self) -> str:
        """The user's turns as they are typed; of a longer conversation the last ones."""
        return "\n+++\n".join([self.messages[-1]["content"], *self.then])


def typed(text: str) -> list[Row]:
    """Rows of what was typed: a line of --- begins the next prompt, a line of +++ the user's next
    turn; a last line that begins with == is the right answer. Raises ValidationError."""
    rows = []
    for prompt in NEXT_PROMPT.split(text.replace("\r\n", "\n")):
        prompt, reference = _with_reference(prompt)
        if not prompt.strip():
            continue
        turns = [turn.strip("\n") for turn in NEXT_TURN.split(prompt)]
        if not all(turn.strip() for turn in turns):
            raise ValidationError("A turn is empty: write something before and after each +++.")
        rows.append(Row.saying(*turns, reference=reference))
    return rows


def _with_reference(prompt: str) -> tuple[str, str]:
    asked, line_end, last = prompt.rstrip().rpartition("\n")
    if not (line_end and last.startswith(RIGHT) and asked.strip()):
        return prompt, ""
    return asked, last.removeprefix(RIGHT).strip()


def as_typed(rows: Iterable[Row]) -> str:
    return "\n---\n".join(row.written for row in rows)


def chosen(prompts: PromptQuerySet) -> list[Row]:
    """Rows of prompts of the project, with the reference answers they have."""
    return [
        Row(messages, reference=reference)
        for messages, reference in prompts.values_list("messages", "reference")
    ]


def filled_in(rows: Sequence[Row], table: str, *, at_most: int) -> list[Row]:
    """Each row once for every line of a table (CSV with a header), its variables {name} filled in;
    without rows, the column “prompt” as it is. The column “reference” is the right answer. Raises
    ValidationError."""
    lines = _lines_of(table)
    names = set(lines[0])
    if not rows:
        if PROMPT not in names:
            raise ValidationError(
                "Write a prompt with the names of columns in braces, such as "
                f"{{{next(iter(lines[0]))}}}, or give the table a column “prompt”."
            )
        rows = [Row.saying("{" + PROMPT + "}")]
    if missing := sorted(names_in(rows) - names):
        raise ValidationError(
            f"The table lacks the column “{missing[0]}”. It has {', '.join(sorted(names))}."
        )
    if len(rows) * len(lines) > at_most:
        raise ValidationError(
            f"That is {len(rows) * len(lines):,} rows. A grid has at most {at_most}."
        )
    return [_with(row, line) for row in rows for line in lines]


def names_of(table: str) -> set[str]:
    """The names of its columns; none where it is no table."""
    try:
        return set(_lines_of(table)[0])
    except ValidationError:
        return set()


def lines_in(table: str) -> int:
    """How many rows a table has below its names; 0 where it is none."""
    try:
        return len(_lines_of(table))
    except ValidationError:
        return 0


def names_in(rows: Iterable[Row]) -> set[str]:
    """The {names} that stand in them."""
    return {name for row in rows for name in VARIABLE.findall(row.text)}


def as_games(rows: Sequence[Row]) -> list[Row]:
    """Rows in which a word is to be found: of each the word, or of a game that is played again.
    Raises ValidationError."""
    return [_as_game(row) for row in rows]


def _as_game(row: Row) -> Row:
    word = row.text.strip()
    if row.reference and row.text == Game(row.reference).opening:
        return row
    if not 1 < len(word) <= LONGEST_WORD or not word.isalpha():
        raise ValidationError(
            f"In Hangman each prompt is a word of 2 to {LONGEST_WORD} letters, and “{word[:40]}” is"
            " none."
        )
    return Row.saying(Game(word).opening, reference=word)


def _with(row: Row, line: dict[str, str]) -> Row:
    def put(text: str) -> str:
        return VARIABLE.sub(lambda found: line.get(found[1], found[0]), text)

    last = {**row.messages[-1], "content": put(row.messages[-1]["content"])}
    then = [put(turn) for turn in row.then]
    return Row([*row.messages[:-1], last], then, line.get(REFERENCE, row.reference))


def _lines_of(table: str) -> list[dict[str, str]]:
    """The lines of a CSV, by the names in its header. Raises ValidationError."""
    table = table.removeprefix("\ufeff")
    names_line = table.lstrip().partition("\n")[0]
    separator = next((each for each in ",;\t" if each in names_line), ",")
    try:
        read = list(csv.reader(io.StringIO(table), delimiter=separator, strict=True))
    except csv.Error as error:
        raise ValidationError(f"The table is no CSV: {error}.") from None
    header, *body = [line for line in read if any(cell.strip() for cell in line)] or [[]]
    names = [name.strip() for name in header]
    if not body:
        raise ValidationError("The table needs a line of names and at least one line below it.")
    if bad := [name for name in names if not VARIABLE.fullmatch(f"{{{name}}}")]:
        raise ValidationError(
            f"“{bad[0]}” cannot be the name of a column: use letters, digits and underscores."
        )
    if len(set(names)) < len(names):
        raise ValidationError("Two columns of the table have the same name.")
    for number, line in enumerate(body, start=2):
        if len(line) != len(names):
            raise ValidationError(
                f"Line {number} of the table has {len(line)} cells; the first has {len(names)}."
            )
    return [dict(zip(names, line, strict=True)) for line in body]
