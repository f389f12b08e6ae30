"""How good the policies are, as people and reward models see it."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import pluralize
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import Request, Role, project_for
from annotate.ids import id_in
from annotate.models import Project
from rlhf.access import round_for
from rlhf.data.checks import NotReady
from rlhf.evaluation.doubted import CONFIDENT, SUITE, Doubt, add_probe, alone, ask_second, doubted
from rlhf.evaluation.next_batch import launch_next_batch
from rlhf.evaluation.win_rate import ask_people
from rlhf.models.runs import Run
from rlhf.registry.judgements import evaluation_page
from rlhf.rounds.forms import AskPeopleForm, ComparisonForm
from rlhf.rounds.launch import launch_comparison
from rlhf.rounds.report import report_on
from rlhf.views.runs import list_of, refreshed

MOST_SHOWN = 50  # doubted rankings on a page


@require_http_methods(["GET", "POST"])
def policies_evaluation(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    comparisons = list_of(request, project, Run.objects.comparisons())
    if request.htmx:
        return refreshed(request, project, comparisons)
    form = ComparisonForm(project, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            run = launch_comparison(
                project,
                by=request.user,
                policies=list(form.cleaned_data["compared"]),
                prompts_at_most=form.cleaned_data["prompts"],
            )
        except NotReady as error:
            form.add_error(None, str(error))
        else:
            return redirect("policies_run", slug=slug, run_id=run.pk)
    context = {
        "project": project,
        "form": form,
        "comparisons": comparisons,
        **evaluation_page(project, request.GET.get("page")),
    }
    return render(request, "rlhf/evaluation.html", context, status=422 if form.errors else 200)


@require_POST
def rounds_ask_people(request: Request, slug: str, number: int) -> HttpResponse:
    round = round_for(request, slug, number)
    form = AskPeopleForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Enter how many prompts people should compare: 1 to 2000.")
        return redirect("rounds_show", slug=slug, number=number)
    evaluation = report_on(round).evaluation
    if evaluation is None:
        messages.error(request, f"{round} makes no policy, so there is nothing to compare.")
        return redirect("rounds_show", slug=slug, number=number)
    try:
        asked = ask_people(evaluation, prompts_at_most=form.cleaned_data["prompts"])
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, _said(asked))
    return redirect("rounds_show", slug=slug, number=number)


@require_POST
def rounds_next_batch(request: Request, slug: str, number: int) -> HttpResponse:
    round = round_for(request, slug, number)
    form = AskPeopleForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Enter how many prompts people should rank answers to: 1 to 2000.")
        return redirect("rounds_show", slug=slug, number=number)
    try:
        run = launch_next_batch(
            round, by=request.user, prompts_at_most=form.cleaned_data["prompts"]
        )
    except NotReady as error:
        messages.error(request, str(error))
        return redirect("rounds_show", slug=slug, number=number)
    return redirect("policies_run", slug=slug, run_id=run.pk)


@require_http_methods(["GET", "POST"])
def policies_doubted(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    found = doubted(project)
    if request.method == "POST":
        if request.POST.get("act") == "ask":
            asked = ask_second(project)
            messages.success(request, f"{asked} ranking{pluralize(asked)} went to a second person.")
        else:
            messages.success(request, _add_probe(request, project, found))
        return redirect("policies_doubted", slug=slug)
    context = {
        "project": project,
        "doubted": found[:MOST_SHOWN],
        "all": len(found),
        "alone": alone(found).count(),
        "confident": CONFIDENT,
    }
    return render(request, "rlhf/doubted.html", context)


def _add_probe(request: Request, project: Project, found: list[Doubt]) -> str:
    wanted = id_in(request.POST.get("better")), id_in(request.POST.get("worse"))
    for each in found:
        if (each.better.pk, each.worse.pk) == wanted and add_probe(project, each):
            return f"The prompt is a probe of the suite “{SUITE}” now."
    return "Nothing was added: it is a probe already, or is no longer in doubt."


def _said(asked: int) -> str:
    if not asked:
        return (
            "Nothing was added: people have that many prompts already. Enter a larger number, or"
            " import more prompts if all that are held out were asked."
        )
    return f"{asked} more prompts are waiting for a blind comparison."
