"""Reviewing: what the labelers answered, side by side, and what becomes of it."""

from __future__ import annotations

from itertools import chain
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, Role, project_for, review_for, review_task_for
from annotate.chat.feedback import Feedback
from annotate.labelling.hot_queries import tasks_for
from annotate.labelling.queue import next_assignment, open_review
from annotate.labels.kinds import KINDS, kind_of
from annotate.labels.label import Conflict
from annotate.labels.review_forms import ReviewFilter, ReviewForm
from annotate.labels.reviews import Review, labels_under_review
from annotate.people.models import Project, User
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

PAGE_SIZE = 25
TRIES = 5  # reviews that others may take meanwhile, before one says that none is left


@require_GET
def reviews(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    chosen = filter_of(project, request.GET)
    tasks = chosen.narrow(project.tasks.of_kind(Task.Kind.REVIEW)).with_subjects()
    is_settled = request.GET.get("state") == "settled"
    shown = tasks.open().order_by("id")
    if is_settled:
        shown = tasks.closed().with_decisions().order_by("-closed_at")
    page = Paginator(shown, PAGE_SIZE).get_page(request.GET.get("page"))
    asked = {**_kept(request), **({"state": "settled"} if is_settled else {})}
    context = {"project": project, "page": page, "is_settled": is_settled, "filter": chosen}
    context["kept"] = f"{urlencode(asked)}&" if asked else ""
    return render(request, "annotate/reviews.html", context)


def filter_of(project: Project, asked: Any) -> ReviewFilter:
    """Which of its reviews are asked for."""
    kinds = [(task, kind.words.many) for task, kind in KINDS.items()]
    return ReviewFilter(project, kinds, asked)


@require_GET
def review_next(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    chosen = filter_of(project, request.GET)
    work = next_of(request.user, project, chosen)
    if work is None:
        messages.info(
            request,
            "No reviews are waiting for you. You don't review prompts you answered yourself.",
        )
        return redirect(reverse("reviews", args=[slug], query=_kept(request)))
    return redirect(reverse("review_one", args=[slug, work.pk], query=_kept(request)))


def next_of(reviewer: User, project: Project, chosen: ReviewFilter) -> Assignment | None:
    """Leases a review that is chosen, one that this reviewer holds already before all others; None:
    nothing is left for them."""
    if not chosen.is_narrow:
        return next_assignment(reviewer, project, only=Task.Kind.REVIEW)
    reviews = project.tasks.of_kind(Task.Kind.REVIEW).open().order_by("id")
    held = chosen.narrow(reviews.held_by(reviewer))
    waiting = chosen.narrow(tasks_for(reviewer, project, [Task.Kind.REVIEW]))
    each_in_turn = chain(held[:TRIES], waiting[:TRIES])
    found = (open_review(reviewer, project, each.pk) for each in each_in_turn)
    return next(filter(None, found), None)


def _kept(request: Request) -> dict[str, str]:
    """The filter, on the way from one review to the next."""
    return {name: value for name in ReviewFilter.base_fields if (value := request.GET.get(name))}


@require_GET
def review_open(request: Request, slug: str, task_id: int) -> HttpResponse:
    """This review, out of its turn."""
    task = review_task_for(request, slug, task_id)
    work = open_review(request.user, task.project, task.pk)
    if work is None:
        messages.info(
            request,
            "You cannot open this review: it is settled, somebody else has it open, or you "
            "answered the prompt yourself.",
        )
        return redirect(reverse("reviews", args=[slug], query=_kept(request)))
    return redirect(reverse("review_one", args=[slug, work.pk], query=_kept(request)))


@require_POST
def skip(request: Request, slug: str, assignment_id: int) -> HttpResponse:
    """Leaves this review to others, and goes to the next."""
    work = review_for(request, slug, assignment_id)
    if work.is_submitted or not work.skip(reason=Assignment.SkipReason.OTHER):
        messages.error(request, "This review is finished, so it cannot be skipped.")
    else:
        messages.info(request, "Skipped. You can still open it from the list.")
    return redirect(reverse("review_next", args=[slug], query=_kept(request)))


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
    return redirect(reverse("review_next", args=[slug], query=_kept(request)))


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
        "query": urlencode(_kept(request)),
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
