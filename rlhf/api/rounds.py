"""Rounds and runs over the API: what the pages of a round show and do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role
from annotate.api.access import MayReadOrManage, endpoint, here, project_of, token_of
from annotate.api.pages import (
    Conflict,
    check,
    described,
    form_data,
    listed,
    only_known,
    paged,
)
from annotate.api.strict import StrictSerializer
from feedback_site.bell import enqueue_on_commit
from rlhf.access import round_for, run_for
from rlhf.data.checks import Finding, NotReady
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.models.metrics import Metric
from rlhf.models.runs import Round, Run
from rlhf.rounds.forms import FiltersForm
from rlhf.rounds.launch import (
    LaunchedMeanwhile,
    cancel_round,
    launch_round,
    prioritise_round,
    resume_round,
)
from rlhf.rounds.plan import plan_round
from rlhf.rounds.preflight import preflight
from rlhf.rounds.report import report_on
from rlhf.rounds.round_form import RoundForm, in_fields
from rlhf.rounds.settings import SIZES, stage_configs

MOST_STEPS = 10_000


class RunAnswer(serializers.ModelSerializer[Run]):
    round = serializers.IntegerField(source="round.number", allow_null=True, default=None)
    kind = serializers.CharField()
    state = serializers.CharField(
        help_text="queued, running, succeeded, failed, cancelled or paused"
    )
    summary = serializers.DictField(help_text="The figures it ended with.")

    class Meta:
        model = Run
        fields = [
            *("id", "round", "kind", "state", "reason", "step", "total_steps", "seed", "summary"),
            *("created_at", "started_at", "ended_at"),
        ]


class RoundAnswer(serializers.ModelSerializer[Round]):
    base = serializers.CharField(source="base.name")
    launched_by = serializers.CharField(source="launched_by.username")
    state = serializers.SerializerMethodField()
    runs = RunAnswer(many=True)

    class Meta:
        model = Round
        fields = [
            *("number", "state", "name", "note", "recipe", "base", "launched_by", "created_at"),
            "runs",
        ]

    def get_state(self, round: Round) -> str:
        return report_on(round).state


class NewRound(StrictSerializer):
    base = serializers.IntegerField(help_text="The id of a policy that has weights.")
    stages = serializers.ListField(child=serializers.CharField(), help_text="sft, reward, ppo, …")
    recipe = serializers.ChoiceField(SIZES)
    reward_model = serializers.IntegerField(
        required=False, help_text="The id of one to reuse, instead of the stage reward."
    )
    note = serializers.CharField(required=False, allow_blank=True)
    seed = serializers.IntegerField(required=False)
    ask_people = serializers.IntegerField(required=False)
    next_batch = serializers.IntegerField(required=False)
    follows = serializers.IntegerField(
        required=False, help_text="The newest round you know of: with a newer one, 409."
    )
    settings = serializers.DictField(
        required=False,
        help_text='What differs from the recipe: {"ppo": {"train": {"kl_coef": 0.1}}}.',
    )
    filters = serializers.DictField(required=False, help_text="Which labels to learn from.")
    dry_run = serializers.BooleanField(required=False, help_text="Only tells what it would do.")


class FindingAnswer(serializers.Serializer):
    name = serializers.CharField()
    message = serializers.CharField()
    is_error = serializers.BooleanField()


class PlannedAnswer(serializers.Serializer):
    name = serializers.CharField()
    starts_from = serializers.CharField()
    lines = serializers.DictField(child=serializers.IntegerField())
    reads = serializers.CharField()
    steps = serializers.IntegerField(allow_null=True)
    mode = serializers.CharField()


class DryRun(serializers.Serializer):
    planned = PlannedAnswer(many=True)
    findings = FindingAnswer(many=True)


class Step(serializers.Serializer):
    step = serializers.IntegerField()
    split = serializers.CharField()
    values = serializers.DictField(child=serializers.FloatField(allow_null=True))


class Metrics(serializers.Serializer):
    state = serializers.CharField()
    step = serializers.IntegerField()
    total_steps = serializers.IntegerField()
    rows = Step(many=True)


class AfterQuery(serializers.Serializer):
    after = serializers.IntegerField(default=-1, min_value=-1, max_value=2**31 - 1)


@listed("list_rounds", RoundAnswer)
@described("launch_round", {200: DryRun, 201: RoundAnswer}, request=NewRound, method="POST")
@endpoint("GET", "POST", permission=MayReadOrManage)
def rounds(request: Request) -> Response:
    """The rounds, the newest first; a POST launches one, or with `dry_run` tells what it would
    do."""
    project = project_of(request, Role.OPERATOR)
    if request.method == "GET":
        return paged(request, Round.objects.of_project(project).with_runs(), RoundAnswer)
    form, choice, is_dry = _forms(request)
    try:
        launch = form.launch(choice.filters())
        if is_dry:
            return _dry_run(form, choice)
        by, follows = token_of(request).user, form.cleaned_data["follows"]
        made = launch_round(project, launch, by=by, follows=follows)
    except LaunchedMeanwhile as error:
        raise Conflict(str(error), code="launched_meanwhile") from None
    except ConfigError as error:
        raise serializers.ValidationError({"settings": [str(error)]}) from None
    except NotReady as error:
        raise not_ready(error.findings, "The round was not launched.") from None
    return Response(_answer(request, made.number), status=201)


@described("retrieve_round", RoundAnswer)
@endpoint("GET", permission=MayReadOrManage)
def round_(request: Request, number: int) -> Response:
    """One round with its runs, in their order."""
    return Response(_answer(request, number))


def acting_on_round(act: Callable[[Round], bool], name: str, says: str) -> Any:
    """An address that does one thing to a round."""

    def acted(request: Request, number: int) -> Response:
        found = round_for(*here(request), number)
        if not act(found):
            raise Conflict(f"Nothing was changed: {found} had already moved on.", code="moved_on")
        return Response(_answer(request, number))

    acted.__doc__ = says
    described_as = described(name, RoundAnswer, method="POST")
    return described_as(endpoint("POST", permission=MayReadOrManage)(acted))


round_cancel = acting_on_round(
    cancel_round, "cancel_round", "Cancels what of the round has not ended; what runs saves itself."
)
round_resume = acting_on_round(
    resume_round, "resume_round", "Resumes every stage that stopped early."
)
round_prioritise = acting_on_round(
    prioritise_round, "prioritise_round", "Moves a round before all that waits now."
)


@listed("list_runs", RunAnswer, [OpenApiParameter("round", int)])
@endpoint("GET", permission=MayReadOrManage)
def runs(request: Request) -> Response:
    """The runs, the newest first; of one `round`, if named."""
    project = project_of(request, Role.OPERATOR)
    found = Run.objects.of_project(project).select_related("round")
    if number := request.query_params.get("round"):
        asked = serializers.IntegerField(min_value=1, max_value=2**31 - 1).run_validation(number)
        found = found.filter(round=round_for(*here(request), asked))
    return paged(request, found, RunAnswer, filters=["round"])


@described("retrieve_run", RunAnswer)
@endpoint("GET", permission=MayReadOrManage)
def run(request: Request, run_id: int) -> Response:
    """One run, with its state and, once it has ended, its figures."""
    return Response(RunAnswer(run_for(*here(request), run_id)).data)


@described("cancel_run", RunAnswer, method="POST")
@endpoint("POST", permission=MayReadOrManage)
def run_cancel(request: Request, run_id: int) -> Response:
    """Cancels a run; one that is under way saves itself first."""
    found = run_for(*here(request), run_id)
    return _acted(found, done=found.request_cancel())


@described("resume_run", RunAnswer, method="POST")
@endpoint("POST", permission=MayReadOrManage)
def run_resume(request: Request, run_id: int) -> Response:
    """Resumes a run that stopped early."""
    found = run_for(*here(request), run_id)
    done = found.resume()
    if done:
        enqueue_on_commit("train", "rlhf.jobs.train", found.pk)
    return _acted(found, done=done)


@described("list_metrics", Metrics, query=[AfterQuery])
@endpoint("GET", permission=MayReadOrManage)
def metrics(request: Request, run_id: int) -> Response:
    """All the numbers of a run, of the steps beyond `after`."""
    found = run_for(*here(request), run_id)
    only_known(request.query_params, AfterQuery().fields)
    asked = AfterQuery(data=request.query_params)
    asked.is_valid(raise_exception=True)
    rows = Metric.objects.of(found, after=asked.validated_data["after"])
    rows = rows.order_by("step", "split")[:MOST_STEPS]
    return Response(
        {
            "state": found.state,
            "step": found.step,
            "total_steps": found.total_steps,
            "rows": [{"step": r.step, "split": r.split, "values": r.values} for r in rows],
        }
    )


def _acted(run: Run, *, done: bool) -> Response:
    if not done:
        raise Conflict(f"Nothing was changed: {run} had already moved on.", code="moved_on")
    run.refresh_from_db()
    return Response(RunAnswer(run).data)


def _forms(request: Request) -> tuple[RoundForm, FiltersForm, bool]:
    """The page's two forms, with what was sent in them."""
    project = project_of(request, Role.OPERATOR)
    sent = only_known(request.data, NewRound().fields)
    is_dry = sent.pop("dry_run", False)
    if not isinstance(is_dry, bool):
        raise serializers.ValidationError({"dry_run": ["Send true or false."]})
    changes, chosen = sent.pop("settings", None) or {}, sent.pop("filters", None) or {}
    stages = sent.get("stages")
    if not isinstance(stages, list):
        raise serializers.ValidationError({"stages": ["Send a list of stages."]})
    stages = [str(each) for each in stages]
    size: str = sent["recipe"] if sent.get("recipe") in SIZES else SIZES[0]
    empty = RoundForm(project, size=size, stages=stages)
    fields = only_known(_settings(changes), [name for name in empty.fields if "." in name])
    form = RoundForm(project, form_data({**sent, **fields}), size=size, stages=stages)
    choice = FiltersForm(project, form_data(only_known(chosen, FiltersForm.base_fields)))
    check(form)
    check(choice)
    return form, choice, is_dry


def _settings(changes: Any) -> dict[str, Any]:
    try:
        return in_fields(changes)
    except (AttributeError, TypeError):
        said = 'Send {"ppo": {"train": {"kl_coef": 0.1}}}.'
        raise serializers.ValidationError({"settings": [said]}) from None


def _dry_run(form: RoundForm, choice: FiltersForm) -> Response:
    launch = form.launch(choice.filters())
    configs = stage_configs(form.chosen, form.size, form.overrides())
    seen = preflight(
        form.project, launch.base, launch.filters,
        stages=form.chosen, configs=configs, recipe=form.size, reward_model=launch.reward_model,
    )  # fmt: skip
    planned = plan_round(form.project, launch)
    return Response(DryRun({"planned": planned, "findings": seen.findings}).data)


def not_ready(findings: Iterable[Finding], said_first: str) -> Conflict:
    """What stands against it, by name."""
    said: dict[str, list[str]] = {}
    for each in findings:
        said.setdefault(each.name, []).append(each.message)
    return Conflict(said_first, code="not_ready", fields=said)


def _answer(request: Request, number: int) -> Any:
    return RoundAnswer(round_for(*here(request), number)).data
