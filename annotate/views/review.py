"""Reviewing: what the labelers answered, side by side, and what becomes of it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import Request, Role, project_for, review_for
from annotate.chat.feedback import Feedback
from annotate.labelling.queue import next_assignment
from annotate.labels.kinds import kind_of
from annotate.labels.label import Conflict
from annotate.labels.review_forms import ReviewForm
from annotate.labels.reviews import Review, labels_under_review
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

PAGE_SIZE = 25


@require_GET
def reviews(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    tasks = project.tasks.of_kind(Task.Kind.REVIEW).with_subjects()
    is_settled = request.GET.get("state") == "settled"
    shown = tasks.open().order_by("id")
    if is_settled:
        shown = tasks.closed().with_decisions().order_by("-closed_at")
    page = Paginator(shown, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"project": project, "page": page, "is_settled": is_settled}
    return render(request, "annotate/reviews.html", context)


@require_GET
def review_next(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    work = next_assignment(request.user, project, only=Task.Kind.REVIEW)
    if work is None:
        messages.info(
            request,
            "No reviews are waiting for you. You don't review prompts you answered yourself.",
        )
        return redirect("reviews", slug)
    return redirect("review_one", slug, work.pk)


@require_http_methods(["GET", "POST"])
def one(request: Request, slug: str, assignment_id: int) -> HttpResponse:
    work = review_for(request, slug, assignment_id)
    if work.is_submitted:
        return render(request, "annotate/review_done.html", _decision(work))
    labels = labels_under_review(work.task)
    form_class = kind_of(work.task).review_form
    if request.method == "GET":
        return _page(request, work, form_class(work, labels))
    form = form_class(work, labels, request.POST)
    if "preview" in request.POST:
        return _page(request, work, form, is_preview=True)
    if not form.is_valid():
        return _page(request, work, form, status=422)
    try:
        Review.record(assignment=work, **form.decision())
    except ValidationError as error:
        form.add_error(None, error)
        return _page(request, work, form, status=422)
    except Conflict as conflict:
        return _as_it_is_now(request, slug, work.pk, conflict)
    messages.success(request, "Your review is saved.")
    return redirect("review_next", slug)


def _as_it_is_now(request: Request, slug: str, pk: int, conflict: Conflict) -> HttpResponse:
    """The answers as they are now, and beside them all that the reviewer had filled in."""
    work = review_for(request, slug, pk)
    if work.is_submitted:
        messages.error(request, str(conflict))
        return redirect("review_one", slug, pk)
    form_class, labels = kind_of(work.task).review_form, labels_under_review(work.task)
    data = request.POST.copy()
    data["seen"] = form_class(work, labels).initial["seen"]
    form = form_class(work, labels, data)
    form.full_clean()
    form.add_error(None, f"{conflict} Here are the current answers; what you filled in is kept.")
    return _page(request, work, form, status=409)


def _page(
    request: Request,
    work: Assignment,
    form: ReviewForm,
    status: int = 200,
    is_preview: bool = False,
) -> HttpResponse:
    project = work.task.project
    context: dict[str, Any] = {
        "work": work,
        "project": project,
        "is_preview": is_preview,
        "prompt": work.task.prompt,
        "form": form,
        "labels": form.labels,
        "guideline": project.guideline,
        "complaints": Feedback.objects.all().about(work.task),
    }
    context |= form.page()
    return render(request, kind_of(work.task).review_template, context, status=status)


def _decision(work: Assignment) -> dict[str, Any]:
    """Who had said what, and what became of it. `rows`: each completion with its places."""
    reviews, own = Review.ending(work), work.label
    rows = []
    if kind_of(work.task).compares:
        places = [label.places for label in (*(review.label for review in reviews), own) if label]
        completions = work.task.completions.in_bulk(work.shown_order)
        shown = [completions[pk] for pk in work.shown_order]
        rows = [(completion, [of_one[completion.pk] for of_one in places]) for completion in shown]
    return {"work": work, "reviews": reviews, "own": own, "rows": rows}
