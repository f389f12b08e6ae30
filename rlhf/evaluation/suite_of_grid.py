"""What was tried in the playground becomes a suite: each row a probe, with the checks of its
grid."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from django.core.exceptions import ValidationError

from annotate.models import Grid
from feedback_site.answer_checks.check import Check
from feedback_site.answer_checks.judge import Judged
from rlhf.models.probes import written
from rlhf.models.suites import Suite

MOST_TOLD = 5  # rows that cannot be asked by a suite


def save_as_suite(grid: Grid, rows: Collection[int] | None, *, name: str) -> tuple[Suite, int]:
    """Adds these rows, or all, to the suite of that name, which is made if there is none. Returns
    it and how many of its lines are new. Raises ValidationError where a row cannot be a probe, and
    then adds none."""
    if not name:
        raise ValidationError("Give the suite a name.")
    if grid.partner != Grid.Partner.SCRIPT:
        raise ValidationError("A suite asks the user's turns as written. Here they are played.")
    lines, problems = [], []
    for number in range(len(grid.asked)) if rows is None else sorted(rows):
        if number < len(grid.asked):
            try:
                lines.append(_line(grid, number))
            except ValidationError as error:
                said = error.messages[0].removeprefix("Line 1: ")
                problems.append(f"Row {number + 1}: {said}")
    if problems:
        more = len(problems) - MOST_TOLD
        rest = [f"And {more} more."] if more > 0 else []
        raise ValidationError([*problems[:MOST_TOLD], *rest])
    return Suite.add(grid.project, name=name, lines=lines)


def _line(grid: Grid, number: int) -> str:
    row = grid.row(number)
    if any(each["role"] != "user" for each in row.messages):
        raise ValidationError("it begins with earlier answers, and a suite has the model give all.")
    checks = [each for each in grid.named_checks().values() if _is_for_suites(each)]
    if not checks:
        raise ValidationError("the grid has no check that a suite knows. Ask again with one.")
    compares = any(each.needs_reference for each in checks)
    turns = [each["content"] for each in row.messages] + row.then
    return written(turns, ", ".join(_named(checks)), row.reference if compares else "")


def _is_for_suites(check: Check) -> bool:
    return not check.rests_on or isinstance(check, Judged)


def _named(checks: list[Check]) -> Iterator[str]:
    for check in checks:
        setting = " ".join(check.given.splitlines())
        yield f"{check.name}({setting})" if setting else check.name
