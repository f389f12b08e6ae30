"""Leads look at how labelers work, and may pause them, have them qualify again, or leave out what
they said."""

from __future__ import annotations

import csv
import re
from datetime import date
from typing import Any
from urllib.parse import urlencode

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
from annotate.prompts.withdrawals import withdrawn_from
from annotate.quality import labelers as quality
from annotate.quality.one_labeler import at_odds, met_on, side_by_side
from annotate.quality.time_sheet import time_sheet as lines_of
from annotate.quality.unusual import unusual_guests
from annotate.work.assignments import Assignment

ANSWERS = 20
LONGEST_SKILL = 50

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
    withdrawn = set(withdrawn_from(project).values_list("pk", flat=True))
    context = {"project": project, "labelers": figures, "withdrawn": withdrawn}
    return render(request, "annotate/labelers.html", context)


# The form in which a browser takes a day, whatever the language of the page.
DAY = forms.DateInput({"type": "date"}, format="%Y-%m-%d")


class PeriodForm(forms.Form):
    """The days of a time sheet; this month, unless others are given."""

    first = forms.DateField(label="From", widget=DAY)
    last = forms.DateField(label="to", widget=DAY)

    def __init__(self, data: QueryDict | None = None) -> None:
        today = timezone.localdate()
        self.month = {"first": today.replace(day=1), "last": today}
        super().__init__({**self.month, **data.dict()} if data else None, initial=self.month)

    def clean(self) -> dict[str, date]:
        said = self.cleaned_data
        if {"first", "last"} <= said.keys() and said["last"] < said["first"]:
            raise ValidationError("The last day is before the first. Swap them.")
        return said


class Listed(forms.CharField):
    """Several, with commas between them."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        parts = (" ".join(part.split()) for part in super().clean(value).split(","))
        return list(dict.fromkeys(filter(None, parts)))


class KnowledgeForm(forms.Form):
    languages = Listed(required=False, max_length=200, help_text="Codes, like “de, en”.")
    skills = Listed(
        required=False,
        max_length=1000,
        widget=forms.TextInput({"dir": "auto"}),
        help_text="As batches ask for them, like “medicine, law”.",
    )

    def __init__(self, member: Membership, data: QueryDict | None) -> None:
        known = {"languages": member.languages, "skills": member.skills}
        super().__init__(data, initial=known)

    def clean_languages(self) -> list[str]:
        codes = [each.lower() for each in self.cleaned_data["languages"]]
        for code in codes:
            if not re.fullmatch("[a-z]{2,3}", code):
                raise ValidationError(f"“{code}” is no code of a language. Write “de” for German.")
        return codes

    def clean_skills(self) -> list[str]:
        skills: list[str] = self.cleaned_data["skills"]
        for skill in skills:
            if len(skill) > LONGEST_SKILL:
                raise ValidationError(f"Say it in {LONGEST_SKILL} characters: “{skill[:20]}…”.")
        return skills


@require_GET
def time_sheet(request: Request, slug: str) -> HttpResponse:
    """What each person worked in a period, and what that comes to where a wage is set."""
    project = project_for(request, slug, Role.REVIEWER)
    form = PeriodForm(request.GET or None)
    asked = form.cleaned_data if form.is_valid() else form.month
    context = {
        "project": project,
        "period": form,
        "lines": [] if form.errors else lines_of(project, asked["first"], asked["last"]),
        "sheet": urlencode({name: asked[name] for name in form.month if name in asked}),
    }
    status = 422 if form.errors else 200
    return render(request, "annotate/time_sheet.html", context, status=status)


@require_GET
def times(request: Request, slug: str) -> HttpResponse:
    """The time sheet of a period as CSV, a row a person."""
    project = project_for(request, slug, Role.REVIEWER)
    form = PeriodForm(request.GET)
    if not form.is_valid():
        messages.error(
            request, " ".join(str(each) for errors in form.errors.values() for each in errors)
        )
        return redirect("labelers_time_sheet", slug)
    first, last = form.cleaned_data["first"], form.cleaned_data["last"]
    name = f"{slug}-times-{first}-{last}.csv"
    reply = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
    rows = csv.writer(reply)
    rows.writerow(("username", "name", "from", "to", "tasks", "accepted", "returned", "minutes"))
    for line in lines_of(project, first, last):
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
    if request.method == "POST" and request.POST.get("act") != "know":
        _act(request, member)
        return redirect("labeler", slug, member.pk)
    if request.method == "POST" and not _may_act(request, member):
        raise PermissionDenied(f"This is for the {member.role}s of {member.project}.")
    knowledge = _know(request, member)
    if knowledge is None:
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
        "knowledge": knowledge,
        "page": page_of(answers, request.GET, size=ANSWERS, newest_first=True),
        "met": met,
        "is_at_odds": is_at_odds,
    }
    status = 422 if knowledge.errors else 200
    return render(request, "annotate/labeler.html", context, status=status)


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


def _know(request: Request, member: Membership) -> KnowledgeForm | None:
    """The form with the languages and skills; None once they are stored."""
    form = KnowledgeForm(member, request.POST if request.POST.get("act") == "know" else None)
    if not form.is_valid():
        return form
    member.know(**form.cleaned_data)
    messages.success(request, f"{member.user.display_name} gets the tasks that ask for these.")
    return None


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
