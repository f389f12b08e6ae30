"""Which figures of a run are drawn, and their numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rlhf.models.metrics import Metric
from rlhf.models.runs import Run
from rlhf.rounds.report import snapshot_of


@dataclass(frozen=True)
class Series:
    label: str
    metric: str
    split: str = "train"


@dataclass(frozen=True)
class Chart:
    title: str
    unit: str
    series: tuple[Series, ...]


def _both(metric: str) -> tuple[Series, ...]:
    return Series("training", metric), Series("held out", metric, "test")


LOSS, ACCURACY = _both("loss"), _both("reward/accuracy")
COMPARISONS = "share of comparisons"
CHARTS: dict[str, tuple[Chart, ...]] = {
    Run.Kind.PRETRAIN: (Chart("Pre-training loss", "nats a token", LOSS),),
    Run.Kind.SFT: (Chart("SFT loss", "nats a token", LOSS),),
    Run.Kind.REWARD: (
        Chart(
            "Reward model accuracy",
            COMPARISONS,
            (*ACCURACY, Series("held-out labelers", "reward/accuracy", "labelers")),
        ),
    ),
    Run.Kind.PPO: (
        Chart("PPO score", "score", _both("objective/scores")),
        Chart("KL to the SFT policy", "nats an answer", (Series("KL", "objective/kl"),)),
        Chart("Entropy", "nats a token", (Series("entropy", "policy/entropy"),)),
        Chart("Length", "tokens an answer", (Series("length", "response/length"),)),
    ),
    Run.Kind.DPO: (
        Chart("DPO accuracy", COMPARISONS, ACCURACY),
        Chart("DPO loss", "nats a comparison", (Series("training", "loss"),)),
    ),
    Run.Kind.KTO: (
        Chart("KTO accuracy", "share of thumbs", ACCURACY),
        Chart("KTO: distance to where it began", "nats an answer", (Series("KL", "objective/kl"),)),
    ),
}


@dataclass(frozen=True)
class Level:
    """A line to measure the others by."""

    label: str
    value: float


@dataclass(frozen=True)
class Figure:
    """A chart with its numbers in words, for those who see no drawing."""

    chart: Chart
    captions: list[str]
    levels: list[Level]

    @property
    def is_empty(self) -> bool:
        return not self.captions

    @property
    def definition(self) -> dict[str, Any]:
        return {**asdict(self.chart), "levels": [asdict(level) for level in self.levels]}


def rows_of(run: Run, *, after: int = -1) -> list[dict[str, Any]]:
    """The drawn numbers of the steps after `after`; of a long run, of steps spread evenly."""
    drawn = [series for chart in CHARTS.get(run.kind, ()) for series in chart.series]
    wanted, splits = {each.metric for each in drawn}, sorted({each.split for each in drawn})
    return [
        {
            "step": metric.step,
            "split": metric.split,
            "values": {name: metric.values.get(name) for name in wanted & set(metric.values)},
        }
        for metric in Metric.objects.thinned(run, splits=splits, after=after)
    ]


def figures_of(run: Run) -> list[Figure]:
    rows, levels = rows_of(run), levels_of(run)
    return [
        Figure(chart, _captions(chart, rows, levels), levels) for chart in CHARTS.get(run.kind, ())
    ]


def levels_of(run: Run) -> list[Level]:
    """How often people agree with each other: a reward model that agrees with them more often has
    probably seen the answers."""
    snapshot = snapshot_of(run)
    if run.kind != Run.Kind.REWARD or snapshot is None or snapshot.agreement is None:
        return []
    return [Level("people", snapshot.agreement)]


def _captions(chart: Chart, rows: list[dict[str, Any]], levels: list[Level]) -> list[str]:
    """None, as long as there is no line to draw."""
    lines = [said for series in chart.series if (said := _caption(series, rows))]
    return lines and [*lines, *(f"{level.label}: {_short(level.value)}" for level in levels)]


def _caption(series: Series, rows: list[dict[str, Any]]) -> str:
    points = [
        (row["step"], value)
        for row in rows
        if row["split"] == series.split and (value := row["values"].get(series.metric)) is not None
    ]
    if not points:
        return ""
    (first_step, first), (last_step, last) = points[0], points[-1]
    if len(points) == 1:
        return f"{series.label}: {_short(first)} at step {first_step}"
    return (
        f"{series.label}: {_short(first)} at step {first_step}, {_short(last)} at step {last_step}"
    )


def _short(value: float) -> str:
    return "0" if abs(value) < 1e-4 else f"{value:.3g}"
