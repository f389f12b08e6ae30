"""Models grade the answers of grids, where a check of the grid asks for it: judges, and the
project's embedding model."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from annotate.chat.inference import InferenceError
from annotate.documents.embedding import NoVector, likeness
from annotate.judges.opinions import UNREADABLE, CannotJudge, judge_of, opinion_of
from annotate.playground.asking import AT_ONCE, SLICE_SECONDS
from annotate.playground.cells import Cell
from annotate.playground.grids import Grid
from feedback_site.answer_checks.exact import Means
from feedback_site.answer_checks.judge import Judged
from feedback_site.pool import release_connections


def judge_cells_for_a_while(seconds: float = SLICE_SECONDS) -> int:
    """Has answers judged that wait for it, of the oldest such grid, and returns how many; begins
    none after so many seconds."""
    first = Cell.objects.unjudged().order_by("grid_id").first()
    if first is None:
        return 0
    grid = Grid.objects.select_related("project").get(pk=first.grid_id)
    until, done = time.monotonic() + seconds, 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while time.monotonic() < until:
            cells = list(grid.cells.unjudged().order_by("pk")[:AT_ONCE])
            if not cells:
                break
            done += len(list(pool.map(lambda cell: _judge(grid, cell), cells)))
    return done


def _judge(grid: Grid, cell: Cell) -> None:
    """Trouble with a model takes nothing from the answer: its score is missing, and why is said."""
    cell.grid = grid
    reference = grid.row(cell.row).reference
    scores, troubles = {}, []
    for name, check in grid.named_checks().items():
        try:
            if isinstance(check, Judged):
                scores[name] = _verdict(grid, check, cell, reference)
            elif isinstance(check, Means) and reference:
                scores[name] = check.score_of(likeness(grid.project, cell.text, reference))
        except (CannotJudge, InferenceError, NoVector) as error:
            troubles.append(str(error))
    try:
        cell.judge(scores, trouble=" ".join(troubles))
    finally:
        release_connections()


def _verdict(grid: Grid, check: Judged, cell: Cell, reference: str) -> float:
    found = opinion_of(judge_of(grid.project, check), cell.said, cell.text, reference)
    if not found.said:
        raise CannotJudge(UNREADABLE)
    return check.score_of(found.said)
