"""Rounds side by side: what was chosen differently, how they ended, and their curves in one
drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.models.runs import Round, Run
from rlhf.registry.verdict import Verdicts
from rlhf.rounds.charts import rows_of
from rlhf.rounds.report import RoundReport, report_on
from rlhf.stages import STAGES, TRAININGS

MOST = 8  # as many as there are colours to tell them apart


@dataclass(frozen=True)
class Difference:
    name: str
    values: list[str]


def compare_rounds(rounds: Sequence[Round]) -> dict[str, Any]:
    verdicts = Verdicts(rounds[0].project) if rounds else None
    reports = [report_on(round, verdicts=verdicts) for round in rounds]
    return {
        "reports": reports,
        "differences": differences(reports),
        "figures": figures(reports),
    }


def differences(reports: Sequence[RoundReport]) -> list[Difference]:
    """Fields that are not the same in all that have them. That a stage is missing is said once,
    among the stages, and not again for each of its fields."""
    chosen = [_fields(report) for report in reports]
    names = dict.fromkeys(name for fields in chosen for name in fields)
    unlike = [name for name in names if len({each[name] for each in chosen if name in each}) > 1]
    return [Difference(name, [fields.get(name, "–") for fields in chosen]) for name in unlike]


def colours(rounds: Sequence[Round]) -> dict[int, int]:
    """Number of a round → its colour, 0 to MOST - 1: the same in every chart and beside whatever
    others, but where two of them would share one."""
    found: dict[int, int] = {}
    for number in sorted(round.number for round in rounds):
        free = (
            colour
            for off in range(MOST)
            if (colour := (number - 1 + off) % MOST) not in found.values()
        )
        found[number] = next(free, (number - 1) % MOST)
    return found


def _fields(report: RoundReport) -> dict[str, str]:
    fields = {
        "Base policy": str(report.round.base),
        "Recipe": report.round.recipe,
        "Stages": " → ".join(run.get_kind_display() for run in report.runs),
    }
    for name, value in report.round.filters.items():
        if name != "until":  # the moment of the launch
            fields[f"Labels: {name.replace('_', ' ')}"] = _in_words(value)
    for run in report.runs:
        if run.kind in TRAININGS:
            for part in ("tune", "train"):
                for name, value in run.chosen.get(part, {}).items():
                    fields[f"{run.get_kind_display()} {name.replace('_', ' ')}"] = _in_words(value)
    return fields


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def figures(reports: Sequence[RoundReport]) -> list[dict[str, Any]]:
    """Draws each chart that at least one of them has numbers for, a line a round: of the held-out
    data where there is some, else of the training."""
    runs: dict[str, list[tuple[RoundReport, Run]]] = {}
    for report in reports:
        for run in report.runs:
            runs.setdefault(run.kind, []).append((report, run))
    colour = colours([report.round for report in reports])
    rows = {run.pk: rows_of(run) for each in runs.values() for _, run in each}
    drawings = []
    for kind, stage in STAGES.items():
        for chart in stage.charts:
            series, points = [], []
            for report, run in runs.get(kind, []):
                line = next(
                    (each for each in reversed(chart.series[:2]) if _has(rows[run.pk], each)), None
                )
                if line is None:
                    continue
                name = f"{run.pk}"
                series.append(
                    {
                        "label": str(report.round),
                        "metric": name,
                        "split": line.split,
                        "colour": colour[report.round.number],
                    }
                )
                points += [
                    {**row, "values": {name: row["values"].get(line.metric)}}
                    for row in rows[run.pk]
                    if row["split"] == line.split
                ]
            if series:
                drawing = {"title": chart.title, "unit": chart.unit, "series": series}
                drawings.append({**drawing, "rows": points})
    return drawings


def _has(rows: list[dict[str, Any]], series: Any) -> bool:
    return any(
        row["split"] == series.split and row["values"].get(series.metric) is not None
        for row in rows
    )
