"""All rounds of a project in one table: what was chosen in each, how it ended, and who prefers its
policy to one and the same other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.models import Policy, Project
from rlhf.registry.verdict import Verdict, Verdicts
from rlhf.rounds.report import RoundReport, reports_of
from rlhf.rounds.settings import chosen_for
from rlhf.stages import TRAININGS


@dataclass(frozen=True)
class Row:
    """`changes`: [(setting, value)] that were chosen otherwise than in the recipe. `verdict`: on
    the newest policy that came out of it, against the one that all rows are measured by."""

    report: RoundReport
    changes: list[tuple[str, str]]
    verdict: Verdict | None

    @property
    def number(self) -> int:
        return self.report.round.number

    @property
    def people(self) -> float | None:
        rate = self.verdict.people if self.verdict else None
        return rate.overall.win_rate if rate else None

    @property
    def reward_model(self) -> float | None:
        rate = self.verdict.reward_model if self.verdict else None
        return rate.win_rate if rate else None

    def says(self, words: str) -> bool:
        """Tells whether these words stand in what people wrote about it, or in its names."""
        round = self.report.round
        said = [str(round), round.name, round.note, *round.tags, round.launched_by.display_name]
        return words.casefold() in " ".join([*said, self.report.output]).casefold()


SORTS: dict[str, Callable[[Row], Any]] = {
    "round": lambda row: row.number,
    "state": lambda row: row.report.state,
    "people": lambda row: row.people,
    "reward_model": lambda row: row.reward_model,
    "took": lambda row: row.report.seconds,
    "launched": lambda row: row.report.round.created_at,
}


@dataclass(frozen=True)
class Table:
    """`against`: the policy that all are measured by; None where there is none to choose."""

    rows: list[Row]
    against: Policy | None
    total: int

    @property
    def is_under_way(self) -> bool:
        return any(not row.report.is_over for row in self.rows)


def table_of(
    project: Project,
    *,
    q: str = "",
    state: str = "",
    tag: str = "",
    against: Policy | None = None,
    sort: str = "",
) -> Table:
    """Lists the rounds that meet all of what is asked for. `sort`: one of SORTS, with a leading
    "-" from the greatest down; what has no value comes last either way."""
    verdicts = Verdicts(project)
    reference = against or verdicts.live
    reports = reports_of(project, verdicts)
    rows = [_row(report, verdicts, reference) for report in reports]
    found = [
        row
        for row in rows
        if row.says(q)
        and state in ("", row.report.state)
        and (not tag or tag in row.report.round.tags)
    ]
    return Table(_sorted(found, sort or "-round"), reference, len(rows))


def _row(report: RoundReport, verdicts: Verdicts, reference: Policy | None) -> Row:
    policy = next((p for p in verdicts.policies.values() if p.name == report.output), None)
    verdict = None
    if policy and reference and policy.pk != reference.pk:
        verdict = verdicts.between(policy, reference)
    return Row(report, _changes(report), verdict if verdict and verdict.is_known else None)


def _changes(report: RoundReport) -> list[tuple[str, str]]:
    return [
        (f"{run.get_kind_display()} {name.replace('_', ' ')}", str(value))
        for run in report.runs
        if run.kind in TRAININGS
        for fields in chosen_for(run).values()
        for name, value in fields.items()
    ]


def _sorted(rows: Sequence[Row], sort: str) -> list[Row]:
    key = SORTS.get(sort.removeprefix("-"), SORTS["round"])
    known = [row for row in rows if key(row) is not None]
    unknown = [row for row in rows if key(row) is None]
    return [*sorted(known, key=key, reverse=sort.startswith("-")), *unknown]
