"""Playground: prompts × ways of prompting, side by side; what works becomes a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import pluralize
from django.urls import path
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, Role, grid_for, policy_for, project_for
from annotate.audit.recording import about
from annotate.ids import id_in
from annotate.labelling.queue import rank_grid
from annotate.labels.kinds import KINDS
from annotate.people.models import Project
from annotate.playground.cells import Cell
from annotate.playground.column_forms import (
    ColumnForm,
    RuleForm,
    columns_of,
    initial_columns,
    text_of,
    words_of,
)
from annotate.playground.export import FORMATS, export
from annotate.playground.forms import RowsForm, RulesForm, initial_rows
from annotate.playground.grids import MOST_COLUMNS, Grid
from annotate.playground.outcome import Measured, Progress, progress_of
from annotate.playground.own_rules import OwnRule
from annotate.playground.rules import RULES, rules_of, tried, try_rules
from annotate.playground.shown import DiffForm, ShownForm
from annotate.text.diff import changes
from annotate.work.tasks import Task
from feedback_site.answer_checks import CHECKS

CELLS_SHOWN = 80  # on one page of a grid
DIFFS_SHOWN = 20  # rows
LONGEST_SHOWN = 500  # characters of an answer, and of a prompt, on it


@require_http_methods(["GET", "POST"])
def playground(request: Request, slug: str) -> HttpResponse:
    """A new grid: from nothing, from an earlier one (?grid=), or from a policy (?policy=)."""
    project = project_for(request, slug, Role.OPERATOR)
    earlier = id_in(request.GET.get("grid"))
    again = grid_for(request, slug, earlier) if earlier else None
    if request.method == "POST":
        rows = RowsForm(project, request.POST, request.FILES, again=again)
        columns = columns_of(project, request.POST)
        if "another" not in request.POST and (grid := _laid_out(request, project, rows, columns)):
            return redirect("playground_grid", slug, grid.pk)
    else:
        rows = RowsForm(project, initial=initial_rows(again), again=again)
        columns = _filled_in(request, project, again)
    context = {
        "project": project,
        "form": rows,
        "columns": columns,
        "may_add": len(columns) < MOST_COLUMNS,
        "checks": [(each.name, each.setting, each.meaning) for each in CHECKS.values()],
        "has_models": project.policies.sampleable().exists(),
        "grids": project.grids.by_hand().select_related("author")[:10],
    }
    refused = rows.is_bound and "another" not in request.POST
    return render(request, "annotate/playground.html", context, status=422 if refused else 200)


def _laid_out(
    request: Request, project: Project, rows: RowsForm, columns: list[ColumnForm]
) -> Grid | None:
    used = [form for form in columns if form["weights"].value()]
    if not used:
        rows.add_error(None, "Choose the model of at least one column.")
    if not (rows.is_valid() and False not in [form.is_valid() for form in used]):
        return None
    try:
        return Grid.lay_out(
            project=project,
            author=request.user,
            columns=[form.column() for form in used],
            **rows.asked(),
        )
    except ValidationError as error:
        rows.add_error(None, error)
        return None


def _filled_in(request: Request, project: Project, again: Grid | None) -> list[ColumnForm]:
    if again:
        columns = [{**each, "few_shot": text_of(each["few_shot"])} for each in again.columns]
        return initial_columns(project, columns)
    named = id_in(request.GET.get("policy"))
    chosen = policy_for(request, project.slug, named) if named else None
    chosen = chosen or project.policies.live().first()
    return initial_columns(project, [words_of(chosen)] * 2 if chosen else [])


@require_http_methods(["GET", "POST"])
def rules(request: Request, slug: str) -> HttpResponse:
    """Which rules of prompting help which model."""
    project = project_for(request, slug, Role.OPERATOR)
    act = request.POST.get("act", "try")
    if act == "remove":
        project.rules.named(request.POST.get("name", "")).delete()
        return redirect("playground_rules", slug)
    own = RuleForm(request.POST if act == "keep" else None)
    if act == "keep" and _kept_rule(request, project, own):
        return redirect("playground_rules", slug)
    form = RulesForm(project, request.POST if request.POST and act == "try" else None)
    if request.method == "POST" and form.is_valid():
        chosen, samples = form.cleaned_data["policies"], form.cleaned_data["samples"] or 1
        try_rules(project, author=request.user, policies=chosen, samples=samples)
        return redirect("playground_rules", slug)
    policies, lines = tried(project)
    context = {
        "project": project,
        "form": form,
        "policies": policies,
        "lines": lines,
        "rules": rules_of(project),
        "own": own,
        "own_names": list(project.rules.values_list("name", flat=True)),
        "is_over": all(each is None or each.is_over for _, row in lines for each in row),
    }
    status = 422 if form.errors or own.errors else 200
    return render(request, "annotate/rules.html", context, status=status)


def _kept_rule(request: Request, project: Project, form: RuleForm) -> OwnRule | None:
    if not form.is_valid():
        return None
    given = form.cleaned_data
    if given["name"] in [each.name for each in RULES]:
        form.add_error("name", "A built-in rule has this name. Choose another.")
        return None
    try:
        kept = OwnRule.keep(project=project, author=request.user, **given)
    except ValidationError as error:
        form.add_error(None, error)
        return None
    about(kept)
    messages.success(request, f"“{kept}” is a rule now. Try it on a model.")
    return kept


@dataclass(frozen=True)
class Place:
    """A cell as it is shown: its samples, and what their checks say together."""

    row: int
    column: int
    cells: list[Cell]
    scores: list[tuple[str, float]]

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
        "ticked": ticked(request) or (),
        "formats": FORMATS,
        **_progress(grid, progress_of(grid), here),
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
    for cell in grid.cells.in_rows(rows).in_short(LONGEST_SHOWN):
        found.setdefault((cell.row, cell.column), []).append(cell)
    return {
        (row, column): Place(row, column, cells, _scores(measured, row, column))
        for (row, column), cells in found.items()
    }


def _scores(measured: Measured, row: int, column: int) -> list[tuple[str, float]]:
    scores = ((name, measured.score(row, column, name)) for name in measured.checks)
    return [(name, score) for name, score in scores if score is not None]


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
    if state.is_over:
        ended = HttpResponse()
        ended["HX-Refresh"] = "true"
        return ended
    here = list(_numbers_in(request.GET.get("rows", "").split(",")[:CELLS_SHOWN]))
    open_before = set(request.GET.get("open", "").split(","))
    places = _places(grid, here, Measured(grid)) if here else {}
    context = {
        **_progress(grid, state, here),
        "fresh": [each for each in places.values() if each.id in open_before and each.is_begun],
        "still_open": _still_open(places.values()),
        "longest": LONGEST_SHOWN,
    }
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
        "names": [f"Column {each + 1}" for each in columns],
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
        "cells": list(cells.select_related("grid")),
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


@require_POST
def save(request: Request, slug: str, grid_id: int, column: int) -> HttpResponse:
    """Makes a column a policy, which can be sampled, ranked and promoted like any other."""
    grid = grid_for(request, slug, grid_id)
    if column >= len(grid.columns):
        raise Http404("The grid doesn't have this column.")
    try:
        policy = grid.save_column(column, name=request.POST.get("name", ""))
    except ValidationError as error:
        return grid_page(request, grid, status=422, trouble=" ".join(error.messages))
    messages.success(request, f"{policy} is now a policy.")
    return redirect("playground_grid", slug, grid.pk)


@require_POST
def keep(request: Request, slug: str, grid_id: int, column: int) -> HttpResponse:
    """Keeps the words of a column as a template, or as its next version."""
    grid = grid_for(request, slug, grid_id)
    if column >= len(grid.columns):
        raise Http404("The grid doesn't have this column.")
    try:
        kept = grid.keep_template(
            column,
            name=request.POST.get("name", "")[:60],
            author=request.user,
            note=request.POST.get("note", "")[:200],
        )
    except ValidationError as error:
        return grid_page(request, grid, status=422, trouble=" ".join(error.messages))
    about(kept)
    messages.success(request, f"“{kept}” is kept.")
    return redirect("playground_grid", slug, grid.pk)


def ticked(request: Request) -> set[int] | None:
    """The rows that are ticked; None for all."""
    return set(_numbers_in(request.POST.getlist("row"))) or None


@require_POST
def rank(request: Request, slug: str, grid_id: int) -> HttpResponse:
    """Sends the answers to the labelers, who do not see where they come from."""
    grid = grid_for(request, slug, grid_id)
    try:
        made = rank_grid(grid, ticked(request))
    except ValidationError as error:
        return grid_page(request, grid, status=422, trouble=" ".join(error.messages))
    if made:
        messages.success(request, f"{made} ranking task{'s' if made > 1 else ''} opened.")
    else:
        messages.info(request, "Labelers already have all answers of this grid.")
    return redirect("playground_grid", slug, grid.pk)


@require_POST
def write(request: Request, slug: str, grid_id: int) -> HttpResponse:
    """Has people write answers to the prompts, which become prompts of the project."""
    grid = grid_for(request, slug, grid_id)
    prompts = grid.store_prompts(ticked(request))
    made = KINDS[Task.Kind.WRITE].open_tasks(grid.project, prompts, f"grid {grid.pk}")
    if made:
        messages.success(request, f"{made} writing task{'s' if made > 1 else ''} opened.")
    else:
        messages.info(request, "Labelers already have these prompts to write about.")
    return redirect("playground_grid", slug, grid.pk)


@require_GET
def download(request: Request, slug: str, grid_id: int, format: str) -> StreamingHttpResponse:
    grid = grid_for(request, slug, grid_id)
    if format not in FORMATS:
        raise Http404("Nothing is exported in this format.")
    # Whole before the first byte leaves: an error must not cut a file short.
    response = StreamingHttpResponse(list(export(grid, format)), content_type=FORMATS[format])
    name = f"{grid.project.slug}-grid-{grid.pk}.{format}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


of_grid = [
    path("", grid, name="playground_grid"),
    path("progress/", progress, name="playground_progress"),
    path("diff/", diff, name="playground_diff"),
    path("cells/<int:row>/<int:column>/", cell, name="playground_cell"),
    path("columns/<int:column>/save/", save, name="playground_save"),
    path("columns/<int:column>/template/", keep, name="playground_keep"),
    path("cancel/", cancel, name="playground_cancel"),
    path("resume/", resume, name="playground_resume"),
    path("rank/", rank, name="playground_rank"),
    path("write/", write, name="playground_write"),
    path("answers.<slug:format>", download, name="playground_download"),
]
