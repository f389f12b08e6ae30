"""Labelling: one assignment after the other, and what one has done."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, Role, assignment_for, membership_for, practice_for, project_for
from annotate.chat.feedback import Feedback
from annotate.labelling.forms import FlagForm, SkipForm
from annotate.labelling.hot_queries import latest_ended
from annotate.labelling.queue import next_assignment
from annotate.labels.agreement import concordance
from annotate.labels.forms import WorkForm
from annotate.labels.gold import Qualification, qualification_of
from annotate.labels.kinds import KINDS, kind_of
from annotate.labels.label import Conflict
from annotate.paging import page_of
from annotate.people.models import Project, User
from annotate.prompts.flags import PromptFlag
from annotate.prompts.models import FROM_CHAT
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

# What somebody may ask for alone, and what to say when there is none of it any more.
GONE: dict[str, str] = {
    **{task: f"Nothing is left to be {kind.words.done}." for task, kind in KINDS.items()},
    "returned": "No returned answers left.",
    "drafts": "No drafts left.",
}


@require_GET
def label(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.LABELER)
    if not request.membership.has_read_guideline:
        return redirect("guideline", slug)
    only = _only(request)
    if work := _next_of(request.user, project, only):
        return _open(work, only)
    if only:
        messages.info(request, f"{GONE[only]} Here is your next task.")
        return redirect("label", slug)
    context = {
        "project": project,
        "just_saved": _just_saved(request.user, project),
        "qualification": qualification_of(request.membership),
    }
    return render(request, "annotate/nothing_left.html", context)


@require_http_methods(["GET", "POST"])
def assignment(request: Request, slug: str, assignment_id: int) -> HttpResponse:
    work = assignment_for(request, slug, assignment_id)
    if work.task.kind == Task.Kind.REVIEW:
        return redirect("review_one", slug, work.pk)
    form_class = _form_class(work)
    if request.method == "POST":
        form = form_class(work, request.POST)
        if "preview" in request.POST:
            return work_page(request, work, form)
        if not form.is_valid():
            return work_page(request, work, form, status=422)
        return _submit(request, work, form)
    if work.state == Assignment.State.LEASED:
        draft = dict(work.draft)
        if work.sent_back and not draft:
            draft = form_class.initial_of(work.label)
        return work_page(request, work, form_class(work, initial=draft))
    stored = work.label
    if stored is None or stored.retracted or not stored.is_editable:
        is_used = stored is not None and stored.snapshots.exists()
        context = {"work": work, "label": stored, "is_used": is_used, "form": form_class(work)}
        return render(request, "annotate/done.html", context)
    initial = {**form_class.initial_of(stored), "revision_no": stored.revision_no}
    return work_page(request, work, form_class(work, initial=initial))


def _form_class(work: Assignment) -> type[WorkForm]:
    return kind_of(work.task).form_class(work)


def _submit(request: Request, work: Assignment, form: WorkForm) -> HttpResponse:
    revision_no = form.cleaned_data["revision_no"]
    stored = work.label if revision_no is not None else None
    try:
        if revision_no is None or stored is None:
            kind_of(work.task).model.record(assignment=work, **form.as_kwargs())
            if work.trial == Assignment.Trial.PRACTICE:
                return redirect("practice", work.task.project.slug, work.pk)
            if work.trial == Assignment.Trial.QUALIFICATION:
                _tell_of_passing(request, work.task.project)
            return _to_next(request, work.task.project)
        stored.revise(revision_no=revision_no, **form.as_kwargs())
    except (Conflict, ValidationError) as error:
        if work.is_final and work.ended_at:
            messages.error(request, " ".join(getattr(error, "messages", [str(error)])))
            return redirect("assignment", work.task.project.slug, work.pk)
        if isinstance(error, Conflict):
            return _both_versions(request, work, error)
        form.add_error(None, error)
        return work_page(request, work, form, status=422)
    messages.success(request, "Changes saved as a new revision.")
    return redirect("my_work", work.task.project.slug)


def _tell_of_passing(request: Request, project: Project) -> None:
    if membership_for(request, project.slug).qualified_at:
        messages.success(request, "You have qualified. Your answers count from now on.")


def _to_next(request: Request, project: Project) -> HttpResponse:
    """Straight to the next task, without a detour by way of its address."""
    may_go_on = request.membership.has_read_guideline
    only = _only(request)
    if may_go_on and (work := _next_of(request.user, project, only)):
        return _open(work, only)
    return _to_label(project.slug, only)


def _only(request: Request) -> str:
    only = request.GET.get("only", "")
    return only if only in GONE else ""


def _next_of(labeler: User, project: Project, only: str) -> Assignment | None:
    own = Assignment.objects.by(labeler).of_project(project)
    if only == "returned":
        return own.sent_back().order_by("pk").first()
    if only == "drafts":
        return own.expired().with_draft().order_by("pk").first()
    return next_assignment(labeler, project, only=only or None)


def _open(work: Assignment, only: str) -> HttpResponse:
    query = {"only": only} if only else None
    return redirect(reverse("assignment", args=[work.task.project.slug, work.pk], query=query))


def _to_label(slug: str, only: str) -> HttpResponse:
    return redirect(reverse("label", args=[slug], query={"only": only} if only else None))


def work_page(
    request: Request, work: Assignment, form: WorkForm, status: int = 200, **more: Any
) -> HttpResponse:
    """The page of an assignment, with the form as it was sent or is prefilled."""
    project = work.task.project
    context = {
        "work": work,
        "project": project,
        "prompt": work.task.prompt,
        "kind": kind_of(work.task),
        "form": form,
        "skip_form": SkipForm(),
        "flag_form": FlagForm(),
        "own_flag": _own_flag(request, work),
        "complaints": _complaints(work),
        "qualification": _qualification(request, work),
        "guideline": project.guideline,
        "just_saved": _just_saved(request.user, project),
        "only": _only(request),
        **more,
    }
    return render(request, kind_of(work.task).template, context, status=status)


def _complaints(work: Assignment) -> list[Feedback]:
    """What guests said of the answers the task is about; nothing that would tell who ranks which
    of the completions somebody else found bad, but where it is asked because of that."""
    if work.task.kind == Task.Kind.RANK and work.task.batch != FROM_CHAT:
        return []
    return list(Feedback.objects.all().about(work.task))


def _qualification(request: Request, work: Assignment) -> Qualification | None:
    """How far the labeler is, while this is a part of it."""
    is_part = work.trial == Assignment.Trial.QUALIFICATION and not work.is_submitted
    return qualification_of(request.membership) if is_part else None


def _both_versions(request: Request, work: Assignment, conflict: Conflict) -> HttpResponse:
    """What is stored beside what was sent; sending again, knowingly, revises what is stored."""
    data: QueryDict = request.POST.copy()
    data["idempotency_key"] = str(uuid.uuid4())
    data["revision_no"] = ""
    stored = conflict.stored
    if stored and stored.assignment_id == work.pk and not stored.retracted:
        data["revision_no"] = str(stored.revision_no)
    return work_page(request, work, _form_class(work)(work, data), status=409, conflict=conflict)


@require_GET
def practice(request: Request, slug: str, assignment_id: int) -> HttpResponse:
    """A practised ranking beside the right one."""
    work = practice_for(request, slug, assignment_id)
    gold, own = work.task.gold.places, work.label.places
    completions = work.task.completions.in_bulk(work.shown_order)
    rows = [(completions[pk], own[pk], gold[pk]) for pk in work.shown_order]
    context = {"work": work, "rows": rows, "met": concordance(gold, own)}
    return render(request, "annotate/practice.html", context)


@require_POST
def draft(request: Request, slug: str, assignment_id: int) -> HttpResponse:
    """Keeps unfinished work and renews the lease, unless another tab has kept some since this page
    was loaded or last saved."""
    work = assignment_for(request, slug, assignment_id)
    seen = request.POST.get("drafted", work.draft_version)
    if seen != work.draft_version and request.htmx:
        context = {"work": work, "seen": seen, "is_behind": True}
        return render(request, "annotate/_draft_state.html", context)
    form = _form_class(work)(work, request.POST)
    form.is_valid()  # for the active seconds; a draft may be anything
    seconds = form.cleaned_data.get("active_seconds", work.active_seconds)
    has_place = work.save_draft(draft=form.draft(), active_seconds=seconds)
    if not request.htmx:
        return redirect("assignment", slug, work.pk)
    context = {"work": work, "seen": work.draft_version, "has_place": has_place}
    return render(request, "annotate/_draft_state.html", context)


@require_POST
def skip(request: Request, slug: str, assignment_id: int) -> HttpResponse:
    work = assignment_for(request, slug, assignment_id)
    form = SkipForm(request.POST)
    if not form.is_valid():
        return work_page(request, work, _as_typed(request, work), status=422, skip_form=form)
    draft = _form_class(work)(work, request.POST).draft() or dict(work.draft)
    if not work.skip(draft=draft, **form.cleaned_data):
        messages.error(request, "You have already answered this task, so it cannot be skipped.")
    return _to_label(slug, _only(request))


@require_POST
def flag(request: Request, slug: str, assignment_id: int) -> HttpResponse:
    """Flags the prompt for the leads, or takes that back. The work stays as it is on the page."""
    work = assignment_for(request, slug, assignment_id)
    prompt, form = work.task.prompt, FlagForm(request.POST)
    if "take_down" in request.POST:
        PromptFlag.take_down(prompt=prompt, labeler=request.user)
        form = FlagForm()
    elif form.is_valid():
        PromptFlag.put_up(prompt=prompt, labeler=request.user, **form.cleaned_data)
    status = 422 if form.errors else 200
    if request.htmx:
        context = {"work": work, "project": work.task.project, "flag_form": form}
        context["own_flag"] = _own_flag(request, work)
        return render(request, "annotate/_flag.html", context, status=status)
    if work.task.kind not in KINDS:
        return redirect("assignment", slug, work.pk)
    return work_page(request, work, _as_typed(request, work), status=status, flag_form=form)


def _as_typed(request: Request, work: Assignment) -> WorkForm:
    """The work as it is on the page, sent along with something else and not to be judged yet."""
    form_class = _form_class(work)
    sent = form_class(work, request.POST).draft() or dict(work.draft)
    typed = {**sent, "revision_no": request.POST.get("revision_no", "")}
    return form_class(work, initial=typed)


def _own_flag(request: Request, work: Assignment) -> PromptFlag | None:
    return work.task.prompt.flags.open().by(request.user).first()


@require_POST
def undo(request: Request, slug: str, assignment_id: int) -> HttpResponse:
    """Takes a submit or a skip back: the work is on the page again as it was."""
    work = assignment_for(request, slug, assignment_id)
    stored = work.label
    if not work.is_skipped and (stored is None or not work.is_submitted):
        return _open(work, _only(request))
    try:
        if work.is_skipped:
            work.take_back_skip()
        else:
            stored.retract(draft=_form_class(work).initial_of(stored))
    except (Conflict, ValidationError) as error:
        messages.error(request, " ".join(getattr(error, "messages", [str(error)])))
        return redirect("my_work", slug)
    messages.info(request, "Undone.")
    return _open(work, _only(request))


@require_POST
def preview(request: Request, slug: str) -> HttpResponse:
    """Markdown as it will be shown."""
    project_for(request, slug, Role.LABELER)
    template = "annotate/_preview.html" if request.htmx else "annotate/preview.html"
    return render(request, template, {"text": request.POST.get("text", "")})


@require_GET
def my_work(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.LABELER)
    kind = request.GET.get("kind", "")
    own = Assignment.objects.by(request.user).of_project(project)
    work = own.with_answers(project.edit_window)
    if kind in KINDS:
        work = work.of_kind(kind)
    page = page_of(work, request.GET, size=25, newest_first=True)
    kinds = [(task, each.words.done) for task, each in KINDS.items()]
    context = {"project": project, "page": page, "kind": kind, "kinds": kinds}
    context["sent_back"] = own.sent_back().count()
    return render(request, "annotate/my_work.html", context)


def _just_saved(labeler: User, project: Project) -> Assignment | None:
    """What can still be undone."""
    return latest_ended.first(labeler=labeler.pk, project=project.pk)
