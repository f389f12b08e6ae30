"""Behaviour suites over the API: what policies are asked, asking them, and how each did."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role, policy_for
from annotate.api.access import MayReadOrManage, endpoint, here, project_of, token_of
from annotate.api.pages import (
    IF_MATCH,
    check,
    described,
    form_data,
    listed,
    match,
    only_known,
    paged,
)
from annotate.api.strict import StrictSerializer
from annotate.people.models import Project
from annotate.prompts.models import content_hash
from rlhf.api.rounds import RunAnswer, not_ready
from rlhf.data.checks import NotReady
from rlhf.evaluation.scorecard import launch_scorecard
from rlhf.models.built_in_suites import BUILT_IN
from rlhf.models.suites import MOST_SAMPLES, GateLimits, Suite, SuiteResult
from rlhf.rounds.forms import GateForm, ScorecardForm, SuiteForm


class SuiteAnswer(serializers.Serializer):
    name = serializers.CharField()
    lines = serializers.CharField(allow_blank=True, help_text="One check a line; none: it is off.")
    is_built_in = serializers.BooleanField()


class SuiteList(serializers.Serializer):
    results = SuiteAnswer(many=True)


class SuiteLines(StrictSerializer):
    lines = serializers.CharField(allow_blank=True, trim_whitespace=False)


class NewSuite(SuiteLines):
    name = serializers.CharField(max_length=60)


class SuiteResultAnswer(serializers.ModelSerializer[SuiteResult]):
    policy = serializers.CharField(source="policy.name")
    interval = serializers.ListField(
        child=serializers.FloatField(), allow_null=True, help_text="95 % of the share that passed."
    )
    failures = serializers.ListField(child=serializers.DictField())

    class Meta:
        model = SuiteResult
        fields = ["id", "run", "policy", "suite", "passed", "probes", "samples", "interval"]
        fields += ["failures"]


class NewEvaluation(StrictSerializer):
    policies = serializers.ListField(child=serializers.IntegerField(min_value=1), max_length=100)
    samples = serializers.IntegerField(
        required=False, min_value=1, max_value=MOST_SAMPLES, help_text="To each prompt; 1: greedy."
    )


class GateLimitsAnswer(serializers.ModelSerializer[GateLimits]):
    class Meta:
        model = GateLimits
        fields = ["kl", "length", "prompts", "harm"]


@described("list_suites", SuiteList)
@described("create_suite", SuiteAnswer, request=NewSuite, method="POST", status=201)
@endpoint("GET", "POST", permission=MayReadOrManage)
def suites(request: Request) -> Response:
    """All suites, by name; a POST adds one."""
    project = project_of(request, Role.OPERATOR)
    if request.method == "GET":
        every = [_of(name, lines) for name, lines in sorted(Suite.all_of(project).items())]
        return Response(SuiteList({"results": every}).data)
    sent = only_known(request.data, NewSuite().fields)
    return _saved(Suite(project=project), sent, status=201)


@described("retrieve_suite", SuiteAnswer)
@described("change_suite", SuiteAnswer, request=SuiteLines, method="PUT", query=[IF_MATCH])
@endpoint("GET", "PUT", permission=MayReadOrManage)
def suite(request: Request, name: str) -> Response:
    """One suite; a PUT rewrites it. A built-in one is rewritten for this project alone."""
    project = project_of(request, Role.OPERATOR)
    found = _found(project, name)
    if request.method == "PUT":
        match(request, _etag(found.lines))
        sent = only_known(request.data, SuiteLines().fields)
        return _saved(found, {**sent, "name": found.name})
    return _one(found)


@listed("list_suite_results", SuiteResultAnswer, [OpenApiParameter("policy", int)])
@described("evaluate_policies", RunAnswer, request=NewEvaluation, method="POST", status=201)
@endpoint("GET", "POST", permission=MayReadOrManage)
def results(request: Request) -> Response:
    """How policies did in the suites, the newest first; a POST has all suites asked of some."""
    project = project_of(request, Role.OPERATOR)
    if request.method == "GET":
        found = SuiteResult.objects.of_project(project).select_related("policy")
        if number := request.query_params.get("policy"):
            asked = serializers.IntegerField(min_value=1, max_value=10**18 - 1)
            found = found.of_policy(policy_for(*here(request), asked.run_validation(number)))
        return paged(request, found, SuiteResultAnswer, filters=["policy"])
    sent = only_known(request.data, NewEvaluation().fields)
    said = check(ScorecardForm(project, form_data(sent)))
    policies, samples = list(said["policies"]), said["samples"] or 1
    try:
        run = launch_scorecard(
            project, by=token_of(request).user, policies=policies, samples=samples
        )
    except NotReady as error:
        raise not_ready(error.findings, "The suites were not asked.") from None
    return Response(RunAnswer(run).data, status=201)


@described("retrieve_gate_limits", GateLimitsAnswer)
@described(
    *("change_gate_limits", GateLimitsAnswer),
    request=GateLimitsAnswer, method="PUT", query=[IF_MATCH],
)  # fmt: skip
@endpoint("GET", "PUT", permission=MayReadOrManage)
def limits(request: Request) -> Response:
    """What a policy must keep to be promoted."""
    project = project_of(request, Role.OPERATOR)
    found = GateLimits.of(project)
    if request.method == "PUT":
        match(request, _etag(GateLimitsAnswer(found).data))
        sent = only_known(request.data, GateLimitsAnswer().fields)
        form = GateForm(form_data(sent), instance=found)
        check(form)
        found = form.save()
    answer = GateLimitsAnswer(found).data
    return Response(answer, headers={"ETag": _etag(answer)})


def _found(project: Project, name: str) -> Suite:
    if name not in Suite.all_of(project):
        raise Http404("There is no suite of this name.")
    return Suite.named(project, name)


def _saved(suite: Suite, sent: dict[str, Any], status: int = 200) -> Response:
    form = SuiteForm(form_data(sent), instance=suite)
    check(form)
    return _one(form.save(), status)


def _one(suite: Suite, status: int = 200) -> Response:
    answer = SuiteAnswer(_of(suite.name, suite.lines)).data
    return Response(answer, status=status, headers={"ETag": _etag(suite.lines)})


def _of(name: str, lines: str) -> dict[str, Any]:
    return {"name": name, "lines": lines, "is_built_in": name in BUILT_IN}


def _etag(said: Any) -> str:
    return f'"{content_hash([said])[:16]}"'
