"""What a stage draws of its run: which figures, and the levels to measure them by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

COLOURS = 8  # that can be told apart


@dataclass(frozen=True)
class Series:
    """One line of a chart: a metric of one split, under the label people read."""

    label: str
    metric: str
    split: str = "train"


@dataclass(frozen=True)
class Chart:
    """Lines that share a title and a unit."""

    title: str
    unit: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Level:
    """A constant line to measure the others by."""

    label: str
    value: float


def trained_and_held_out(metric: str) -> tuple[Series, ...]:
    """Returns two lines of a metric: in training, and on held-out data."""
    return Series("training", metric), Series("held out", metric, "test")


LOSS, ACCURACY = trained_and_held_out("loss"), trained_and_held_out("reward/accuracy")
COMPARISONS = "share of comparisons"


def colours_of(numbers: Iterable[int]) -> dict[int, int]:
    """Gives each of these numbers, which count from 1, a colour, 0 to COLOURS - 1: the same in
    every chart and beside whatever others, but where two of them would share one."""
    found: dict[int, int] = {}
    for number in sorted(numbers):
        free = (
            colour
            for off in range(COLOURS)
            if (colour := (number - 1 + off) % COLOURS) not in found.values()
        )
        found[number] = next(free, (number - 1) % COLOURS)
    return found
