"""Rounds: the table, launching one, several side by side."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import Request, Role, project_for
from annotate.ids import id_in
from annotate.models import Policy, Project
from annotate.prompts.models import content_hash
from rlhf.access import round_for
from rlhf.costs.runs import by_round
from rlhf.data.checks import Finding, NotReady
from rlhf.data.staleness import stale_in
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.models.runs import Round
from rlhf.rounds.estimate import estimate
from rlhf.rounds.forms import FiltersForm, RoundsForm
from rlhf.rounds.launch import LaunchedMeanwhile, launch_round
from rlhf.rounds.plan import Planned, plan_round
from rlhf.rounds.preflight import preflight, recipe_for
from rlhf.rounds.report import report_on
from rlhf.rounds.round_form import RoundForm, in_fields
from rlhf.rounds.settings import SIZES, Launch, stage_configs
from rlhf.rounds.side_by_side import compare_rounds
from rlhf.rounds.table import table_of
from rlhf.stages import DEFAULT_TRAININGS
from rlhf.views.panels import panels_of, sources_of


@require_GET
def rounds(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = RoundsForm(project, request.GET, tags=Round.objects.of_project(project).tags())
    chosen = form.chosen()
    table = table_of(project, **chosen)
    runs = [run for row in table.rows for run in row.report.runs]
    context = {"project": project, "form": form, "table": table, "spent": by_round(project, runs)}
    return render(request, "rlhf/rounds.html", {**context, "sort": chosen.get("sort") or "-round"})


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
            form.add_error(None, "The round was not launched. What is missing is listed below.")
            refused = error.findings
    configs = _configs(form)
    base = form.chosen_base
    checks = preflight(
        project,
        base,
        filters,
        stages=form.chosen,
        configs=configs,
        recipe=form.size,
        reward_model=form.chosen_reward_model,
    )
    checks.findings.extend(each for each in refused if each not in checks.findings)
    context = {"form": form, "choice": choice, "checks": checks, "planned": planned}
    context["newest"] = Round.newest_number(project)
    context["suited"] = _suited(base)
    context["is_another_base"] = _is_another(request.GET)
    context["takes"] = base and estimate(
        base, configs, checks.counts, an_hour=_price_of_an_hour(project)
    )
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
            "reward_model": launch.reward_model,
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
    bases = list(project.policies.with_weights().order_by("pk"))
    stale = stale_in(project).policies
    fresh = [each for each in bases if each.pk not in stale] or bases
    live = (each for each in fresh if each.state == Policy.State.LIVE)
    base = next(live, fresh[0] if fresh else None)
    chosen = next((each for each in bases if str(each.pk) == given.get("base")), base)
    size = _size(None if _is_another(given) else given.get("recipe"), chosen)
    initial = {"base": base, **given.dict(), "recipe": size, "stages": stages}
    return RoundForm(project, initial=initial, size=size, stages=stages), FiltersForm(
        project, given
    )


def _is_another(given: QueryDict) -> bool:
    """Whether another base is chosen than that for which a recipe was suggested."""
    return given.get("suited") not in (None, "", given.get("base"))


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
    return _suited(base) or SIZES[0]


def _suited(base: Policy | None) -> str:
    return recipe_for(settings.DATA_DIR / base.folder) if base else ""


def _price_of_an_hour(project: Project) -> float | None:
    """What the project says; None: it says nothing."""
    price = project.machine_price
    return None if price is None else float(price)


@require_GET
def rounds_compare(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    rounds = list(Round.objects.of_project(project).with_runs())
    named = request.GET.getlist("round")
    chosen = [each for each in rounds if str(each.number) in named]
    digest = content_hash([report_on(each).digest for each in chosen])
    if request.htmx and request.GET.get("seen") == digest:
        return HttpResponse(status=204)
    context = {"project": project, "rounds": rounds, "chosen": chosen, "digest": digest}
    context |= compare_rounds(chosen, panels_of(request))
    context["sources"] = sources_of(slug, [run for each in chosen for run in each.runs.all()])
    return render(request, "rlhf/compare.html", context)
