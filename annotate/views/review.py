"""Reviewing: what the labelers answered, side by side, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import Request, Role, project_for, review_for
from annotate.labelling.queue import next_assignment
from annotate.labelling.review_forms import RankingReviewForm, ReviewForm, review_form_for
from annotate.labels.kinds.ranking import Placement, Ranking
from annotate.labels.label import Conflict
from annotate.labels.reviews import Review, labels_under_review
from annotate.prompts.policies import Completion
from annotate.text.diff import changes
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

PAGE_SIZE = 25


@require_GET
def reviews(request: Request, slug: str) -> HttpResponse:
    project = project_for(request.user, slug, Role.REVIEWER)
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
    project = project_for(request.user, slug, Role.REVIEWER)
    work = next_assignment(request.user, project, only=Task.Kind.REVIEW)
    if work is None:
        messages.info(request, "No review waits for you. Prompts you answered yourself stay out.")
        return redirect("reviews", slug)
    return redirect("review_one", slug, work.pk)


@require_http_methods(["GET", "POST"])
def one(request: Request, slug: str, assignment_id: int) -> HttpResponse:
    work = review_for(request.user, slug, assignment_id)
    if work.is_submitted:
        return render(request, "annotate/review_done.html", _decision(work))
    labels = labels_under_review(work.task)
    form_class = review_form_for(work)
    if request.method == "GET":
        return _page(request, work, form_class(work, labels))
    form = form_class(work, labels, request.POST)
    if "preview" in request.POST:
        return _page(request, work, form, is_preview=True)
    if not form.is_valid():
        return _page(request, work, form, status=422)
    try:
        Review.record(assignment=work, **form.said())
    except ValidationError as error:
        form.add_error(None, error)
        return _page(request, work, form, status=422)
    except Conflict as conflict:
        return _as_it_is_now(request, slug, work.pk, conflict)
    messages.success(request, "Your review is saved.")
    return redirect("review_next", slug)


def _as_it_is_now(request: Request, slug: str, pk: int, conflict: Conflict) -> HttpResponse:
    """The answers as they are now, and beside them all that the reviewer had filled in."""
    work = review_for(request.user, slug, pk)
    if work.is_submitted:
        messages.error(request, str(conflict))
        return redirect("review_one", slug, pk)
    form_class, labels = review_form_for(work), labels_under_review(work.task)
    data = request.POST.copy()
    data["seen"] = form_class(work, labels).initial["seen"]
    form = form_class(work, labels, data)
    form.full_clean()
    form.add_error(None, f"{conflict} This is how they are now; what you filled in is kept.")
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
    }
    if isinstance(form, RankingReviewForm):
        context["rows"] = _matrix(form)
        context["gold"] = work.task.subject and work.task.subject.gold
        return render(request, "annotate/review_ranking.html", context, status=status)
    label = form.labels[0] if form.labels else None
    if label and label.supersedes:
        context["correction"] = changes(label.supersedes.text, label.text)
        context["asked"] = label.supersedes.reviews.last()
    if label and form.is_bound:
        context["edit"] = changes(label.text, form["text"].value() or "")
    return render(request, "annotate/review_demonstration.html", context, status=status)


@dataclass(frozen=True)
class Row:
    """One completion, and the place each labeler gave it."""

    letter: str
    completion: Completion
    placed: list[Placement]
    flags: list[list[str]]
    own: forms.BoundField
    gold: int | None
    spread: int  # 0 all agree … 4 first for one and last for another

    @property
    def cells(self) -> list[tuple[Placement, list[str]]]:
        return list(zip(self.placed, self.flags, strict=True))


def _matrix(form: RankingReviewForm) -> list[Row]:
    rankings: list[Ranking] = list(form.labels)
    places = [{placed.completion_id: placed for placed in ranking.placed} for ranking in rankings]
    subject = form.assignment.task.subject
    gold = subject.gold.places if subject and subject.gold else {}
    letters = form.assignment.letters
    rows = []
    for completion in form.completions:
        placed = [of_one[completion.pk] for of_one in places]
        flags = [each.flag_labels for each in placed]
        at_gold = gold.get(completion.pk)
        reach = [each.place for each in placed] + ([at_gold] if at_gold else []) or [1]
        apart = (max(reach) - min(reach)) / max(len(form.completions) - 1, 1)
        own = form[f"place_{completion.pk}"]
        letter = letters[completion.pk]
        rows.append(Row(letter, completion, placed, flags, own, at_gold, round(4 * apart)))
    return rows


def _decision(work: Assignment) -> dict[str, Any]:
    """Who had said what, and what became of it. `rows`: each completion with its places."""
    said = work.reviews.select_related("demonstration__labeler", "ranking__labeler")
    reviews = list(said.prefetch_related("ranking__placements"))
    places = [review.ranking.places for review in reviews if review.ranking]
    own = work.label
    if isinstance(own, Ranking):
        places.append(own.places)
    completions = work.task.completions.in_bulk(work.shown_order)
    shown = [completions[pk] for pk in work.shown_order]
    rows = [(completion, [of_one[completion.pk] for of_one in places]) for completion in shown]
    return {"work": work, "reviews": reviews, "own": own, "rows": rows}
