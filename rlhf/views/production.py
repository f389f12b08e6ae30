"""Production: what guests and products get from each policy, now and over time."""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from annotate.access import Request, Role, project_for
from annotate.navigation import in_room
from rlhf.costs.forms import PeriodForm
from rlhf.costs.production import production


@require_GET
@in_room("policies")
def policies_production(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = PeriodForm(request.GET)
    days = form.days_back or int(PeriodForm.usual)
    since = timezone.now() - timedelta(days=days)
    context = {
        "project": project,
        "form": form,
        "shown": production(project, days=days, since=since),
    }
    return render(request, "rlhf/production.html", context)
