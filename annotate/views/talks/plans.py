"""Operators ask for talks, and talk with any policy themselves."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import Request, Role, project_for
from annotate.audit.recording import about
from annotate.labels.forms import Text
from annotate.labels.kinds.talk.tasks import MOST_TALKS, open_own_talk, open_talks
from annotate.labels.kinds.talk.turns import HARMS, MOST_TURNS, TalkPlan
from annotate.paging import page_of
from annotate.people.models import Project


class TalkPlanForm(forms.ModelForm):
    goal = Text(
        rows=3,
        max_length=2000,
        label="Goal",
        help_text="What the labeler should try, such as “Plan a trip for a family with a small"
        " child”.",
        error_messages={"required": "Say what the talk should be about."},
    )
    count = forms.IntegerField(min_value=1, max_value=MOST_TALKS, initial=10, label="Talks")
    length = forms.IntegerField(
        min_value=0,
        max_value=MOST_TURNS,
        label="Turns in each",
        help_text="0: the labeler ends it.",
    )

    class Meta:
        model = TalkPlan
        fields = ("first", "second", "goal", "harm", "length")

    def __init__(self, project: Project, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        policies = project.policies.sampleable()
        for name, label, empty in (
            ("first", "Policy", "choose"),
            ("second", "Other policy", "none: the first answers twice"),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset, field.label, field.empty_label = policies, label, empty
        self.fields["second"].help_text = ""
        self.initial["length"] = 3
        harm = self.fields["harm"]
        assert isinstance(harm, forms.ChoiceField)
        harm.choices = [("", "none"), *HARMS]
        harm.label = "Red team for"
        harm.help_text = "The harm that the labeler tries to bring about. None for a use case."

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        if said.get("first") and said.get("first") == said.get("second"):
            said["second"] = None
        return said


@require_http_methods(["GET", "POST"])
def talks(request: Request, slug: str) -> HttpResponse:
    """What is asked for, how far it is, and a form to ask for more."""
    project = project_for(request, slug, Role.OPERATOR)
    plan = TalkPlan(project=project, author=request.user)
    form = TalkPlanForm(project, request.POST or None, instance=plan)
    if form.is_valid():
        try:
            return _open(request, form)
        except ValidationError as error:
            form.add_error("first", error)
    page = page_of(project.talk_plans.all(), request.GET, size=25, newest_first=True)
    context = {"project": project, "form": form, "page": page}
    context["has_policies"] = project.policies.sampleable().exists()
    status = 422 if form.errors else 200
    return render(request, "annotate/talks.html", context, status=status)


def _open(request: Request, form: TalkPlanForm) -> HttpResponse:
    plan = form.save(commit=False)
    slug = plan.project.slug
    if "myself" in request.POST:
        work = open_own_talk(plan, request.membership)
        about(plan)
        return redirect("assignment", slug, work.pk)
    made = len(open_talks(plan, count=form.cleaned_data["count"]))
    about(plan)
    opened = f"{made:,} talks are" if made > 1 else "One talk is"
    messages.success(request, f"{opened} open. Labelers find them under Label.")
    return redirect("talks", slug)
