"""What policies must show: the scorecard of behaviour suites, writing one, the gate's limits."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import Request, Role, grid_to_use_for, project_for
from annotate.audit.recording import about
from annotate.views.playground.grids import grid_page, rows_meant
from rlhf.data.checks import NotReady
from rlhf.evaluation.scorecard import launch_scorecard, scorecard_of
from rlhf.evaluation.suite_of_grid import save_as_suite
from rlhf.models.probes import MEANING
from rlhf.models.suites import GateLimits, Suite
from rlhf.rounds.forms import ChallengerForm, GateForm, ScorecardForm, SuiteForm


@require_http_methods(["GET", "POST"])
def policies_suites(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = ScorecardForm(project, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            policies = list(form.cleaned_data["policies"])
            samples = form.cleaned_data["samples"] or 1
            run = launch_scorecard(
                project,
                by=request.user,
                policies=policies,
                samples=samples,
                only=form.cleaned_data["suites"],
            )
        except NotReady as error:
            form.add_error(None, str(error))
        else:
            return redirect("policies_run", slug=slug, run_id=run.pk)
    context = {"project": project, "form": form, **scorecard_of(project, request.GET.get("page"))}
    return render(request, "rlhf/suites.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
def policies_suite(request: Request, slug: str) -> HttpResponse:
    """Edits the suite of `?name=`: a built-in one is copied into the project once it is saved."""
    project = project_for(request, slug, Role.OPERATOR)
    suite = Suite.named(project, request.GET.get("name", ""))
    title = suite.name or "New suite"
    form = SuiteForm(request.POST or None, instance=suite)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, f"“{suite}” is saved. It runs at the end of every round.")
        return redirect("policies_suites", slug=slug)
    context = {"project": project, "form": form, "title": title, "meaning": MEANING.items()}
    return render(request, "rlhf/suite.html", context, status=422 if form.errors else 200)


@require_POST
def policies_suite_of_grid(request: Request, slug: str, grid_id: int) -> HttpResponse:
    """Adds rows of a playground grid to a suite."""
    grid = grid_to_use_for(request, slug, grid_id)
    name = request.POST.get("suite", "").strip()
    try:
        suite, new = save_as_suite(grid, rows_meant(request, grid), name=name)
    except ValidationError as error:
        return grid_page(request, grid, status=422, trouble=" ".join(error.messages))
    about(suite)
    messages.success(request, f"“{suite}” has {new} new line{'s' * (new != 1)}.")
    return redirect(f"{reverse('policies_suite', args=[slug])}?{urlencode({'name': suite.name})}")


@require_http_methods(["GET", "POST"])
def policies_limits(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = GateForm(request.POST or None, instance=GateLimits.of(project))
    share = ChallengerForm(request.POST or None, instance=project)
    if request.method == "POST" and form.is_valid() and share.is_valid():
        form.save()
        share.save()
        messages.success(request, "Gate limits saved.")
        return redirect("policies_limits", slug=slug)
    context = {"project": project, "form": form, "share": share}
    return render(request, "rlhf/limits.html", context, status=422 if form.errors else 200)
