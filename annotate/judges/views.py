"""Judges: operators add them, give them tasks, and see how far they agree with people."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, URLResolver, include, path
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, Role, judge_for, project_for
from annotate.audit.recording import about
from annotate.judges.forms import AgreementForm, JudgeForm, RunForm
from annotate.judges.models import Judge
from annotate.judges.progress import progress_of
from annotate.judges.report import Report, lines_of
from annotate.people.models import Project


@require_GET
def judges(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    context = {
        "project": project,
        "judges": lines_of(project),
        "has_models": project.policies.sampleable().exists(),
    }
    return render(request, "annotate/judges.html", context)


@require_http_methods(["GET", "POST"])
def new(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = JudgeForm(project, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        judge = form.add(request.user)
        about(judge)
        messages.success(request, f"{judge} is added. Give it tasks that people have ranked first.")
        return redirect("judge", slug, judge.pk)
    return _form_page(request, project, form, None)


@require_http_methods(["GET", "POST"])
def edit(request: Request, slug: str, judge_id: int) -> HttpResponse:
    judge = judge_for(request, slug, judge_id)
    form = JudgeForm(
        judge.project, request.POST if request.method == "POST" else None, instance=judge
    )
    if request.method == "POST" and form.is_valid():
        try:
            revised = form.revise(request.user)
        except ValidationError as error:
            form.add_error(None, error)
        else:
            about(revised)
            return redirect("judge", slug, revised.pk)
    return _form_page(request, judge.project, form, judge)


def _form_page(
    request: Request, project: Project, form: JudgeForm, judge: Judge | None
) -> HttpResponse:
    context = {"project": project, "form": form, "judge": judge}
    status = 422 if form.errors else 200
    return render(request, "annotate/judge_edit.html", context, status=status)


@require_GET
def one(request: Request, slug: str, judge_id: int) -> HttpResponse:
    return _page(request, judge_for(request, slug, judge_id), RunForm())


def _page(request: Request, judge: Judge, run: RunForm, *, status: int = 200) -> HttpResponse:
    report = Report(judge)
    agreement = AgreementForm(request.GET if "at" in request.GET else None)
    context = {
        "project": judge.project,
        "judge": judge,
        "report": report,
        "run": run,
        "agreement": agreement,
        "wanted": agreement.wanted,
        "left": report.could_be_left(agreement.wanted),
        **_progress(judge),
    }
    return render(request, "annotate/judge.html", context, status=status)


def _progress(judge: Judge) -> dict[str, Any]:
    return {"judge": judge, "project": judge.project, "progress": progress_of(judge)}


@require_GET
def progress(request: Request, slug: str, judge_id: int) -> HttpResponse:
    """How far its questions are; the page is loaded again once they are over."""
    context = _progress(judge_for(request, slug, judge_id))
    if context["progress"].is_over:
        ended = HttpResponse()
        ended["HX-Refresh"] = "true"
        return ended
    return render(request, "annotate/_judge_progress.html", context)


@require_POST
def run(request: Request, slug: str, judge_id: int) -> HttpResponse:
    """Gives it tasks."""
    judge = judge_for(request, slug, judge_id)
    form = RunForm(request.POST)
    if form.is_valid():
        try:
            started = judge.start(**form.cleaned_data, by=request.user)
        except ValidationError as error:
            form.add_error(None, error)
        else:
            tasks = started.rankings.count()
            messages.success(request, f"{judge} has {tasks:,} task{'s' if tasks > 1 else ''} now.")
            return redirect("judge", slug, judge.pk)
    return _page(request, judge, form, status=422)


@require_POST
def cancel(request: Request, slug: str, judge_id: int) -> HttpResponse:
    judge = judge_for(request, slug, judge_id)
    count = judge.questions.cancel()
    messages.success(request, f"Stopped. {count:,} questions were not asked.")
    return redirect("judge", slug, judge.pk)


@require_POST
def resume(request: Request, slug: str, judge_id: int) -> HttpResponse:
    """Has asked again what ended without a reply."""
    judge = judge_for(request, slug, judge_id)
    try:
        count = judge.ask_again()
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, f"{count:,} questions are asked again.")
    return redirect("judge", slug, judge.pk)


@require_POST
def withdraw(request: Request, slug: str, judge_id: int) -> HttpResponse:
    judge = judge_for(request, slug, judge_id)
    judge.withdraw()
    messages.success(request, f"{judge} is withdrawn. What it said stays.")
    return redirect("judge", slug, judge.pk)


of_judge = [
    path("", one, name="judge"),
    path("edit/", edit, name="judge_edit"),
    path("progress/", progress, name="judge_progress"),
    path("run/", run, name="judge_run"),
    path("cancel/", cancel, name="judge_cancel"),
    path("resume/", resume, name="judge_resume"),
    path("withdraw/", withdraw, name="judge_withdraw"),
]
addresses: list[URLPattern | URLResolver] = [
    path("", judges, name="judges"),
    path("new/", new, name="judge_new"),
    path("<int:judge_id>/", include(of_judge)),
]
