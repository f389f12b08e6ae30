"""The feedback inbox: what guests said of answers, and what is done about it."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from annotate.access import MAY_ACT_AS, Request, Role, project_for
from annotate.chat import inbox
from annotate.chat.feedback import Feedback, FeedbackQuerySet
from annotate.ids import id_in
from annotate.paging import counted, page_of
from annotate.people.models import Project
from annotate.prompts.policies import Policy
from annotate.quality.rates import rates_of_policies

PAGE_SIZE = 20
THUMBS = [("down", "down"), ("up", "up"), ("", "any")]
STATES = [
    ("", "not dismissed"),
    ("waiting", "nobody asked yet"),
    ("queued", "labelers asked"),
    ("dismissed", "dismissed"),
]


class InboxFilter(forms.Form):
    """What is left empty filters nothing."""

    words = forms.CharField(required=False, max_length=200)
    thumb = forms.ChoiceField(required=False, choices=THUMBS)
    policy = forms.ModelChoiceField(Policy.objects.none(), required=False, empty_label="any")
    reason = forms.ChoiceField(required=False, choices=[("", "any"), *Feedback.Reason.choices])
    tag = forms.CharField(required=False, max_length=50)
    since = forms.DateField(required=False, widget=forms.DateInput({"type": "date"}))
    until = forms.DateField(required=False, widget=forms.DateInput({"type": "date"}))
    state = forms.ChoiceField(required=False, choices=STATES)

    def __init__(self, project: Project, asked: QueryDict) -> None:
        data = asked.copy()
        data.setdefault("thumb", "down")
        super().__init__(data, auto_id="filter-%s")
        self.project = project
        policies = self.fields["policy"]
        assert isinstance(policies, forms.ModelChoiceField)
        policies.queryset = project.policies.all()

    def thumbs(self) -> FeedbackQuerySet:
        """Those asked for; all, while the form asks for something that is not there."""
        thumbs = inbox.thumbs_of(self.project)
        if not self.is_valid():
            return thumbs
        return thumbs.asked_for(**self.cleaned_data)


class ActForm(forms.Form):
    """What is done with the thumbs chosen."""

    act = forms.ChoiceField(choices=[(each, each) for each in ("queue", "dismiss", "restore")])
    work = forms.ChoiceField(
        label="Ask labelers to",
        required=False,
        choices=[
            choice
            for choice in Project.ThumbsDownWork.choices
            if choice[0] != Project.ThumbsDownWork.NONE
        ],
    )
    why = forms.CharField(label="Reason to dismiss", required=False, max_length=300)

    def clean(self) -> dict[str, str]:
        said = super().clean() or self.cleaned_data
        if said.get("act") == "dismiss" and not said.get("why"):
            self.add_error("why", "Say in a few words why, so that others understand.")
        return said


@require_http_methods(["GET", "POST"])
def feedback(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.REVIEWER)
    act = ActForm(request.POST or None, auto_id="act-%s")
    if request.method == "POST" and _is_done(request, project, act):
        return redirect(reverse("feedback", args=[slug], query=request.GET.dict() or None))
    form = InboxFilter(project, request.GET)
    thumbs = form.thumbs()
    context = {
        "project": project,
        "form": form,
        "act": act,
        "page": page_of(thumbs.for_inbox(), request.GET, size=PAGE_SIZE, newest_first=True),
        "count": counted(thumbs),
        "chosen": {id_in(each) for each in request.POST.getlist("chosen")},
        "is_filtered": bool({*request.GET} - {"after", "before"}),
        "trends": inbox.trends(project),
        "rates": rates_of_policies(project),
        "may_trace": request.membership.role in MAY_ACT_AS[Role.OPERATOR],
    }
    return render(request, "annotate/feedback.html", context, status=422 if act.errors else 200)


def _is_done(request: Request, project: Project, form: ActForm) -> bool:
    chosen = [id_in(each) for each in request.POST.getlist("chosen")]
    thumbs = list(inbox.thumbs_of(project).filter_ids(chosen))
    if form.is_valid() and not thumbs:
        form.add_error(None, "Choose at least one thumb.")
    if not form.is_valid():
        return False
    said = form.cleaned_data
    count = 0
    for thumb in thumbs:
        if said["act"] == "dismiss":
            thumb.dismiss(by=request.user, why=said["why"])
        elif said["act"] == "restore":
            thumb.restore()
        elif not thumb.ask_people(said["work"] or Project.ThumbsDownWork.WRITE):
            continue
        count += 1
    told = {"dismiss": "dismissed", "restore": "restored", "queue": "queued"}[said["act"]]
    messages.success(request, f"{count} of {len(thumbs)} {told}.")
    if count < len(thumbs):
        messages.warning(request, "Only bad answers that may become data can be queued.")
    return True
