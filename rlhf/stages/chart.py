"""What a stage draws of its run: which figures, and the levels to measure them by."""

from __future__ import annotations

from dataclasses import dataclass


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
