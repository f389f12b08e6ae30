"""Policies: which there are, where each comes from, which one speaks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import Request, Role, policy_for, project_for
from annotate.audit.recording import recorded
from annotate.ids import id_in
from annotate.models import Policy, Project, User, Withdrawal
from rlhf.data.checks import NotReady
from rlhf.data.staleness import stale_in
from rlhf.models.outcomes import Promotion
from rlhf.models.runs import Run
from rlhf.models.suites import GateLimits
from rlhf.registry.gate import Refused, conditions, prompts_left, prompts_missing
from rlhf.registry.lineage import lineage_of, reach_of
from rlhf.registry.promotion import challenge, previous_live, promote, reject, roll_back
from rlhf.registry.verdict import Verdicts
from rlhf.rounds.forms import (
    AskPeopleForm,
    DecisionForm,
    FetchForm,
    PromotionForm,
    SamplingForm,
    WithdrawalForm,
)
from rlhf.rounds.launch import launch_more, launch_sampling
from rlhf.rounds.report import policies_of
from rlhf.stages.kinds.fetch import FETCH
from rlhf.views.runs import list_of, refreshed


@require_GET
def policies(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    if request.htmx:
        return refreshed(request, project, list_of(request, project, Run.objects.samplings()))
    return _policies(request, project)


def _policies(request: Request, project: Project, **refused: Any) -> HttpResponse:
    """`refused`: of a decision, its policy, its reason, which is not to be lost, and why it was."""
    decisions = project.promotions.select_related("policy", "previous", "decided_by")
    context = {
        "project": project,
        "refused": refused,
        "page": policies_of(project, request.GET.get("page"), holding=refused.get("policy")),
        "stale": stale_in(project).policies,
        "previous": previous_live(project),
        "promotions": list(decisions[:10]),
        "samplings": list_of(request, project, Run.objects.samplings()),
    }
    return render(request, "rlhf/policies.html", context, status=422 if refused else 200)


@require_POST
def policies_challenge(request: Request, slug: str, policy_id: int) -> HttpResponse:
    policy = policy_for(request, slug, policy_id)
    return _decide(request, policy.project, policy, partial(challenge, policy, by=request.user))


@require_POST
def policies_reject(request: Request, slug: str, policy_id: int) -> HttpResponse:
    policy = policy_for(request, slug, policy_id)
    return _decide(request, policy.project, policy, partial(reject, policy, by=request.user))


@require_http_methods(["GET", "POST"])
def policies_gate(request: Request, slug: str, policy_id: int) -> HttpResponse:
    """Shows what stands between a policy and the guests, and the form to let it pass; or has people
    compare it further with the live one."""
    policy = policy_for(request, slug, policy_id)
    verdicts = Verdicts(policy.project)
    verdict = verdicts.on(policy)
    asks = request.POST.get("act") == "ask"
    form = PromotionForm(request.POST if request.method == "POST" and not asks else None)
    ask = AskPeopleForm(request.POST if asks else None)
    if asks and verdict and ask.is_valid():
        more = ask.cleaned_data["prompts"]
        try:
            with recorded():
                run = launch_more(policy, verdict.opponent, by=request.user, prompts=more)
        except NotReady as error:
            ask.add_error("prompts", str(error))
        else:
            return redirect("policies_run", slug=slug, run_id=run.pk)
    if form.is_valid():
        try:
            promote(policy, by=request.user, **form.cleaned_data)
        except Refused:  # the page says what failed
            form.add_error(
                "override", "The conditions are not met. Give a reason for overriding the gate."
            )
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, f"{policy} is live.")
            return redirect("policies", slug=slug)
    seen = conditions(policy)
    fewest = GateLimits.of(policy.project).prompts
    more = left = 0
    if verdict and verdicts.live:
        more, left = prompts_missing(verdict, fewest), prompts_left(verdict)
    context = {
        "project": policy.project,
        "policy": policy,
        "verdict": verdict,
        "form": form,
        "ask": ask,
        "more": min(more, left) or more,
        "left": left,
        "conditions": seen,
        "is_shut": any(not each.passed for each in seen),
    }
    status = 422 if form.errors or ask.errors else 200
    return render(request, "rlhf/gate.html", context, status=status)


@require_GET
def policies_decisions(request: Request, slug: str) -> HttpResponse:
    """Lists every promotion and roll back, with what the gate saw."""
    project = project_for(request, slug, Role.OPERATOR)
    decisions = project.promotions.select_related("policy", "previous", "decided_by")
    context = {"project": project, "promotions": list(decisions)}
    return render(request, "rlhf/decisions.html", context)


@require_POST
def policies_roll_back(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    to = id_in(request.POST.get("to"))
    live = project.policies.live().first()
    return _decide(request, project, live, partial(roll_back, project, by=request.user, to=to))


def _decide(
    request: Request, project: Project, policy: Policy | None, decide: Callable[..., Promotion]
) -> HttpResponse:
    """`policy`: the one beside whose name the page has the form."""
    form = DecisionForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    try:
        promotion = decide(reason=reason)
    except ValidationError as error:
        why = " ".join(error.messages)
        messages.error(request, why)
        refused = policy.pk if policy else 0
        return _policies(request, project, policy=refused, reason=reason, why=why)
    state = promotion.policy.get_state_display().lower()
    messages.success(request, f"{promotion.policy} is {state}.")
    return redirect("policies", slug=project.slug)


@require_http_methods(["GET", "POST"])
def policies_sample(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = SamplingForm(project, request.POST or None, initial={"k": project.ranking_size})
    if request.method == "POST" and form.is_valid():
        try:
            run = launch_sampling(
                project,
                by=request.user,
                policies=list(form.cleaned_data["policies"]),
                k=form.cleaned_data["k"],
                prompts=form.prompts(),
                distil=form.cleaned_data["distil"],
            )
        except NotReady as error:
            form.add_error(None, str(error))
        else:
            return redirect("policies_run", slug=slug, run_id=run.pk)
    context = {"project": project, "form": form}
    return render(request, "rlhf/sample.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
def policies_fetch(request: Request, slug: str) -> HttpResponse:
    project = project_for(request, slug, Role.OPERATOR)
    form = FetchForm(project, request.POST or None)
    if request.method == "POST" and form.is_valid():
        said = form.cleaned_data
        run = FETCH.launch(project, said["model"], name=said["name"], by=request.user)
        return redirect("policies_run", slug=slug, run_id=run.pk)
    context = {"project": project, "form": form}
    return render(request, "rlhf/fetch.html", context, status=422 if form.errors else 200)


@require_GET
def policies_lineage(request: Request, slug: str, policy_id: int) -> HttpResponse:
    policy = policy_for(request, slug, policy_id)
    context = {"project": policy.project, "policy": policy, "steps": lineage_of(policy)}
    return render(request, "rlhf/lineage.html", context)


@require_GET
def policies_lineage_json(request: Request, slug: str, policy_id: int) -> JsonResponse:
    policy = policy_for(request, slug, policy_id)
    return JsonResponse({"lineage": lineage_of(policy)})


@require_http_methods(["GET", "POST"])
def policies_reach(request: Request, slug: str, username: str) -> HttpResponse:
    """Shows what a member's data went into, and takes it out of all that comes."""
    project = project_for(request, slug, Role.OPERATOR)
    person = get_object_or_404(User, username=username, memberships__project=project)
    form = WithdrawalForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        reason = form.cleaned_data["reason"]
        Withdrawal.withdraw(project, person=person, by=request.user, reason=reason)
        return redirect("policies_reach", slug=slug, username=username)
    context = {
        "project": project,
        "person": person,
        "reach": reach_of(person, project),
        "withdrawal": project.withdrawals.of_person(person).first(),
        "form": form,
    }
    return render(request, "rlhf/reach.html", context, status=422 if form.errors else 200)
