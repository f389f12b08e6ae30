"""Judges over the API: adding one, giving it tasks, and how far it agrees with people."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as Invalid
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role, judge_for
from annotate.api.access import MayReadOrManage, endpoint, here, project_of, token_of
from annotate.api.pages import Conflict, check, described, form_data, listed, only_known, paged
from annotate.api.strict import StrictSerializer
from annotate.audit.recording import about
from annotate.judges.forms import JudgeForm, RunForm
from annotate.judges.models import LONGEST_RUBRIC, MOST_TASKS, Judge
from annotate.judges.progress import progress_of
from annotate.judges.report import Report
from annotate.judges.runs import JudgeRun


class JudgeRow(serializers.ModelSerializer[Judge]):
    policy = serializers.CharField(source="policy.name")
    form = serializers.CharField(help_text="pair, rating or yes_no")

    class Meta:
        model = Judge
        fields = [
            *("id", "name", "version", "policy", "rubric", "form", "created_at", "withdrawn_at"),
        ]


class NewJudge(StrictSerializer):
    name = serializers.CharField(max_length=60)
    policy = serializers.IntegerField(min_value=1, help_text="The id of one that can be asked.")
    rubric = serializers.CharField(max_length=LONGEST_RUBRIC)
    form = serializers.ChoiceField(Judge.Form.choices)


class JudgeWork(StrictSerializer):
    scope = serializers.ChoiceField(JudgeRun.Scope.choices)
    budget = serializers.IntegerField(min_value=1, max_value=MOST_TASKS, help_text="Tasks.")


class JudgeProgress(serializers.Serializer):
    total = serializers.IntegerField()
    replied = serializers.IntegerField()
    open = serializers.IntegerField()
    ended = serializers.IntegerField(help_text="Without a reply.")
    unreadable = serializers.IntegerField()
    troubles = serializers.ListField(child=serializers.CharField())


class JudgeAgreement(serializers.Serializer):
    share = serializers.FloatField(source="value", help_text="Of pairs that people ranked too.")
    interval = serializers.ListField(child=serializers.FloatField(), help_text="95 %.")


class JudgeAnswer(JudgeRow):
    progress = serializers.SerializerMethodField()
    agreement = serializers.SerializerMethodField(help_text="With people; null: they never met.")
    price = serializers.SerializerMethodField(help_text="Where the prices are known.")

    class Meta(JudgeRow.Meta):
        fields = [*JudgeRow.Meta.fields, "progress", "agreement", "price"]

    @extend_schema_field(JudgeProgress)
    def get_progress(self, judge: Judge) -> Any:
        return JudgeProgress(progress_of(judge)).data

    @extend_schema_field(JudgeAgreement(allow_null=True))
    def get_agreement(self, judge: Judge) -> Any:
        share = Report(judge).agreement
        return JudgeAgreement(share).data if share else None

    def get_price(self, judge: Judge) -> float | None:
        price = Report(judge).price
        return None if price is None else float(price)


@listed("list_judges", JudgeRow)
@described("add_judge", JudgeAnswer, request=NewJudge, method="POST", status=201)
@endpoint("GET", "POST", permission=MayReadOrManage)
def judges(request: Request) -> Response:
    """The judges, the newest first, those that are withdrawn too; a POST adds one."""
    project = project_of(request, Role.OPERATOR)
    if request.method == "GET":
        return paged(request, project.judges.select_related("policy"), JudgeRow)
    form = JudgeForm(project, form_data(only_known(request.data, NewJudge().fields)))
    check(form)
    judge = form.add(token_of(request).user)
    about(judge)
    return Response(JudgeAnswer(judge).data, status=201)


@described("retrieve_judge", JudgeAnswer)
@endpoint("GET", permission=MayReadOrManage)
def judge(request: Request, judge_id: int) -> Response:
    """One judge, and how far it is with what it was given."""
    return _answer(request, judge_id)


@described("give_tasks_to_judge", JudgeAnswer, request=JudgeWork, method="POST", status=201)
@endpoint("POST", permission=MayReadOrManage)
def run(request: Request, judge_id: int) -> Response:
    """Gives it tasks that it has not had."""
    found = judge_for(*here(request), judge_id)
    said = check(RunForm(form_data(only_known(request.data, JudgeWork().fields))))
    return _acted(request, judge_id, lambda: found.start(**said, by=token_of(request).user), 201)


@described("stop_judge", JudgeAnswer, method="POST")
@endpoint("POST", permission=MayReadOrManage)
def cancel(request: Request, judge_id: int) -> Response:
    """Takes back the questions that were not asked yet."""
    found = judge_for(*here(request), judge_id)
    return _acted(request, judge_id, found.questions.cancel)


@described("resume_judge", JudgeAnswer, method="POST")
@endpoint("POST", permission=MayReadOrManage)
def resume(request: Request, judge_id: int) -> Response:
    """Asks again what ended without a reply."""
    found = judge_for(*here(request), judge_id)
    return _acted(request, judge_id, found.ask_again)


@described("withdraw_judge", JudgeAnswer, method="POST")
@endpoint("POST", permission=MayReadOrManage)
def withdraw(request: Request, judge_id: int) -> Response:
    """Ends its work for good; what it said stays."""
    found = judge_for(*here(request), judge_id)
    return _acted(request, judge_id, found.withdraw)


def _acted(request: Request, judge_id: int, act: Any, status: int = 200) -> Response:
    try:
        act()
    except Invalid as error:
        raise Conflict(" ".join(error.messages)) from None
    return _answer(request, judge_id, status)


def _answer(request: Request, judge_id: int, status: int = 200) -> Response:
    return Response(JudgeAnswer(judge_for(*here(request), judge_id)).data, status=status)
