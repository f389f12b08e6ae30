"""Talks over the API: what the page *Talks* shows, and asking for more."""

from __future__ import annotations

from django.core.exceptions import ValidationError as Invalid
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role
from annotate.api.access import MayReadOrManage, endpoint, project_of, token_of
from annotate.api.pages import check, described, form_data, listed, only_known, paged, refuse
from annotate.api.strict import StrictSerializer
from annotate.audit.recording import about
from annotate.labels.kinds.talk.tasks import MOST_TALKS, open_talks
from annotate.labels.kinds.talk.turns import HARMS, MOST_TURNS, TalkPlan
from annotate.views.talks.plans import TalkPlanForm


class Progress(serializers.Serializer):
    asked = serializers.IntegerField()
    done = serializers.IntegerField()


class TalkPlanAnswer(serializers.ModelSerializer[TalkPlan]):
    first = serializers.CharField(source="first.name")
    second = serializers.CharField(source="second.name", allow_null=True, default=None)
    harm = serializers.CharField(allow_blank=True)
    author = serializers.CharField(source="author.username")
    progress = Progress()

    class Meta:
        model = TalkPlan
        fields = [
            *("id", "first", "second", "goal", "harm", "length", "author", "created_at"),
            "progress",
        ]


class NewTalks(StrictSerializer):
    first = serializers.IntegerField(min_value=1, help_text="The id of a policy.")
    second = serializers.IntegerField(
        required=False, min_value=1, help_text="Of another; else the first answers twice."
    )
    goal = serializers.CharField(max_length=2000, help_text="What the labeler should try.")
    harm = serializers.ChoiceField(HARMS, required=False, help_text="Of a red team.")
    length = serializers.IntegerField(
        default=0, min_value=0, max_value=MOST_TURNS, help_text="Turns; 0: the labeler ends it."
    )
    count = serializers.IntegerField(min_value=1, max_value=MOST_TALKS)


@listed("list_talks", TalkPlanAnswer)
@described("open_talks", TalkPlanAnswer, request=NewTalks, method="POST", status=201)
@endpoint("GET", "POST", permission=MayReadOrManage)
def talks(request: Request) -> Response:
    """What labelers are asked to talk about, and how far it is; a POST asks for more."""
    project = project_of(request, Role.OPERATOR)
    if request.method == "GET":
        plans = project.talk_plans.select_related("first", "second", "author")
        return paged(request, plans, TalkPlanAnswer)
    sent = {"length": 0, **only_known(request.data, NewTalks().fields)}
    plan = TalkPlan(project=project, author=token_of(request).user)
    form = TalkPlanForm(project, form_data(sent), instance=plan)
    said = check(form)
    try:
        open_talks(form.save(commit=False), count=said["count"])
    except Invalid as error:
        raise refuse(error) from None
    about(plan)
    return Response(TalkPlanAnswer(plan).data, status=201)
