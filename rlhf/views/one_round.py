"""One round: its tabs, and what is done about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryFile
from typing import Any

from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request
from annotate.ids import id_in
from rlhf.access import round_for
from rlhf.costs.runs import by_round
from rlhf.data.checks import NotReady
from rlhf.data.staleness import stale_in
from rlhf.models.runs import Round, Run
from rlhf.registry.by_labeler import agreement_behind, by_labeler
from rlhf.registry.health import health_of
from rlhf.registry.judgements import people_on
from rlhf.registry.verdict import Verdicts
from rlhf.rounds.charts import choices_of, chosen_in, figures_of
from rlhf.rounds.contents import chosen_file, data_of, files_of, logs_of
from rlhf.rounds.estimate import left_of
from rlhf.rounds.forms import LimitForm, RoundNameForm
from rlhf.rounds.launch import cancel_round, launch_again, prioritise_round, resume_round
from rlhf.rounds.report import RoundReport, log_of, report_on, samples_of
from rlhf.rounds.side_by_side import changes_since
from rlhf.rounds.tensorboard import write_zip
from rlhf.stages import STAGES
from rlhf.views.panels import panels_of, remember_panels, sources_of


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
    before = Round.objects.before(round).with_runs().first()
    changes = changes_since(before, round) if before else {}
    context = {**_live(round), "tab": "overview", "before": before, **changes}
    context |= _health(round, context["report"].runs)
    context["settings"] = [
        (run.get_kind_display(), json.dumps(run.config, indent=2, ensure_ascii=False))
        for run in context["report"].runs
    ]
    return render(request, "rlhf/round.html", context)


@require_http_methods(["GET", "POST"])
def rounds_charts(request: Request, slug: str, number: int) -> HttpResponse:
    """Draws a round, with another as baseline if one is named; a POST chooses what else is
    drawn."""
    round = round_for(request, slug, number)
    if request.method == "POST":
        remember_panels(request, request.POST.getlist("panel"))
        return redirect(request.get_full_path())
    others = Round.objects.beside(round)
    baseline = others.with_runs().numbered(id_in(request.GET.get("baseline"))).first()
    beside = {run.kind: run for run in baseline.runs.all()} if baseline else {}
    runs = [run for run in round.runs.all() if STAGES[run.kind].charts]
    chosen = panels_of(request)
    charted = [
        {
            "run": run,
            "figures": figures_of(
                run, chosen=chosen_in(run.kind, chosen), baseline=beside.get(run.kind)
            ),
            "choices": choices_of(run, chosen),
        }
        for run in runs
    ]
    sources = sources_of(slug, [*runs, *beside.values()])
    context = {"charted": charted, "others": others, "baseline": baseline, "sources": sources}
    return _tab(request, round, "charts", **context)


@require_GET
def rounds_logs(request: Request, slug: str, number: int) -> HttpResponse:
    """Shows what each stage's trainer said, also after it has succeeded; to a page that follows the
    log of `follows`, that log, if it has grown. The page loads anew where another one grows now."""
    round = round_for(request, slug, number)
    report, logs = _report(round), logs_of(round)
    growing = next((log for log in logs if log.run == report.current and not report.is_over), None)
    if not request.htmx:
        return _tab(request, round, "logs", report=report, logs=logs, growing=growing)
    if report.is_over or request.GET.get("follows") != (growing.name if growing else ""):
        return HttpResponse(headers={"HX-Refresh": "true"})
    if growing is None or request.GET.get("seen") == growing.digest:
        return HttpResponse(status=204)
    context = {"project": round.project, "round": round, "log": growing, "growing": growing}
    return render(request, "rlhf/_log.html", context)


@require_GET
def rounds_data(request: Request, slug: str, number: int) -> HttpResponse:
    """Shows the rows of the snapshots, as the trainer reads them: as texts or as tokens."""
    round = round_for(request, slug, number)
    asked = request.GET
    data = data_of(
        round,
        run=id_in(asked.get("run")),
        name=asked.get("name", ""),
        first=id_in(asked.get("from")) or 0,
        as_tokens=asked.get("show") == "tokens",
    )
    return _tab(request, round, "data", data=data)


@require_GET
def rounds_files(request: Request, slug: str, number: int) -> HttpResponse | FileResponse:
    """Lists what the stages have left on the disk; with `run` and `name`, sends that file."""
    round = round_for(request, slug, number)
    if "name" not in request.GET:
        return _tab(request, round, "files", folders=files_of(round))
    path = chosen_file(round, id_in(request.GET.get("run")), request.GET["name"])
    if path is None:
        raise Http404("This file doesn't exist.")
    return FileResponse(path.open("rb"), as_attachment=True, filename=path.name)


def _tab(request: Request, round: Round, tab: str, **context: Any) -> HttpResponse:
    context |= {"project": round.project, "round": round, "tab": tab}
    context["report"] = context.get("report") or _report(round)
    return render(request, f"rlhf/round_{tab}.html", context)


def _report(round: Round, verdicts: Verdicts | None = None) -> RoundReport:
    return report_on(round, stale_in(round.project).runs, verdicts)


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
    """Renders the part of the page that changes, if it has; or its head alone, for the tabs."""
    round = round_for(request, slug, number)
    report = _report(round)
    if request.GET.get("seen") == report.digest:
        return HttpResponse(status=204)
    if request.GET.get("part") == "head":
        context = {"project": round.project, "round": round, "report": report, "tab": "head"}
        return render(request, "rlhf/_round_head.html", context)
    return render(request, "rlhf/_round_live.html", _live(round))


@require_GET
def rounds_samples(request: Request, slug: str, number: int) -> HttpResponse:
    round = round_for(request, slug, number)
    report = _report(round)
    samples = samples_of(report.runs, sort=request.GET.get("sort", ""))
    context: dict[str, Any] = {
        "report": report,
        "samples": samples,
        "shows_changes": request.GET.get("show") == "changes",
    }
    if request.htmx:
        context |= {"project": round.project, "round": round}
        return render(request, "rlhf/_samples.html", context)
    return _tab(request, round, "samples", **context)


def _live(round: Round) -> dict[str, Any]:
    verdicts = Verdicts(round.project)
    report = _report(round, verdicts)
    log = log_of(report.current)
    context = {"project": round.project, "round": round, "report": report, "log": log}
    if not report.is_over:
        context["left"] = left_of(round, report.runs, report.seconds_left)
    context["spent"] = by_round(round.project, report.runs).get(round.pk)
    return {**context, **people_on(report.evaluation, verdicts)}


def _health(round: Round, runs: list[Run]) -> dict[str, Any]:
    """Of the reward model that the round has trained, or reused."""
    trained = next((run for run in runs if run.kind == Run.Kind.REWARD), None)
    if trained is None and round.reward_model:
        trained = round.reward_model.checkpoint.run
    if trained is None:
        return {}
    return {
        "health": health_of(trained),
        "labelers": by_labeler(trained),
        "people": agreement_behind(trained),
    }


def _name(request: Request, round: Round) -> None:
    form = RoundNameForm(request.POST)
    if form.is_valid():
        round.describe(**form.cleaned_data)
    else:
        messages.error(request, "The name may have 60 characters, the note 300, a tag 50.")


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
