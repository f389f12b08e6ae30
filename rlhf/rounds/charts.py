"""The numbers of what a run's stage draws, and the same in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rlhf.models.metrics import Metric
from rlhf.models.runs import Run
from rlhf.stages import STAGES
from rlhf.stages.chart import Chart, Level, Series


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
    """Reads the drawn numbers of the steps after `after`; of a long run, of steps spread evenly."""
    drawn = [series for chart in STAGES[run.kind].charts_of(run) for series in chart.series]
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
    """Draws every chart of the run's stage."""
    rows, stage = rows_of(run), STAGES[run.kind]
    levels = stage.levels(run)
    return [Figure(chart, _captions(chart, rows, levels), levels) for chart in stage.charts_of(run)]


def _captions(chart: Chart, rows: list[dict[str, Any]], levels: list[Level]) -> list[str]:
    """None, as long as there is no line to draw."""
    lines = [line for series in chart.series if (line := _caption(series, rows))]
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
    return f"{value:.3g}"
