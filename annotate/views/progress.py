"""The leads' dashboard, and the tasks with a known answer."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate import progress as figures
from annotate import quality
from annotate.access import Request, Role, project_for, ranking_for
from annotate.agreement import agreement
from annotate.models.gold import make_gold


@require_GET
def progress(request: Request, slug: str) -> HttpResponse:
    project = project_for(request.user, slug, Role.REVIEWER)
    rankings = quality.doubly_ranked(project)
    context = {
        "project": project,
        "progress": figures.progress(project),
        "days": figures.throughput(project),
        "health": figures.queue_health(project),
        "skips": figures.skip_reasons(project),
        "causes": figures.causes(project),
        "agreement": agreement(rankings),
        "weeks": quality.over_time(rankings),
        "versions": quality.by_guideline(rankings),
    }
    return render(request, "annotate/progress.html", context)


@require_http_methods(["GET", "POST"])
def gold(request: Request, slug: str) -> HttpResponse:
    project = project_for(request.user, slug, Role.REVIEWER)
    if request.method == "POST":
        ranking = ranking_for(request.user, slug, request.POST.get("ranking", ""))
        is_practice = request.POST.get("act") == "practice"
        try:
            task = make_gold(ranking)
            task.retire() if request.POST.get("act") == "retire" else task.use(is_practice)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        return redirect("gold", slug)
    context = {
        "project": project,
        "golds": quality.golds(project),
        "candidates": quality.gold_candidates(project),
    }
    return render(request, "annotate/gold.html", context)
