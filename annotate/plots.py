"""Figures as pictures: where bars and intervals stand in a drawing, for a template to draw.

They are drawn on the server: a lead sees them without JavaScript, and in print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from annotate.labels.agreement import Share

WIDTH, HEIGHT = 600, 120
GAP = 0.2  # of a place, left free between two


@dataclass(frozen=True)
class Mark:
    """A bar from `y` down to `y + height`, or an interval with its value at `middle`."""

    x: float
    y: float
    width: float
    height: float
    title: str
    middle: float | None = None

    @property
    def right(self) -> float:
        return round(self.x + self.width, 1)


@dataclass(frozen=True)
class Plot:
    """Marks in a drawing of WIDTH × HEIGHT that stretches to its place on the page, and what stands
    at the ends of its axes: the lower one of them is 0."""

    title: str
    marks: list[Mark]
    top: str
    first: str
    last: str


def bars(title: str, days: Sequence[tuple[date, int]], *, until: date, count: int) -> Plot | None:
    """A bar for each of the `count` days up to `until`; None if nothing happened on any."""
    happened = dict(days)
    shown = [until - timedelta(days=back) for back in reversed(range(count))]
    most = max((happened.get(day, 0) for day in shown), default=0)
    if not most:
        return None
    marks = []
    for place, day in enumerate(shown):
        n = happened.get(day, 0)
        height = n / most * HEIGHT
        marks.append(_mark(place, count, HEIGHT - height, height, f"{day:%-d %b}: {n:,}"))
    return Plot(title, marks, f"{most:,}", f"{shown[0]:%-d %b}", f"{until:%-d %b}")


def intervals(title: str, weeks: Sequence[tuple[date, Share]]) -> Plot | None:
    """The 95 % interval of each week's share, from 0 to 100 %; None for a single week."""
    if len(weeks) < 2:
        return None
    marks = []
    for place, (week, share) in enumerate(weeks):
        low, high = (HEIGHT * (1 - end) for end in share.interval)
        said = f"Week of {week:%-d %b}: {share.value:.0%}"
        middle = round(HEIGHT * (1 - share.value), 1)
        marks.append(_mark(place, len(weeks), high, low - high, said, middle))
    first, last = (f"{weeks[end][0]:%-d %b}" for end in (0, -1))
    return Plot(title, marks, "100 %", first, last)


def _mark(
    place: int, count: int, y: float, height: float, title: str, middle: float | None = None
) -> Mark:
    step = WIDTH / count
    x, width = (place + GAP / 2) * step, (1 - GAP) * step
    return Mark(round(x, 1), round(y, 1), round(width, 1), round(height, 1), title, middle)
