"""What it costs: policies, uses, labels, rounds; and when a training has paid for itself."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import Request, Role, project_for
from rlhf.costs.break_even import paying
from rlhf.costs.forms import BreakEvenForm, CostsForm
from rlhf.costs.page import calls_of, costs_page, csv_rows
from rlhf.costs.table import as_csv


@require_GET
def policies_costs(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = CostsForm(request.GET)
    since, use = form.since, form.chosen_use
    even = BreakEvenForm(project, request.GET)
    context = {
        "project": project,
        "form": form,
        "even": even,
        **costs_page(project, since=since, use=use),
    }
    if even.is_valid():
        said = even.cleaned_data
        context["paying"] = paying(
            said["teacher"],
            said["student"],
            calls=calls_of(project, since=since, use=use),
            with_labels=said["labels"],
        )
    return render(request, "rlhf/costs.html", context)


@require_GET
def policies_costs_csv(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = CostsForm(request.GET)
    calls = calls_of(project, since=form.since, use=form.chosen_use)
    return as_csv(f"{slug}-costs.csv", csv_rows(project, calls))
