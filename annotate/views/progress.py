"""The leads' dashboard, and the tasks with a known answer."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import Request, Role, project_for, ranking_for
from annotate.labels.agreement import agreement
from annotate.labels.gold import make_gold
from annotate.plots import bars, intervals
from annotate.quality import labelers as quality
from annotate.quality import progress as figures


@require_GET
def progress(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    rankings = quality.doubly_ranked(project)
    days, weeks = figures.throughput(project), quality.over_time(rankings)
    today = timezone.localdate()
    context = {
        "project": project,
        "progress": figures.progress(project),
        "days": days,
        "throughput": bars("Answers per day", days, until=today, count=figures.SHOWN_DAYS),
        "agreement_plot": intervals("Pairwise agreement per week, with 95 % intervals", weeks),
        "health": figures.queue_health(project),
        "skips": figures.skip_reasons(project),
        "causes": figures.causes(project),
        "remarks": figures.remarks(project),
        "agreement": agreement(rankings),
        "weeks": weeks,
        "versions": quality.by_guideline(rankings),
    }
    return render(request, "annotate/progress.html", context)


@require_http_methods(["GET", "POST"])
def gold(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    if request.method == "POST":
        ranking = ranking_for(request, slug, request.POST.get("ranking", ""))
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
