"""Playground: what is asked, and which ways of prompting."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import Request, Role, grid_for, policy_for, project_to_try_for
from annotate.ids import id_in
from annotate.people.models import Project
from annotate.playground.column_forms import (
    ColumnForm,
    columns_of,
    initial_columns,
    text_of,
    words_of,
)
from annotate.playground.forms import RowsForm, initial_rows
from annotate.playground.grids import MOST_CELLS, MOST_COLUMNS, MOST_OF_LABELERS, Grid
from feedback_site.answer_checks import CHECKS

EARLIER_SHOWN = 10


@require_http_methods(["GET", "POST"])
def playground(request: Request, slug: str) -> HttpResponse:
    """A new grid: from nothing, from an earlier one (?grid=), or from a policy (?policy=)."""
    project = project_to_try_for(request, slug)
    is_operator = request.membership.role == Role.OPERATOR
    earlier = id_in(request.GET.get("grid"))
    again = grid_for(request, slug, earlier) if earlier else None
    if request.method == "POST":
        rows = RowsForm(project, request.POST, request.FILES, again=again, may_choose=is_operator)
        columns = columns_of(project, request.POST)
        if not _is_being_filled_in(request) and (
            grid := _laid_out(request, project, rows, columns)
        ):
            return redirect("playground_grid", slug, grid.pk)
    else:
        rows = RowsForm(project, initial=initial_rows(again), again=again, may_choose=is_operator)
        columns = _filled_in(request, project, again)
    context = {
        "project": project,
        "form": rows,
        "columns": columns,
        "may_add": len(columns) < MOST_COLUMNS,
        "checks": [(each.name, each.setting, each.meaning) for each in CHECKS.values()],
        "has_models": project.policies.sampleable().exists(),
        "page": Paginator(_earlier(request, project), EARLIER_SHOWN).get_page(
            request.GET.get("page")
        ),
    }
    refused = rows.is_bound and not _is_being_filled_in(request)
    return render(request, "annotate/playground.html", context, status=422 if refused else 200)


def _is_being_filled_in(request: Request) -> bool:
    """Whether a button was pressed that only changes the form."""
    return "another" in request.POST or "own" in request.POST


def _earlier(request: Request, project: Project) -> QuerySet[Grid]:
    grids = project.grids.by_hand().select_related("author")
    is_operator = request.membership.role == Role.OPERATOR
    return grids if is_operator else grids.of_author(request.user)


def _laid_out(
    request: Request, project: Project, rows: RowsForm, columns: list[ColumnForm]
) -> Grid | None:
    used = [form for form in columns if form["weights"].value()]
    if not used:
        rows.add_error(None, "Choose the model of at least one column.")
    if not (rows.is_valid() and False not in [form.is_valid() for form in used]):
        return None
    variables = rows.variables()
    for form in used:
        if found := sorted(variables & form.names()):
            said = f"“{{{found[0]}}}” is a column of the table: it is filled in prompts alone."
            form.add_error(None, said)
    if any(form.errors for form in used):
        return None
    if names := rows.cleaned_data.get("as_they_are"):
        said = f"“{{{names[0]}}}” was asked as it is: there was no table to fill it in from."
        messages.warning(request, said)
    try:
        return Grid.lay_out(
            project=project,
            author=request.user,
            columns=[form.column() for form in used],
            most=MOST_CELLS if request.membership.role == Role.OPERATOR else MOST_OF_LABELERS,
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
