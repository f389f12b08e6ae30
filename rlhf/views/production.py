"""Production: what guests and products get from each policy, now and over time."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import Request, Role, project_for
from rlhf.costs.forms import PeriodForm
from rlhf.costs.production import csv_rows, production
from rlhf.costs.table import as_csv


@require_GET
def policies_production(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = PeriodForm(request.GET)
    context = {"project": project, "form": form, "shown": production(project, days=form.days_back)}
    return render(request, "rlhf/production.html", context)


@require_GET
def policies_production_csv(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    days = PeriodForm(request.GET).days_back
    return as_csv(f"{slug}-production.csv", csv_rows(project, days=days))
