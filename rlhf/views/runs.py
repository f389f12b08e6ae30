"""One run: its page, its numbers, its log."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import Request
from annotate.models import Project
from annotate.navigation import in_room
from feedback_site.bell import enqueue_on_commit
from rlhf.access import run_for
from rlhf.models.runs import Run, RunQuerySet, SomeRuns
from rlhf.rounds.charts import chosen_in, in_columns, rows_of
from rlhf.rounds.report import CHIPS, headline_of, log_of
from rlhf.runs.alarms import meets_its_guard_again
from rlhf.stages import STAGES
from rlhf.views.panels import panels_of


@require_http_methods(["GET", "POST"])
@in_room("policies")
def policies_run(request: Request, slug: str, run_id: int) -> HttpResponse:
    """Shows a run; of one that belongs to a round, the round's page says more."""
    run = run_for(request, slug, run_id)
    if run.round:
        return redirect("rounds_show", slug=slug, number=run.round.number)
    if request.method == "POST":
        _act(request, run)
        return redirect("policies_run", slug=slug, run_id=run_id)
    template = "rlhf/_run_live.html" if request.htmx else "rlhf/run.html"
    context = {
        "project": run.project,
        "run": run,
        "chip": CHIPS.get(run.state, ""),
        "headline": headline_of(run),
        "about": STAGES[run.kind].about(run),
        "place": run.place_in_queue(),
        "may_resume": run.state in Run.RESUMABLE,
        "fails_again": meets_its_guard_again(run),
        "log": log_of(run),
    }
    return render(request, template, context)


def list_of(request: Request, project: Project, runs: RunQuerySet) -> SomeRuns:
    """Lists the newest of these runs, or all, as the address says."""
    return runs.of_project(project).listed(in_full=request.GET.get("runs") == "all")


def refreshed(request: Request, project: Project, runs: SomeRuns) -> HttpResponse:
    """Renders a list of runs anew for a page that shows it, if it has changed."""
    if request.GET.get("seen") == runs.digest:
        return HttpResponse(status=204)
    return render(request, "rlhf/_runs.html", {"project": project, "runs": runs})


@require_GET
@never_cache
def rounds_metrics(request: Request, slug: str, run_id: int) -> JsonResponse:
    """Sends what is drawn of a run: of the steps after `after`, up to `last`."""
    run = run_for(request, slug, run_id)
    try:
        after = int(request.GET.get("after", -1))
        last = int(request.GET["last"]) if "last" in request.GET else None
    except ValueError:
        error = "after and last must be whole numbers: steps."
        return JsonResponse({"error": error}, status=400)
    chosen = chosen_in(run.kind, panels_of(request))
    return JsonResponse(
        {
            "state": run.state,
            "over": run.stands_still,
            "step": run.step,
            "total_steps": run.total_steps,
            "columns": in_columns(rows_of(run, after=after, last=last, more=chosen)),
        }
    )


def _act(request: Request, run: Run) -> None:
    act = {"cancel": run.request_cancel, "resume": run.resume}.get(request.POST.get("act", ""))
    if act is None or not act():
        messages.warning(request, f"Nothing was changed: {run} had already moved on.")
    elif run.state == Run.State.QUEUED:
        enqueue_on_commit("train", "rlhf.jobs.train", run.pk)
