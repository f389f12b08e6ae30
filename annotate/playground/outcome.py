"""What came of a grid: of each column means with intervals, and its rows in a chosen order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean, median
from typing import Any

from annotate.labels.agreement import wilson
from annotate.playground.cells import Cell
from annotate.playground.grids import Grid

MEASURES = ("state", "scores", "completion_tokens", "first_ms", "total_ms", "price")


@dataclass(frozen=True)
class Mean:
    """Of a check in a column: the mean over the rows of their samples' mean scores.

    The interval is Wilson's with the rows as trials: for scores between 0 and 1 it is as wide as
    for shares, or wider than need be, and never empty."""

    name: str
    value: float
    low: float
    high: float
    rows: int
    written: str  # the check, with its setting


@dataclass(frozen=True)
class Outcome:
    """Of a column. Times are medians over its answers, tokens their mean."""

    answered: int
    failed: int
    means: list[Mean]
    tokens: float | None
    first_ms: float | None
    total_ms: float | None
    price: Decimal | None

    @property
    def price_of_1000(self) -> Decimal | None:
        """What a thousand such answers cost."""
        return self.price * 1000 / self.answered if self.price is not None else None


@dataclass(frozen=True)
class Progress:
    """How many cells are in which state."""

    total: int
    answered: int
    open: int
    ended: int  # without an answer

    @property
    def is_over(self) -> bool:
        return self.open == 0


def progress_of(grid: Grid) -> Progress:
    counts: dict[str, int] = defaultdict(int)
    for state, unjudged in grid.cells.order_by().values_list("state", "unjudged"):
        counts[Cell.State.ASKING if unjudged else state] += 1
    waiting = counts[Cell.State.WAITING] + counts[Cell.State.ASKING]
    missing = grid.cells.missing_verdict().count()
    total, answered = sum(counts.values()), counts[Cell.State.ANSWERED] - missing
    return Progress(total, answered, waiting, total - answered - waiting)


class Measured:
    """What was measured in all cells of a grid, without their texts."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.checks = list(grid.named_checks())
        self.cells: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        for row, column, *rest in grid.cells.values_list("row", "column", *MEASURES):
            self.cells[row, column].append(dict(zip(MEASURES, rest, strict=True)))

    def outcomes(self) -> list[Outcome]:
        """One a column."""
        return [self._outcome(number) for number in range(len(self.grid.columns))]

    def _outcome(self, column: int) -> Outcome:
        cells = [each for row in self._rows() for each in self.cells[row, column]]
        said = [each for each in cells if each["state"] == Cell.State.ANSWERED]
        prices = [each["price"] for each in said]
        return Outcome(
            answered=len(said),
            failed=sum(
                each["state"] in (Cell.State.FAILED, Cell.State.INTERRUPTED) for each in cells
            ),
            means=list(self._means(column)),
            tokens=_or_none(fmean, (each["completion_tokens"] for each in said)),
            first_ms=_or_none(median, (each["first_ms"] for each in said)),
            total_ms=_or_none(median, (each["total_ms"] for each in said)),
            price=None if not prices or None in prices else sum(prices, Decimal()),
        )

    def _means(self, column: int) -> Iterator[Mean]:
        for name, written in self.grid.written_checks().items():
            found = (self.score(row, column, name) for row in self._rows())
            scores = [each for each in found if each is not None]
            if scores:
                mean = fmean(scores)
                yield Mean(name, mean, *wilson(mean, len(scores)), len(scores), written)

    def score(self, row: int, column: int, check: str) -> float | None:
        """The mean over the samples of a cell; None where none is measured."""
        scores = [
            each["scores"][check]
            for each in self.cells[row, column]
            if check in each["scores"]  # a judge may not have been asked
        ]
        return fmean(scores) if scores else None

    def failing(self) -> list[int]:
        """Rows in which some answer did not pass some check."""
        return [row for row in self._rows() if any(score < 1 for score in self._scores(row))]

    def differing(self) -> list[int]:
        """Rows in which a check scores one column higher than another."""
        return [row for row in self._rows() if any(self._differ(row, each) for each in self.checks)]

    def unanswered(self) -> list[int]:
        """Rows that lack an answer."""
        return [
            row
            for row in self._rows()
            if any(
                each["state"] != Cell.State.ANSWERED
                for column in range(len(self.grid.columns))
                for each in self.cells[row, column]
            )
        ]

    def sorted_by(self, measure: str, column: int) -> list[int]:
        """Rows by a check or a measure of one column, the least first; without an answer last."""

        def key(row: int) -> tuple[bool, float]:
            if measure in self.checks:
                value = self.score(row, column, measure)
            else:
                value = _or_none(fmean, (each[measure] for each in self.cells[row, column]))
            return value is None, value or 0.0

        return sorted(self._rows(), key=key)

    def _rows(self) -> range:
        return range(len(self.grid.asked))

    def _scores(self, row: int) -> Iterator[float]:
        for column in range(len(self.grid.columns)):
            for name in self.checks:
                score = self.score(row, column, name)
                if score is not None:
                    yield score

    def _differ(self, row: int, check: str) -> bool:
        scores = {self.score(row, column, check) for column in range(len(self.grid.columns))}
        return len(scores - {None}) > 1


def _or_none(of: Any, values: Iterable[Any]) -> Any:
    """None where nothing was measured."""
    known = [each for each in values if each is not None]
    return of(known) if known else None
