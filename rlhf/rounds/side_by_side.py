"""Rounds side by side: what was chosen differently, how they ended, and their curves in one
drawing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from annotate.models import Judge, User
from rlhf.data.staleness import stale_in
from rlhf.models.metrics import Sample
from rlhf.models.outcomes import snapshot_of
from rlhf.models.runs import Round, Run
from rlhf.registry.verdict import Verdicts
from rlhf.rounds.charts import caption_of, chosen_in, line_of, rows_of
from rlhf.rounds.report import Change, RoundReport, beside_the_first, report_on, samples_of
from rlhf.stages import STAGES, TRAININGS
from rlhf.stages.chart import COLOURS, Chart, Series, colours_of, trained_and_held_out

NONE, FILTER, TEACHER = "–", "Labels: ", "Reward model"
WHOSE: dict[str, Any] = {"labelers": User, "held_out_labelers": User, "judges": Judge}
MOST_SAMPLES = 12  # prompts


@dataclass(frozen=True)
class Difference:
    name: str
    values: list[str]


def compare_rounds(rounds: Sequence[Round], chosen: Collection[str] = ()) -> dict[str, Any]:
    """Puts rounds side by side. `chosen`: figures, as kind:name, that are drawn as well."""
    verdicts = Verdicts(rounds[0].project) if rounds else None
    stale = stale_in(rounds[0].project).runs if rounds else []
    reports = [report_on(round, stale, verdicts) for round in rounds]
    return {
        "is_under_way": any(not report.is_over for report in reports),
        "reports": reports,
        "differences": differences(reports),
        "data": data_differences(reports),
        "figures": figures(reports, chosen),
        "samples": samples_beside(reports),
    }


@dataclass(frozen=True)
class SamplesBeside:
    """The last answers of each round to the same fixed prompts: [(prompt, a cell for each round)],
    each in pieces beside that of the first round that answered. `prompts`: how many there are."""

    rounds: list[Round]
    rows: list[tuple[str, list[Change | None]]]
    prompts: int


def samples_beside(reports: Sequence[RoundReport]) -> SamplesBeside | None:
    """Puts the last answers of at least two rounds side by side; the prompts that most of them
    have answered come first."""
    tables = [(report.round, samples_of(report.runs, newest=True)) for report in reports]
    told = [(round, table) for round, table in tables if table is not None]
    if len(told) < 2:
        return None
    answers: dict[str, list[Sample | None]] = {}
    for place, (_, table) in enumerate(told):
        for prompt, [sample] in table.rows:
            answers.setdefault(prompt, [None] * len(told))[place] = sample
    met = sorted(answers.items(), key=lambda each: each[1].count(None))
    rows = [(prompt, list(beside_the_first(those))) for prompt, those in met[:MOST_SAMPLES]]
    return SamplesBeside([round for round, _ in told], rows, len(met))


def differences(reports: Sequence[RoundReport]) -> list[Difference]:
    """Fields that are not the same in all that have them. That a stage is missing is said once,
    among the stages, and not again for each of its fields; a filter that is missing takes all."""
    chosen = [_fields(report) for report in reports]
    names = dict.fromkeys(name for fields in chosen for name in fields)
    unlike = [name for name in names if len(set(_values(name, chosen))) > 1]
    return [Difference(name, [fields.get(name, NONE) for fields in chosen]) for name in unlike]


def _values(name: str, chosen: Sequence[dict[str, str]]) -> list[str]:
    if name.startswith(FILTER) or name == TEACHER:
        return [fields.get(name, NONE) for fields in chosen]
    return [fields[name] for fields in chosen if name in fields]


# Of a snapshot.
LABELS = ("demonstrations", "rankings", "judge_rankings", "feedback", "prompts", "documents")
Labels = dict[str, set[int]]


def data_differences(reports: Sequence[RoundReport]) -> list[Difference]:
    """What each stage learnt from, kind by kind; and how many of it the first round has not (+), or
    has alone (−). What is the same in all is left out."""
    found = []
    for kind, stage in TRAININGS.items():
        held = [_labels(report, kind) for report in reports]
        for name in LABELS:
            sets = [None if each is None else each[name] for each in held]
            if any(sets) and len({None if e is None else frozenset(e) for e in sets}) > 1:
                words = [_beside(sets[0], each) for each in sets]
                found.append(Difference(f"{stage.title}: {name.replace('_', ' ')}", words))
    return found


def _labels(report: RoundReport, kind: str) -> Labels | None:
    """None: the round has no such stage, or its data is not frozen yet."""
    run = next((run for run in report.runs if run.kind == kind), None)
    snapshot = snapshot_of(run) if run else None
    if snapshot is None:
        return None
    return {name: set(getattr(snapshot, name).values_list("pk", flat=True)) for name in LABELS}


def _beside(first: set[int] | None, these: set[int] | None) -> str:
    if these is None:
        return "–"
    if first is None or these == first:
        return f"{len(these)}"
    return f"{len(these)} (+{len(these - first)} −{len(first - these)})"


def changes_since(before: Round, round: Round) -> dict[str, list[Difference]]:
    """Says in which settings and which data a round differs from an earlier one."""
    reports = [report_on(before), report_on(round)]
    return {"differences": differences(reports), "data_changes": data_differences(reports)}


def colours(rounds: Sequence[Round]) -> dict[int, int]:
    """Number of a round → its colour."""
    return colours_of(round.number for round in rounds)


def _fields(report: RoundReport) -> dict[str, str]:
    fields = {
        "Base policy": str(report.round.base),
        "Recipe": report.round.recipe,
        "Stages": " → ".join(run.get_kind_display() for run in report.runs),
    }
    if teacher := report.round.reward_model:
        fields[TEACHER] = teacher.name
    for name, value in report.round.filters.items():
        if name != "until":  # the moment of the launch
            told = _named(name, value) if name in WHOSE else _in_words(value)
            fields[f"{FILTER}{name.replace('_', ' ')}"] = told
    for run in report.runs:
        if run.kind in TRAININGS:
            for part in ("tune", "train"):
                for name, value in run.chosen.get(part, {}).items():
                    fields[f"{run.get_kind_display()} {name.replace('_', ' ')}"] = _in_words(value)
    return fields


def _named(name: str, ids: Sequence[int]) -> str:
    """People and judges by their names."""
    found = WHOSE[name].objects.in_bulk(ids)
    return ", ".join(str(found.get(each, f"{each} (deleted)")) for each in ids) or NONE


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def figures(reports: Sequence[RoundReport], chosen: Collection[str] = ()) -> list[dict[str, Any]]:
    """Draws each chart that at least one of them has numbers for, a line a round: of the held-out
    data where there is some, else of the training. `chosen`: figures, as kind:name, that get a
    chart as well."""
    runs: dict[str, list[tuple[RoundReport, Run]]] = {}
    for report in reports:
        for run in report.runs:
            runs.setdefault(run.kind, []).append((report, run))
    colour = colours([report.round for report in reports])
    drawings = []
    for kind, stage in STAGES.items():
        more = chosen_in(kind, chosen)
        rows = {run.pk: rows_of(run, more=more) for _, run in runs.get(kind, [])}
        wanted = [Chart(name, "", trained_and_held_out(name)) for name in more]
        for chart in [*stage.charts, *wanted]:
            series, captions = [], []
            for report, run in runs.get(kind, []):
                held_out_first = reversed(chart.series[:2])
                line = next((each for each in held_out_first if _has(rows[run.pk], each)), None)
                if line is None:
                    continue
                label = str(report.round)
                look = {
                    "label": label,
                    "colour": colour[report.round.number],
                    "dashed": _is_dashed(report, reports),
                }
                series.append(line_of(line, run, **look))
                captions.append(caption_of(replace(line, label=label), rows[run.pk]))
            if series:
                title = {"title": chart.title, "unit": chart.unit}
                drawings.append({**title, "series": series, "captions": captions})
    return drawings


def _is_dashed(report: RoundReport, reports: Sequence[RoundReport]) -> bool:
    """Tells whether it is a ninth round or one after it: its colour may be an earlier one's."""
    older = [each for each in reports if each.round.number < report.round.number]
    return len(older) >= COLOURS


def _has(rows: list[dict[str, Any]], series: Series) -> bool:
    return any(
        row["split"] == series.split and row["values"].get(series.metric) is not None
        for row in rows
    )
