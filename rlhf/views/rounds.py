"""Rounds: the list, launching one, watching it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from tempfile import TemporaryFile
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import FileResponse, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, Role, project_for
from annotate.ids import id_in
from annotate.models import Policy, Project
from rlhf.access import round_for
from rlhf.data.checks import Finding, NotReady
from rlhf.data.staleness import stale_in
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.models.runs import Round
from rlhf.registry.judgements import people_on
from rlhf.registry.verdict import Verdicts
from rlhf.rounds.charts import figures_of
from rlhf.rounds.forms import FiltersForm, LimitForm, RoundForm, RoundNameForm, in_fields
from rlhf.rounds.launch import (
    LaunchedMeanwhile,
    cancel_round,
    launch_again,
    launch_round,
    prioritise_round,
    resume_round,
)
from rlhf.rounds.plan import Planned, plan_round
from rlhf.rounds.preflight import preflight, recipe_for
from rlhf.rounds.report import log_of, report_on, reports_of, samples_of
from rlhf.rounds.settings import SIZES, Launch, stage_configs
from rlhf.rounds.side_by_side import MOST, compare_rounds
from rlhf.rounds.tensorboard import write_zip
from rlhf.stages import DEFAULT_TRAININGS, STAGES


@require_GET
def rounds(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    reports = reports_of(project)
    context = {"project": project, "reports": reports}
    context["is_under_way"] = any(not report.is_over for report in reports)
    return render(request, "rlhf/rounds.html", context)


@require_http_methods(["GET", "POST"])
def rounds_new(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form, choice = _wizard(request, project)
    filters = choice.filters()
    planned: list[Planned] = []
    refused: list[Finding] = []
    if request.method == "POST" and choice.is_valid() and form.is_valid():
        launch = form.launch(filters)
        try:
            if request.POST.get("act") == "plan":
                planned = plan_round(project, launch)
            else:
                round = launch_round(
                    project, launch, by=request.user, follows=form.cleaned_data["follows"]
                )
                return redirect("rounds_show", slug=slug, number=round.number)
        except LaunchedMeanwhile as error:
            if error.round.launched_by == request.user:  # who pressed the button twice
                return redirect("rounds_show", slug=slug, number=error.round.number)
            form.add_error(None, f"{error} Launch again if you want another round as well.")
        except ConfigError as error:
            form.add_error(None, str(error))
        except NotReady as error:
            form.add_error(None, "The round was not launched. See below what is missing.")
            refused = error.findings
    configs = _configs(form)
    checks = preflight(
        project, form.chosen_base, filters, stages=form.chosen, configs=configs, recipe=form.size
    )
    checks.findings.extend(each for each in refused if each not in checks.findings)
    context = {"form": form, "choice": choice, "checks": checks, "planned": planned}
    context["newest"] = Round.newest_number(project)
    template = "rlhf/_round_details.html" if request.htmx else "rlhf/round_new.html"
    status = 422 if form.errors or choice.errors else 200
    return render(request, template, {"project": project, **context}, status=status)


def _wizard(request: Request, project: Project) -> tuple[RoundForm, FiltersForm]:
    """As it was posted; or as far as it is filled in; or like an earlier round."""
    if request.method == "POST":
        size = _size(request.POST.get("recipe"))
        stages = request.POST.getlist("stages")
        form = RoundForm(project, request.POST, size=size, stages=stages)
        return form, FiltersForm(project, request.POST)
    given = request.GET
    if (like := id_in(given.get("like"))) is not None:
        launch = Launch.like(round_for(request, project.slug, like))
        initial = {
            "base": launch.base,
            "recipe": launch.recipe,
            "stages": launch.stages,
            "seed": launch.seed,
            "ask_people": launch.ask_people,
            "next_batch": launch.next_batch,
            "note": f"Like Round {like}",
            **in_fields(launch.overrides),
        }
        form = RoundForm(project, initial=initial, size=launch.recipe, stages=launch.stages)
        return form, FiltersForm(project, FiltersForm.as_data(launch.filters))
    stages = given.getlist("stages") or list(DEFAULT_TRAININGS)
    bases = project.policies.with_weights()
    base = bases.live().first() or bases.order_by("pk").first()
    chosen = next((each for each in bases if str(each.pk) == given.get("base")), base)
    size = _size(given.get("recipe"), chosen)
    initial = {"base": base, **given.dict(), "recipe": size, "stages": stages}
    return RoundForm(project, initial=initial, size=size, stages=stages), FiltersForm(
        project, given
    )


def _configs(form: RoundForm) -> dict[str, dict[str, Any]]:
    """With what was set by hand; of changes that contradict each other, the recipe's."""
    try:
        return stage_configs(form.chosen, form.size, form.overrides())
    except ConfigError:
        return stage_configs(form.chosen, form.size, {})


def _size(value: str | None, base: Policy | None = None) -> str:
    """As chosen, or else as suits the base."""
    if value in SIZES:
        return value
    return recipe_for(settings.DATA_DIR / base.folder) if base else SIZES[0]


@require_GET
def rounds_compare(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    rounds = list(Round.objects.of_project(project).with_runs())
    named = request.GET.getlist("round")
    found = [each for each in rounds if str(each.number) in named]
    chosen, left_out = found[:MOST], found[MOST:]
    context = {"project": project, "rounds": rounds, "chosen": chosen, **compare_rounds(chosen)}
    context |= {"left_out": left_out, "most": MOST}
    return render(request, "rlhf/compare.html", context)


@require_GET
def rounds_tensorboard(request: Request, slug: str, number: int) -> FileResponse:
    round = round_for(request, slug, number)
    file = TemporaryFile()  # noqa: SIM115 - the response closes it
    write_zip(round, file)
    file.seek(0)
    name = f"{slug}-round-{number}-tensorboard.zip"
    return FileResponse(file, as_attachment=True, filename=name)


@require_http_methods(["GET", "POST"])
def rounds_show(request: Request, slug: str, number: int) -> HttpResponse:
    round = round_for(request, slug, number)
    if request.POST.get("act") == "name":
        _name(request, round)
        return redirect("rounds_show", slug=slug, number=number)
    if request.method == "POST":
        _act(request, round)
        return redirect("rounds_show", slug=slug, number=number)
    context = _live(round)
    context["samples"] = samples_of(context["report"].runs)
    runs = [run for run in context["report"].runs if STAGES[run.kind].charts]
    context["charted"] = [{"run": run, "figures": figures_of(run)} for run in runs]
    return render(request, "rlhf/round.html", context)


@require_POST
def rounds_again(request: Request, slug: str, number: int) -> HttpResponse:
    """Launches the same round anew, without what was withdrawn meanwhile."""
    round = round_for(request, slug, number)
    try:
        again = launch_again(round, by=request.user)
    except NotReady as error:
        messages.error(request, f"The round was not launched. {error}")
        return redirect("rounds_show", slug=slug, number=number)
    return redirect("rounds_show", slug=slug, number=again.number)


@require_GET
def rounds_live(request: Request, slug: str, number: int) -> HttpResponse:
    """Renders the part of the page that changes, if it has."""
    round = round_for(request, slug, number)
    if request.GET.get("seen") == report_on(round).digest:
        return HttpResponse(status=204)
    return render(request, "rlhf/_round_live.html", _live(round))


@require_GET
def rounds_samples(request: Request, slug: str, number: int) -> HttpResponse:
    round = round_for(request, slug, number)
    report = report_on(round)
    context = {"project": round.project, "round": round, "report": report}
    return render(request, "rlhf/_samples.html", {**context, "samples": samples_of(report.runs)})


def _live(round: Round) -> dict[str, Any]:
    verdicts = Verdicts(round.project)
    report = report_on(round, stale_in(round.project).runs, verdicts)
    log = log_of(report.current)
    context = {"project": round.project, "round": round, "report": report, "log": log}
    return {**context, **people_on(report.evaluation, verdicts)}


def _name(request: Request, round: Round) -> None:
    form = RoundNameForm(request.POST)
    if form.is_valid():
        round.describe(**form.cleaned_data)
    else:
        messages.error(request, "The name may have 60 characters, the note 300.")


def _act(request: Request, round: Round) -> None:
    acts: dict[str, Callable[[Round], bool]] = {
        "cancel": cancel_round, "resume": resume_round, "first": prioritise_round,
    }  # fmt: skip
    act = acts.get(request.POST.get("act", ""))
    if request.POST.get("act") == "resume_with":
        form = LimitForm(request.POST)
        if not form.is_valid():
            messages.error(request, "Enter the new limit: a number of at least 0.")
            return
        act = partial(resume_round, limit=form.cleaned_data["limit"])
    if act is None or not act(round):
        messages.warning(request, f"Nothing was changed: {round} had already moved on.")
