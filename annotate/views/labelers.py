"""Leads look at how labelers work, and may pause them, have them qualify again, or leave out what
they said."""

from __future__ import annotations

import csv
from datetime import date

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import MAY_ACT_AS, Request, Role, ended_work_for, member_for, project_for
from annotate.exchange.files.readers import escaped
from annotate.ids import id_in
from annotate.labels.agreement import agreement
from annotate.labels.gold import qualification_of
from annotate.labels.kinds import KINDS, kind_of
from annotate.paging import page_of
from annotate.people.models import Membership
from annotate.quality import labelers as quality
from annotate.quality.one_labeler import at_odds, met_on, side_by_side
from annotate.quality.time_sheet import time_sheet
from annotate.quality.unusual import unusual_guests
from annotate.work.assignments import Assignment

ANSWERS = 20

DONE = {
    "pause": "{} is paused and gets no tasks.",
    "resume": "{} can work again.",
    "requalify": "{} has to qualify again before the next task.",
    "exclude": "{} is excluded from new snapshots.",
    "include": "{} is included in new snapshots again.",
    "vouch": "{}'s thumbs now count for training.",
}


@require_GET
def labelers(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    figures = quality.labelers(project, quality.doubly_ranked(project))
    context = {"project": project, "labelers": figures, "period": PeriodForm()}
    return render(request, "annotate/labelers.html", context)


# The form in which a browser takes a day, whatever the language of the page.
DAY = forms.DateInput({"type": "date"}, format="%Y-%m-%d")


class PeriodForm(forms.Form):
    """The days of a time sheet; this month, unless others are given."""

    first = forms.DateField(label="From", widget=DAY)
    last = forms.DateField(label="to", widget=DAY)

    def __init__(self, data: QueryDict | None = None) -> None:
        today = timezone.localdate()
        month = {"first": today.replace(day=1), "last": today}
        super().__init__({**month, **data.dict()} if data else None, initial=month)

    def clean(self) -> dict[str, date]:
        said = self.cleaned_data
        if {"first", "last"} <= said.keys() and said["last"] < said["first"]:
            raise ValidationError("The last day is before the first. Swap them.")
        return said


@require_GET
def times(request: Request, slug: str) -> HttpResponse:
    """The time sheet of a period as CSV, a row a person."""
    project = project_for(request, slug, Role.REVIEWER)
    form = PeriodForm(request.GET)
    if not form.is_valid():
        messages.error(
            request, " ".join(str(each) for errors in form.errors.values() for each in errors)
        )
        return redirect("labelers", slug)
    first, last = form.cleaned_data["first"], form.cleaned_data["last"]
    name = f"{slug}-times-{first}-{last}.csv"
    reply = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
    rows = csv.writer(reply)
    rows.writerow(("username", "name", "from", "to", "tasks", "accepted", "returned", "minutes"))
    for line in time_sheet(project, first, last):
        who = (escaped(line.person.username), escaped(line.person.display_name))
        figures = (line.tasks, line.accepted, line.returned, line.minutes)
        rows.writerow((*who, first, last, *figures))
    return reply


@require_http_methods(["GET", "POST"])
def guests(request: Request, slug: str) -> HttpResponse:
    """New guests, with the thumbs that wait for a look, and guests whose thumbs look unusual."""
    project = project_for(request, slug, Role.REVIEWER)
    if request.method == "POST":
        _act(request, member_for(request, slug, id_in(request.POST.get("member")) or 0))
        return redirect("labelers_guests", slug)
    context = {"project": project, "newcomers": quality.newcomers(project)}
    context["left_out"] = quality.left_out(project)
    context["unusual"] = unusual_guests(project)
    return render(request, "annotate/guests.html", context)


@require_http_methods(["GET", "POST"])
def one(request: Request, slug: str, membership_id: int) -> HttpResponse:
    member = member_for(request, slug, membership_id)
    if request.method == "POST":
        _act(request, member)
        return redirect("labeler", slug, member.pk)
    rankings = quality.doubly_ranked(member.project)
    met = met_on(rankings, member.user_id)
    is_at_odds = request.GET.get("show") == "at-odds"
    answers = Assignment.objects.by(member.user).of_project(member.project).ended()
    answers = answers.of_kind(*KINDS).with_answers(member.project.edit_window)
    if is_at_odds:
        answers = answers.about(at_odds(met))
    figures = {each.member.pk: each for each in quality.labelers(member.project, rankings)}
    context = {
        "project": member.project,
        "member": member,
        "figures": figures.get(member.pk),
        "agreement": agreement(rankings, labeler=member.user_id),
        "weeks": quality.over_time(rankings, labeler=member.user_id),
        "habits": quality.habits(member),
        "qualification": qualification_of(member),
        "may_act": _may_act(request, member),
        "page": page_of(answers, request.GET, size=ANSWERS, newest_first=True),
        "met": met,
        "is_at_odds": is_at_odds,
    }
    return render(request, "annotate/labeler.html", context)


@require_GET
def answer(request: Request, slug: str, membership_id: int, assignment_id: int) -> HttpResponse:
    """One answer, beside those of others to the same prompt."""
    work = ended_work_for(request, slug, membership_id, assignment_id)
    label = work.label
    context = {
        "project": work.task.project,
        "membership_id": membership_id,
        "work": work,
        "label": label,
        "sheet": side_by_side(work, label) if label and kind_of(work.task).compares else None,
    }
    return render(request, "annotate/labeler_answer.html", context)


def _may_act(request: Request, member: Membership) -> bool:
    """A reviewer stops no operator."""
    return request.membership.role in MAY_ACT_AS[member.role]


def _act(request: Request, member: Membership) -> None:
    act = request.POST.get("act", "")
    if not _may_act(request, member):
        raise PermissionDenied(f"This is for the {member.role}s of {member.project}.")
    if act not in DONE:
        return
    try:
        getattr(member, act)()
    except ValidationError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, DONE[act].format(member.user.display_name))
