"""What becomes of a grid: policies, templates, work for people, files."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from annotate.access import Request, grid_for, grid_to_use_for
from annotate.audit.recording import about
from annotate.labelling.queue import rank_grid
from annotate.labels.kinds import KINDS
from annotate.playground.export import FORMATS, export
from annotate.views.playground.grids import back_to, grid_page, rows_meant
from annotate.work.tasks import Task


@require_POST
def save(request: Request, slug: str, grid_id: int, column: int) -> HttpResponse:
    """Makes a column a policy, which can be sampled, ranked and promoted like any other."""
    grid = grid_to_use_for(request, slug, grid_id)
    if column >= len(grid.columns):
        raise Http404("The grid doesn't have this column.")
    try:
        policy = grid.save_column(column, name=request.POST.get("name", ""))
    except ValidationError as error:
        return grid_page(request, grid, status=422, trouble=" ".join(error.messages))
    messages.success(request, f"{policy} is now a policy.")
    return back_to(request, grid)


@require_POST
def keep(request: Request, slug: str, grid_id: int, column: int) -> HttpResponse:
    """Keeps the words of a column as a template, or as its next version."""
    grid = grid_to_use_for(request, slug, grid_id)
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
    return back_to(request, grid)


@require_POST
def rank(request: Request, slug: str, grid_id: int) -> HttpResponse:
    """Sends the answers to the labelers, who do not see where they come from."""
    grid = grid_to_use_for(request, slug, grid_id)
    try:
        made = rank_grid(grid, rows_meant(request, grid))
    except ValidationError as error:
        return grid_page(request, grid, status=422, trouble=" ".join(error.messages))
    if made:
        messages.success(request, f"{made} ranking task{'s' if made > 1 else ''} opened.")
    else:
        messages.info(request, "Labelers already have all answers of this grid.")
    return back_to(request, grid)


@require_POST
def write(request: Request, slug: str, grid_id: int) -> HttpResponse:
    """Has people write answers to the prompts, which become prompts of the project."""
    grid = grid_to_use_for(request, slug, grid_id)
    prompts = grid.store_prompts(rows_meant(request, grid))
    made = KINDS[Task.Kind.WRITE].open_tasks(grid.project, prompts, f"grid {grid.pk}")
    if made:
        messages.success(request, f"{made} writing task{'s' if made > 1 else ''} opened.")
    else:
        messages.info(request, "Labelers already have these prompts to write about.")
    return back_to(request, grid)


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
    path("columns/<int:column>/save/", save, name="playground_save"),
    path("columns/<int:column>/template/", keep, name="playground_keep"),
    path("rank/", rank, name="playground_rank"),
    path("write/", write, name="playground_write"),
    path("answers.<slug:format>", download, name="playground_download"),
]
