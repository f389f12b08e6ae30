"""A grid while it is answered and afterwards: prompts × ways of prompting, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import pluralize
from django.urls import path, reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, grid_for
from annotate.ids import id_in
from annotate.playground.cells import Cell
from annotate.playground.export import FORMATS
from annotate.playground.grids import Grid
from annotate.playground.outcome import Measured, Progress, progress_of
from annotate.playground.shown import DiffForm, ShownForm
from annotate.text.diff import changes

CELLS_SHOWN = 80  # on one page of a grid
DIFFS_SHOWN = 20  # rows
LONGEST_SHOWN = 500  # characters of an answer, and of a prompt, on it


@dataclass(frozen=True)
class Place:
    """A cell as it is shown: its samples, and what their checks say together."""

    row: int
    column: int
    cells: list[Cell]
    scores: list[tuple[str, str, float]]  # the check, as it is written, and its score
    name: str = ""  # of the column

    @property
    def id(self) -> str:
        return f"cell-{self.row}-{self.column}"

    @property
    def is_open(self) -> bool:
        open_states = (Cell.State.WAITING, Cell.State.ASKING)
        return any(each.state in open_states or each.unjudged for each in self.cells)

    @property
    def is_begun(self) -> bool:
        return any(each.state != Cell.State.WAITING for each in self.cells)


@require_GET
def grid(request: Request, slug: str, grid_id: int) -> HttpResponse:
    return grid_page(request, grid_for(request, slug, grid_id))


def grid_page(
    request: Request, grid: Grid, *, status: int = 200, trouble: str = ""
) -> HttpResponse:
    """The page of a grid, with what is wrong with a request that came from it."""
    # Read before the cells: one that ends in between is asked for once more.
    state = progress_of(grid)
    measured = Measured(grid)
    shown = ShownForm(grid, request.GET)
    numbers = _numbers(grid, measured, shown)
    size = max(1, CELLS_SHOWN // (len(grid.columns) * grid.samples))
    last = max(0, (len(numbers) - 1) // size)
    page = min(max(0, (id_in(request.GET.get("page")) or 1) - 1), last)
    here = numbers[page * size : (page + 1) * size]
    templates = grid.templates()
    columns = [
        {
            "number": i,
            "words": grid.column(i),
            "policy": policy,
            "outcome": outcome,
            "template": templates.get(i),
            "has_new_words": grid.has_words(i) and i not in templates,
        }
        for i, (policy, outcome) in enumerate(
            zip(grid.policies(), measured.outcomes(), strict=True)
        )
    ]
    rows = list(_rows(grid, measured, here))
    context = {
        "project": grid.project,
        "grid": grid,
        "columns": columns,
        "rows": rows,
        "still_open": _still_open(place for row in rows for place in row["cells"]),
        "shown": shown,
        "found": len(numbers),
        "page": page + 1,
        "pages": last + 1,
        "longest": LONGEST_SHOWN,
        "trouble": trouble,
        "ticked": set(_numbers_in(request.POST.getlist("row"))),
        "formats": FORMATS,
        **_progress(grid, state, here),
    }
    return render(request, "annotate/grid.html", context, status=status)


def _numbers(grid: Grid, measured: Measured, shown: ShownForm) -> list[int]:
    """The rows that are asked for, in the order in which they are."""
    numbers = list(range(len(grid.asked)))
    if sort := shown.asked("sort"):
        numbers = measured.sorted_by(sort, shown.asked("column") or 0)
        if shown.asked("down"):
            numbers = numbers[::-1]
    if show := shown.asked("show"):
        among = set(getattr(measured, show)())
        numbers = [number for number in numbers if number in among]
    if words := (shown.asked("words") or "").strip():
        said = set(grid.cells.saying(words).values_list("row", flat=True).distinct())
        said |= {n for n, row in enumerate(grid.rows) if words.casefold() in row.text.casefold()}
        numbers = [number for number in numbers if number in said]
    return numbers


def _rows(grid: Grid, measured: Measured, here: list[int]) -> Iterator[dict[str, Any]]:
    places = _places(grid, here, measured)
    rows = grid.rows
    for number in here:
        cells = [places[number, column] for column in range(len(grid.columns))]
        yield {"number": number, "row": rows[number], "cells": cells}


def _places(grid: Grid, rows: list[int], measured: Measured) -> dict[tuple[int, int], Place]:
    found: dict[tuple[int, int], list[Cell]] = {}
    names = grid.names()
    for cell in grid.cells.in_rows(rows).in_short(LONGEST_SHOWN):
        found.setdefault((cell.row, cell.column), []).append(cell)
    return {
        (row, column): Place(row, column, cells, _scores(measured, row, column), names[column])
        for (row, column), cells in found.items()
    }


def _scores(measured: Measured, row: int, column: int) -> list[tuple[str, str, float]]:
    scores = (
        (name, written, measured.score(row, column, name))
        for name, written in measured.grid.written_checks().items()
    )
    return [(name, written, score) for name, written, score in scores if score is not None]


def _progress(grid: Grid, progress: Progress, here: list[int]) -> dict[str, Any]:
    """What the line of progress shows, and asks for again."""
    return {
        "grid": grid,
        "project": grid.project,
        "progress": progress,
        "rows_here": ",".join(map(str, here)),
    }


def _still_open(places: Iterable[Place]) -> str:
    return ",".join(place.id for place in places if place.is_open)


@require_GET
def progress(request: Request, slug: str, grid_id: int) -> HttpResponse:
    """How far it is, with the cells of the page that were answered since the last time, and those
    that are answering."""
    grid = grid_for(request, slug, grid_id)
    state = progress_of(grid)
    here = list(_numbers_in(request.GET.get("rows", "").split(",")[:CELLS_SHOWN]))
    open_before = set(request.GET.get("open", "").split(","))
    places = _places(grid, here, Measured(grid)) if here else {}
    context = {
        **_progress(grid, state, here),
        "fresh": [each for each in places.values() if each.id in open_before and each.is_begun],
        "still_open": _still_open(places.values()),
        "longest": LONGEST_SHOWN,
    }
    if state.is_over:
        outcomes = enumerate(Measured(grid).outcomes())
        context["measured"] = [{"number": i, "outcome": outcome} for i, outcome in outcomes]
    return render(request, "annotate/_grid_progress.html", context)


@require_GET
def diff(request: Request, slug: str, grid_id: int) -> HttpResponse:
    """Two columns word by word: what is gone from the first, and new in the second."""
    grid = grid_for(request, slug, grid_id)
    form = DiffForm(grid, request.GET)
    pages = Paginator(range(len(grid.asked)), DIFFS_SHOWN)
    page = pages.get_page(request.GET.get("page"))
    columns = form.columns
    said = grid.cells.answered().first_samples().in_columns(columns).in_rows([*page.object_list])
    texts = {(each.row, each.column): each.text for each in said}
    rows = grid.rows
    context = {
        "project": grid.project,
        "grid": grid,
        "form": form,
        "page": page,
        "names": [grid.names()[each] for each in columns],
        "longest": LONGEST_SHOWN,
        "rows": [
            {
                "number": n,
                "row": rows[n],
                "changes": _changes(*(texts.get((n, c)) for c in columns)),
            }
            for n in page.object_list
        ],
    }
    return render(request, "annotate/grid_diff.html", context)


def _changes(one: str | None, other: str | None) -> list[tuple[str, str]] | None:
    """None where an answer is missing."""
    return None if one is None or other is None else changes(one, other)


def rows_meant(request: Request, grid: Grid) -> set[int] | None:
    """The rows that are ticked, or else those that the page shows; None for all."""
    if ticked := set(_numbers_in(request.POST.getlist("row"))):
        return ticked
    shown = ShownForm(grid, request.GET)
    if not (shown.asked("show") or shown.asked("words")):
        return None
    return set(_numbers(grid, Measured(grid), shown))


def back_to(request: Request, grid: Grid) -> HttpResponse:
    """The page of the grid, with the rows that it showed."""
    address = reverse("playground_grid", args=[grid.project.slug, grid.pk])
    query = request.GET.urlencode()
    return redirect(f"{address}?{query}" if query else address)


def _numbers_in(texts: Iterable[str]) -> Iterator[int]:
    return (int(each) for each in texts if each.isdecimal() and len(each) < 6)


@require_http_methods(["GET", "POST"])
def cell(request: Request, slug: str, grid_id: int, row: int, column: int) -> HttpResponse:
    """All that was said in a cell; a POST has it asked again where it has no answer."""
    grid = grid_for(request, slug, grid_id)
    if row >= len(grid.asked) or column >= len(grid.columns):
        raise Http404("The grid doesn't have this cell.")
    cells = grid.cells.in_rows([row]).in_columns([column])
    if request.method == "POST":
        if cells.ask_again():
            grid.ring()
        return redirect("playground_grid", slug, grid.pk)
    context = {
        "project": grid.project,
        "grid": grid,
        "row": row,
        "column": column,
        "asked": grid.row(row),
        "policy": grid.policy(column),
        "cells": [(each, each.sent) for each in cells.select_related("grid")],
    }
    return render(request, "annotate/grid_cell.html", context)


@require_POST
def cancel(request: Request, slug: str, grid_id: int) -> HttpResponse:
    grid = grid_for(request, slug, grid_id)
    count = grid.cells.cancel()
    messages.success(request, f"Stopped. {count:,} answers were not asked for.")
    return redirect("playground_grid", slug, grid.pk)


@require_POST
def resume(request: Request, slug: str, grid_id: int) -> HttpResponse:
    """Has asked again what ended without an answer."""
    grid = grid_for(request, slug, grid_id)
    count = grid.cells.ask_again()
    if count:
        grid.ring()
        messages.success(request, f"Asking again for {count:,} answer{pluralize(count)}.")
    return redirect("playground_grid", slug, grid.pk)


of_grid = [
    path("", grid, name="playground_grid"),
    path("progress/", progress, name="playground_progress"),
    path("diff/", diff, name="playground_diff"),
    path("cells/<int:row>/<int:column>/", cell, name="playground_cell"),
    path("cancel/", cancel, name="playground_cancel"),
    path("resume/", resume, name="playground_resume"),
]
