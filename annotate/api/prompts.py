"""Prompts and completions over the API: what the page *Prompts* shows and does."""

from __future__ import annotations

import io
import json
from typing import Any

from django.db import transaction
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role, prompt_for
from annotate.api.access import MayReadOrManage, endpoint, here, project_of, token_of
from annotate.api.openai.chat_request import ChatMessage
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
from annotate.exchange.importing import import_labels
from annotate.exchange.outcome import ImportFailed
from annotate.labels.kinds import ABOUT_PROMPTS
from annotate.people.models import Project
from annotate.prompts.models import Prompt, content_hash, prompt_key
from annotate.prompts.policies import Completion
from annotate.views.progress import PlanForm
from annotate.views.prompts import PromptFilter, TagForm, open_tasks
from annotate.work.batches import batches as all_batches
from annotate.work.batches import plan_batch

FILTERS = [OpenApiParameter(name, str) for name in PromptFilter.base_fields]


class PromptAnswer(serializers.ModelSerializer[Prompt]):
    is_archived = serializers.SerializerMethodField()

    class Meta:
        model = Prompt
        fields = [
            *("id", "messages", "split", "source", "tags", "reference"),
            *("is_archived", "awaits_review", "created_at"),
        ]

    def get_is_archived(self, prompt: Prompt) -> bool:
        return prompt.archived_at is not None


class NewPrompt(StrictSerializer):
    messages = serializers.ListField(child=ChatMessage(), min_length=1, max_length=200)
    reference = serializers.CharField(required=False, allow_blank=True)
    source = serializers.CharField(  # type: ignore[assignment]  # the key is called so
        required=False, max_length=100, allow_blank=True
    )
    tags = serializers.ListField(
        child=serializers.CharField(max_length=50), required=False, max_length=50
    )


class PromptChange(StrictSerializer):
    is_archived = serializers.BooleanField(required=False)
    add_tags = serializers.ListField(child=serializers.CharField(), required=False, max_length=50)


class CompletionAnswer(serializers.ModelSerializer[Completion]):
    policy = serializers.CharField(source="policy.name")

    class Meta:
        model = Completion
        fields = ["id", "prompt", "policy", "text", "source", "finish_reason", "created_at"]


class NewCompletion(StrictSerializer):
    prompt = serializers.IntegerField(min_value=1, max_value=10**18 - 1)
    policy = serializers.CharField(max_length=100, help_text="Who says it: a policy by this name.")
    text = serializers.CharField(trim_whitespace=False, allow_blank=True)


class TasksRequest(StrictSerializer):
    kind = serializers.ChoiceField(list(ABOUT_PROMPTS))
    prompts = serializers.ListField(
        child=serializers.IntegerField(min_value=1),
        required=False,
        max_length=10_000,
        help_text="None: all that the filter finds.",
    )
    filter = serializers.DictField(
        child=serializers.CharField(allow_blank=True),
        required=False,
        help_text="As in the query of GET /api/v1/prompts.",
    )
    batch = serializers.CharField(
        required=False, max_length=50, help_text="The tasks' common name. None: of today."
    )
    priority = serializers.IntegerField(
        required=False, min_value=-100, max_value=100, help_text="Higher comes first."
    )
    due = serializers.DateField(required=False, help_text="The last day.")
    language = serializers.CharField(
        required=False,
        max_length=20,
        help_text="Only members with this language get them; “own”: with that of each prompt.",
    )
    skill = serializers.CharField(
        required=False, max_length=50, help_text="Only members with this skill get them."
    )

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        if "batch" not in sent and any(name in sent for name in PlanForm.base_fields):
            why = "Name one: priority, due, language and skill hold for all open tasks of a batch."
            raise serializers.ValidationError({"batch": [why]})
        return sent


class TasksAnswer(serializers.Serializer):
    opened = serializers.IntegerField()
    why = serializers.CharField(allow_blank=True, help_text="Why none, where there is none.")


class BatchAnswer(serializers.Serializer):
    name = serializers.CharField()
    kinds = serializers.ListField(child=serializers.CharField(), help_text="Of the tasks.")
    tasks = serializers.IntegerField(help_text="All of them, answered ones included.")
    open = serializers.IntegerField(help_text="Tasks that wait, or are in somebody's hands.")
    priority = serializers.IntegerField(source="plan.priority", help_text="Higher comes first.")
    due = serializers.DateField(source="plan.last_day", allow_null=True, help_text="The last day.")
    languages = serializers.ListField(child=serializers.CharField())
    skills = serializers.ListField(child=serializers.CharField())
    unmet = serializers.ListField(
        child=serializers.CharField(), help_text="Languages and skills that no member has."
    )


class BatchList(serializers.Serializer):
    results = BatchAnswer(many=True)


@listed("list_prompts", PromptAnswer, FILTERS)
@described("create_prompt", PromptAnswer, request=NewPrompt, method="POST", status=201)
@endpoint("GET", "POST", permission=MayReadOrManage)
def prompts(request: Request) -> Response:
    """The prompts, the newest first; a POST adds one, or finds the one with the same messages."""
    project = project_of(request, Role.OPERATOR)
    if request.method == "GET":
        asked = PromptFilter(project, request.query_params)
        check(asked)
        return paged(request, asked.prompts(), PromptAnswer, filters=PromptFilter.base_fields)
    sent = NewPrompt(data=request.data)
    sent.is_valid(raise_exception=True)
    said = sent.validated_data
    bring(request, project, {**said, "prompt": said["messages"]}, kind="prompts")
    prompt = project.prompts.get(content_hash=prompt_key(said["messages"]))
    return _one(prompt, status=201)


@described("retrieve_prompt", PromptAnswer)
@described("change_prompt", PromptAnswer, request=PromptChange, method="PATCH", query=[IF_MATCH])
@endpoint("GET", "PATCH", permission=MayReadOrManage)
def prompt(request: Request, prompt_id: int) -> Response:
    """One prompt, with its ETag; a PATCH tags it, archives it or takes it back into use."""
    found = prompt_for(*here(request), prompt_id)
    if request.method == "GET":
        return _one(found)
    sent = PromptChange(data=request.data)
    sent.is_valid(raise_exception=True)
    tags = [
        check(TagForm(form_data({"new_tag": t}))) for t in sent.validated_data.get("add_tags", [])
    ]
    with transaction.atomic():
        row = found.project.prompts.filter(pk=found.pk)
        match(request, etag_of(row.select_for_update().get()))
        if (archived := sent.validated_data.get("is_archived")) is not None:
            row.archive() if archived else row.restore()
        for tag in tags:
            row.tag(tag["new_tag"])
    return _one(row.get())


@listed("list_completions", CompletionAnswer, [OpenApiParameter("prompt", int)])
@described("create_completion", CompletionAnswer, request=NewCompletion, method="POST", status=201)
@endpoint("GET", "POST", permission=MayReadOrManage)
def completions(request: Request) -> Response:
    """What policies said, the newest first, to one prompt or all; a POST adds what one said."""
    project = project_of(request, Role.OPERATOR)
    if request.method == "GET":
        said = Completion.objects.of_prompts(project.prompts.all()).select_related("policy")
        if "prompt" in request.query_params:
            asked = PromptQuery(data=request.query_params)
            asked.is_valid(raise_exception=True)
            prompt = prompt_for(*here(request), asked.validated_data["prompt"])
            said = prompt.completions.select_related("policy")
        return paged(request, said, CompletionAnswer, filters=["prompt"])
    sent = NewCompletion(data=request.data)
    sent.is_valid(raise_exception=True)
    new = sent.validated_data
    prompt = prompt_for(*here(request), new["prompt"])
    row = {
        "prompt": prompt.messages,
        "completions": [{"model": new["policy"], "content": new["text"]}],
    }
    bring(request, project, row, kind="completions")
    stored = prompt.completions.filter(policy__name=new["policy"], text=new["text"]).first()
    return Response(CompletionAnswer(stored).data, status=201)


class PromptQuery(serializers.Serializer):
    prompt = serializers.IntegerField(min_value=1, max_value=10**18 - 1)


@described("open_tasks", TasksAnswer, request=TasksRequest, method="POST", status=201)
@endpoint("POST", permission=MayReadOrManage)
@transaction.atomic
def tasks(request: Request) -> Response:
    """Asks labelers for labels of one kind on prompts, where there is something to ask. What is
    said of a batch holds for all its open tasks."""
    project = project_of(request, Role.OPERATOR)
    sent = TasksRequest(data=request.data)
    sent.is_valid(raise_exception=True)
    said = sent.validated_data
    wished = only_known(said.get("filter", {}), PromptFilter.base_fields)
    asked = PromptFilter(project, form_data(wished))
    check(asked)
    found = asked.prompts()
    if chosen := said.get("prompts"):
        found = found.chosen(map(str, chosen))
    kind = ABOUT_PROMPTS[said["kind"]]
    opened = open_tasks(project, kind, found, batch=said.get("batch", ""))
    plan(project, said)
    answer = {"opened": opened, "why": "" if opened else kind.words.lacking}
    return Response(TasksAnswer(answer).data, status=201)


@described("list_batches", BatchList)
@endpoint("GET", permission=MayReadOrManage)
def batches(request: Request) -> Response:
    """The newest batches of which something is open, in the order in which they are due."""
    project = project_of(request, Role.OPERATOR)
    return Response(BatchList({"results": all_batches(project)}).data)


def plan(project: Project, said: dict[str, Any]) -> None:
    """Says how urgent a batch is and who it is for; what is not sent stays as it was."""
    sent = {name: said[name] for name in PlanForm.base_fields if name in said}
    batch = next((each for each in all_batches(project) if each.name == said.get("batch")), None)
    if sent and batch:
        form = PlanForm(batch)
        form = PlanForm(batch, form_data({**form.initial, **sent, "due": _day(form, sent)}))
        check(form)
        plan_batch(project, batch.name, form.plan())


def _day(form: PlanForm, sent: dict[str, Any]) -> str | None:
    day = sent.get("due", form.initial["due"])
    return day.isoformat() if day else None


def bring(request: Request, project: Project, row: dict[str, Any], *, kind: str) -> None:
    """Stores one row as the import of a file would. Raises ValidationError with what is wrong."""
    line = io.BytesIO(json.dumps(row).encode())
    try:
        import_labels(line, project=project, by=token_of(request).user, kind=kind, columns={})
    except ImportFailed as failed:
        raise serializers.ValidationError([each.sentence for each in failed.problems]) from None


def etag_of(prompt: Prompt) -> str:
    """Changes with whatever a PATCH may change."""
    state = [prompt.pk, prompt.tags, str(prompt.archived_at), prompt.awaits_review]
    return f'"{content_hash(state)[:16]}"'


def _one(prompt: Prompt, status: int = 200) -> Response:
    headers = {"ETag": etag_of(prompt)}
    return Response(PromptAnswer(prompt).data, status=status, headers=headers)
