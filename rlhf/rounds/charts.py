"""What of a run is drawn: its numbers, the charts of its stage and those that somebody has chosen,
and the same in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from rlhf.models.metrics import MOST_POINTS, Metric
from rlhf.models.runs import Run
from rlhf.runs.alarms import PREFIX as ALARM
from rlhf.runs.alarms import alarms_of
from rlhf.stages import STAGES
from rlhf.stages.chart import Chart, Level, Series

IN_WORDS = 40  # points of a long line that are read to say where it begins and ends
DIGITS = 6  # of a number that is drawn
MOST_NUMBERS = 12_000  # that are sent at once: about 150 kB
LOW, HIGH = "_low", "_high"  # how the ends of an interval are named


@dataclass(frozen=True)
class Mark:
    """An alarm where it rang: the first step and the last."""

    label: str
    first: int
    last: int


@dataclass(frozen=True)
class Figure:
    """A chart of a run with its numbers in words, for those who see no drawing. `baseline`: the run
    that is drawn beside it, if one is."""

    chart: Chart
    captions: list[str]
    levels: list[Level]
    run: Run
    marks: list[Mark] = field(default_factory=list)
    baseline: Run | None = None

    @property
    def is_empty(self) -> bool:
        return not self.captions

    @property
    def definition(self) -> dict[str, Any]:
        lines = [line_of(each, self.run) for each in self.chart.series]
        if self.baseline and (round := self.baseline.round):
            lines += [
                line_of(each, self.baseline, label=f"{round}, {each.label}", is_baseline=True)
                for each in self.chart.series
            ]
        parts = {name: getattr(self, name) for name in ("levels", "marks")}
        return {
            "title": self.chart.title,
            "unit": self.chart.unit,
            "series": lines,
            **{name: [asdict(each) for each in part] for name, part in parts.items()},
        }


def line_of(series: Series, run: Run, **more: Any) -> dict[str, Any]:
    """Describes a line for the script that draws it."""
    return {**asdict(series), "run": run.pk, **more}


def rows_of(
    run: Run,
    *,
    after: int = -1,
    last: int | None = None,
    more: Collection[str] = (),
    points: int = MOST_POINTS,
) -> list[dict[str, Any]]:
    """Reads what is drawn of the steps after `after` up to `last`, and `more` figures by name, with
    the ends of their intervals; of many steps, of about so many `points` spread evenly."""
    drawn = [series for chart in STAGES[run.kind].charts_of(run) for series in chart.series]
    wanted = {each.metric for each in drawn} | set(more)
    splits = sorted({each.split for each in drawn})
    if more:
        splits = Metric.objects.splits_of(run)
    most = min(points, MOST_NUMBERS // max(len(wanted) * len(splits), 1) + 1)
    return [
        {"step": metric.step, "split": metric.split, "values": _drawn(metric.values, wanted)}
        for metric in Metric.objects.thinned(run, splits=splits, after=after, last=last, most=most)
    ]


def _drawn(values: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    found = {name: _rounded(values[name]) for name in wanted & set(values)}
    for name in list(found):
        if name + LOW in values and name + HIGH in values:
            found[f"{name} low"] = _rounded(values[name + LOW])
            found[f"{name} high"] = _rounded(values[name + HIGH])
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def in_columns(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Turns rows into columns: split → name → a value for each of its steps, null where there is
    none; the steps under "step". The names then go over the wire once."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["split"]].append(row)
    return {
        split: {
            "step": [row["step"] for row in those],
            **{
                name: [row["values"].get(name) for row in those]
                for name in sorted({name for row in those for name in row["values"]})
            },
        }
        for split, those in found.items()
    }


@dataclass(frozen=True)
class Choice:
    """A recorded figure that may get a chart of its own. `value`: how a form names it."""

    value: str
    name: str
    is_chosen: bool


Groups = list[tuple[str, list[Choice]]]


def choices_of(run: Run, chosen: Collection[str]) -> Groups:
    """Lists every figure that a run has recorded, by what stands before the slash."""
    recorded = Metric.objects.names_of(run)
    names = {name for those in recorded.values() for name in those if _has_a_chart(name)}
    groups: dict[str, list[Choice]] = defaultdict(list)
    for name in sorted(names):
        group = name.partition("/")[0] if "/" in name else "training"
        value = f"{run.kind}:{name}"
        groups[group].append(Choice(value, name, value in chosen))
    return sorted(groups.items())


def _has_a_chart(name: str) -> bool:
    return not name.startswith(ALARM) and not name.endswith((LOW, HIGH))


def chosen_in(kind: str, chosen: Collection[str]) -> list[str]:
    """Names the figures that were chosen of a kind of run."""
    return [each.partition(":")[2] for each in chosen if each.partition(":")[0] == kind]


def chosen_charts(run: Run, chosen: Collection[str]) -> list[Chart]:
    """Makes a chart for each figure that was chosen, a line for each split that has it."""
    recorded = Metric.objects.names_of(run) if chosen else {}
    charts = []
    for name in chosen:
        splits = [split for split, names in recorded.items() if name in names]
        if splits:
            lines = tuple(Series(SPLITS.get(each, each), name, each) for each in splits)
            charts.append(Chart(name, "", lines))
    return charts


SPLITS = {"train": "training", "test": "held out"}


def figures_of(
    run: Run, *, chosen: Collection[str] = (), baseline: Run | None = None
) -> list[Figure]:
    """Draws every chart of the run's stage, and one of each figure that was `chosen`; beside a run
    of another round, if there is a `baseline`."""
    stage = STAGES[run.kind]
    # Words need the ends of a line, and no more of a long one.
    points = MOST_POINTS if run.step <= MOST_POINTS else IN_WORDS
    rows, levels = rows_of(run, more=chosen, points=points), stage.levels(run)
    marks = [Mark(each.what, each.first, each.last) for each in alarms_of(run)]
    own = [(chart, levels) for chart in stage.charts_of(run)]
    more: list[tuple[Chart, list[Level]]] = [(chart, []) for chart in chosen_charts(run, chosen)]
    return [
        Figure(chart, _captions(chart, rows, level), level, run, marks, baseline)
        for chart, level in [*own, *more]
    ]


def _captions(chart: Chart, rows: list[dict[str, Any]], levels: list[Level]) -> list[str]:
    """None, as long as there is no line to draw."""
    lines = [line for series in chart.series if (line := caption_of(series, rows))]
    return lines and [*lines, *(f"{level.label}: {_short(level.value)}" for level in levels)]


def caption_of(series: Series, rows: list[dict[str, Any]]) -> str:
    """Says where a line begins and ends; "" where there is none."""
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
