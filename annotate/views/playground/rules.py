"""Rules of prompting: which help which model, and those of the project's own."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import Request, Role, project_for
from annotate.audit.recording import about
from annotate.people.models import Project
from annotate.playground.column_forms import (
    RuleForm,
)
from annotate.playground.forms import RulesForm
from annotate.playground.own_rules import OwnRule
from annotate.playground.rules import RULES, rules_of, tried, try_rules


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
