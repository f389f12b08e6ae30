"""The leads' dashboard, the batches of tasks, and the tasks with a known answer."""

from __future__ import annotations

from datetime import date, timedelta

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import Request, Role, project_for, ranking_for
from annotate.labels.agreement import agreement
from annotate.labels.gold import make_gold
from annotate.plots import bars, intervals
from annotate.quality import labelers as quality
from annotate.quality import progress as figures
from annotate.quality.time_sheet import start_of_day
from annotate.work.batches import OF_EACH_PROMPT, Batch, Plan, close_batch, plan_batch
from annotate.work.batches import batches as batches_of
from feedback_site.answer_checks.languages import CODES

LAST_DAY = date(2999, 12, 31)


@require_GET
def progress(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    rankings = quality.trusted_doubly_ranked(project)
    days, weeks = figures.throughput(project), quality.over_time(rankings)
    today = timezone.localdate()
    context = {
        "project": project,
        "progress": figures.progress(project),
        "days": days,
        "throughput": bars("Answers per day", days, until=today, count=figures.SHOWN_DAYS),
        "agreement_plot": intervals("Pairwise agreement per week, with 95 % intervals", weeks),
        "health": figures.queue_health(project),
        "skips": figures.skip_reasons(project),
        "causes": figures.causes(project),
        "remarks": figures.remarks(project),
        "agreement": agreement(rankings),
        "weeks": weeks,
        "versions": quality.by_guideline(rankings),
    }
    return render(request, "annotate/progress.html", context)


class PlanForm(forms.Form):
    """How urgent a batch is, and who it is for."""

    priority = forms.IntegerField(
        min_value=-100, max_value=100, initial=0, help_text="Higher comes first."
    )
    due = forms.DateField(
        required=False,
        validators=[MaxValueValidator(LAST_DAY)],
        widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d"),
        help_text="The last day. Of the same priority, what is due earlier comes first.",
    )
    language = forms.ChoiceField(
        required=False, help_text="Only members with this language get these tasks."
    )
    skill = forms.CharField(
        required=False, max_length=50, help_text="Only members with this skill get these tasks."
    )

    def __init__(self, batch: Batch, data: QueryDict | None = None) -> None:
        plan = batch.plan
        said = {"priority": plan.priority, "due": plan.last_day}
        super().__init__(data, initial={**said, "language": plan.language, "skill": plan.skill})
        asked = [(code, code) for code in sorted({*CODES, *batch.languages})]
        own = (OF_EACH_PROMPT, "each prompt's own")
        self.fields["language"].choices = [("", "any"), own, *asked]  # type: ignore[attr-defined]
        self.fields["skill"].widget.attrs["dir"] = "auto"

    def plan(self) -> Plan:
        said = self.cleaned_data
        due = start_of_day(said["due"] + timedelta(days=1)) if said["due"] else None
        return Plan(said["priority"], due, said["language"], said["skill"])


@require_http_methods(["GET", "POST"])
def batches(request: Request, slug: str) -> HttpResponse:
    """What is open, batch by batch, and in which order and by whom it is done."""
    project = project_for(request, slug, Role.OPERATOR)
    found = batches_of(project)
    name = request.POST.get("batch") or request.GET.get("batch", "")
    batch = next((each for each in found if each.name == name), None)
    if name and batch is None:
        raise Http404("No task of this batch is open.")
    is_sent = bool(batch) and request.POST.get("act") == "plan"
    form = PlanForm(batch, request.POST if is_sent else None) if batch else None
    if form and form.is_valid():
        changed = plan_batch(project, name, form.plan())
        messages.success(request, f"Saved for {changed:,} open task{'' if changed == 1 else 's'}.")
        return redirect("batches", slug)
    if batch and request.POST.get("act") == "close":
        closed = close_batch(project, name)
        messages.success(request, f"{closed:,} closed. What was answered stays.")
        return redirect("batches", slug)
    context = {"project": project, "batches": found, "batch": batch, "form": form}
    status = 422 if form and form.errors else 200
    return render(request, "annotate/batches.html", context, status=status)


@require_http_methods(["GET", "POST"])
def gold(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    if request.method == "POST":
        ranking = ranking_for(request, slug, request.POST.get("ranking", ""))
        is_practice = request.POST.get("act") == "practice"
        try:
            task = make_gold(ranking)
            task.retire() if request.POST.get("act") == "retire" else task.use(is_practice)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        return redirect("gold", slug)
    context = {
        "project": project,
        "golds": quality.golds(project),
        "candidates": quality.gold_candidates(project),
    }
    return render(request, "annotate/gold.html", context)
