"""Decisions about policies over the API, and how good the policies are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError as Invalid
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role, policy_for
from annotate.api.access import MayReadOrManage, endpoint, here, project_of, token_of
from annotate.api.once import keep, once_kept
from annotate.api.pages import Conflict, check, described, form_data, listed, only_known, paged
from annotate.api.strict import StrictSerializer
from rlhf.models.outcomes import Promotion
from rlhf.registry.gate import Refused, conditions
from rlhf.registry.judgements import standings_of
from rlhf.registry.promotion import challenge, promote, reject, roll_back
from rlhf.registry.verdict import Verdict, Verdicts
from rlhf.rounds.forms import DecisionForm, PromotionForm


class PromotionAnswer(serializers.ModelSerializer[Promotion]):
    policy = serializers.CharField(source="policy.name")
    previous = serializers.CharField(source="previous.name", allow_null=True, default=None)
    act = serializers.CharField(help_text="promote, challenge or reject")
    decided_by = serializers.CharField(source="decided_by.username")

    class Meta:
        model = Promotion
        fields = [
            *("id", "policy", "previous", "act", "is_rollback", "reason", "override"),
            *("decided_by", "created_at"),
        ]


class Decision(StrictSerializer):
    reason = serializers.CharField(max_length=500)


class PromotionRequest(Decision):
    override = serializers.CharField(
        required=False, max_length=500, help_text="Why, although the gate is shut."
    )


class RollBack(Decision):
    to = serializers.IntegerField(
        required=False, min_value=1, help_text="The policy you expect to be live then."
    )


class GateCondition(serializers.Serializer):
    name = serializers.CharField()
    title = serializers.CharField()
    passed = serializers.BooleanField()
    said = serializers.CharField()


class Gate(serializers.Serializer):
    is_open = serializers.BooleanField()
    conditions = GateCondition(many=True)


class Rate(serializers.Serializer):
    win_rate = serializers.FloatField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    prompts = serializers.IntegerField()


class VerdictAnswer(serializers.Serializer):
    policy = serializers.CharField(source="policy.name")
    opponent = serializers.CharField(source="opponent.name")
    outcome = serializers.CharField()
    needed = serializers.IntegerField(help_text="Prompts until people have decided; 0: they have.")
    people = Rate(source="people.overall", allow_null=True, default=None)
    length = serializers.FloatField(allow_null=True)


class StandingAnswer(serializers.Serializer):
    policy = serializers.CharField(source="policy.name")
    strength = serializers.FloatField(source="standing.strength")
    low = serializers.FloatField(source="standing.low", allow_null=True)
    high = serializers.FloatField(source="standing.high", allow_null=True)
    matches = serializers.IntegerField(source="standing.matches")
    prompts = serializers.IntegerField(source="standing.prompts")


class EvaluationAnswer(serializers.Serializer):
    verdicts = VerdictAnswer(many=True)
    standings = StandingAnswer(many=True, help_text="Bradley–Terry, over all rankings.")


@described("retrieve_gate", Gate)
@endpoint("GET", permission=MayReadOrManage)
def gate(request: Request, policy_id: int) -> Response:
    """What stands between a policy and the guests."""
    seen = conditions(policy_for(*here(request), policy_id))
    is_open = all(each.passed for each in seen)
    return Response(Gate({"is_open": is_open, "conditions": seen}).data)


@described("promote_policy", PromotionAnswer, request=PromotionRequest, method="POST", status=201)
@endpoint("POST", permission=MayReadOrManage, repeats=once_kept)
def promotion(request: Request, policy_id: int) -> Response:
    """Makes a policy live, if the gate is open or `override` says why it should all the same."""
    policy = policy_for(*here(request), policy_id)
    form = PromotionForm(form_data(only_known(request.data, PromotionForm.base_fields)))
    return _decide(partial(promote, policy, **_decider(request)), check(form))


@described("challenge_with_policy", PromotionAnswer, request=Decision, method="POST", status=201)
@endpoint("POST", permission=MayReadOrManage, repeats=once_kept)
def challenger(request: Request, policy_id: int) -> Response:
    """Lets a policy answer a share of the chats, beside the live one."""
    policy = policy_for(*here(request), policy_id)
    return _decide(partial(challenge, policy, **_decider(request)), _reason(request))


@described("reject_policy", PromotionAnswer, request=Decision, method="POST", status=201)
@endpoint("POST", permission=MayReadOrManage)
def rejection(request: Request, policy_id: int) -> Response:
    """Takes a candidate or challenger out of the running."""
    policy = policy_for(*here(request), policy_id)
    return _decide(partial(reject, policy, by=token_of(request).user), _reason(request))


@described("roll_back", PromotionAnswer, request=RollBack, method="POST", status=201)
@endpoint("POST", permission=MayReadOrManage, repeats=once_kept)
def back(request: Request) -> Response:
    """Goes back to the policy that was live before the one that is."""
    project = project_of(request, Role.OPERATOR)
    sent = only_known(request.data, RollBack().fields)
    to = sent.pop("to", None)
    if to is not None:
        to = RollBack().fields["to"].run_validation(to)
    decide = partial(roll_back, project, to=to, **_decider(request))
    return _decide(decide, check(DecisionForm(form_data(sent))))


@listed("list_promotions", PromotionAnswer)
@endpoint("GET", permission=MayReadOrManage)
def promotions(request: Request) -> Response:
    """Every decision about a policy, the newest first."""
    project = project_of(request, Role.OPERATOR)
    decisions = project.promotions.select_related("policy", "previous", "decided_by")
    return paged(request, decisions, PromotionAnswer)


@described("retrieve_evaluations", EvaluationAnswer)
@endpoint("GET", permission=MayReadOrManage)
def evaluations(request: Request) -> Response:
    """How the policies stand, as people see it: each against the live one, and all together."""
    project = project_of(request, Role.OPERATOR)
    verdicts = Verdicts(project)
    found: list[Verdict] = list(verdicts.all())
    standings = standings_of(project, verdicts.matches)
    return Response(EvaluationAnswer({"verdicts": found, "standings": standings}).data)


def _reason(request: Request) -> dict[str, Any]:
    said: dict[str, Any] = check(
        DecisionForm(form_data(only_known(request.data, DecisionForm.base_fields)))
    )
    return said


def _decider(request: Request) -> dict[str, Any]:
    """Who decides, and that the reply is kept together with the decision."""

    def kept(made: Promotion) -> None:
        keep(request, PromotionAnswer(made).data, status=201)

    return {"by": token_of(request).user, "kept": kept}


def _decide(decide: Callable[..., Promotion], said: dict[str, Any]) -> Response:
    try:
        made = decide(**said)
    except Refused as error:
        shut = {each.name: [f"{each.title}: {each.said}"] for each in error.conditions}
        raise Conflict(" ".join(error.messages), code="gate_shut", fields=shut) from None
    except Invalid as error:
        raise Conflict(" ".join(error.messages)) from None
    return Response(PromotionAnswer(made).data, status=201)
