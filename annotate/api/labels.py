"""The work of a labeler over the API: the next task, its answer, and what was answered."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError as Invalid
from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import MAY_ACT_AS, Role, assignment_for
from annotate.api.access import MayReadOrLabel, endpoint, here, project_of, token_of
from annotate.api.pages import (
    IF_MATCH,
    Conflict,
    check,
    described,
    form_data,
    listed,
    match,
    only_known,
    paged,
    refuse,
)
from annotate.labelling.forms import SkipForm
from annotate.labelling.queue import next_assignment
from annotate.labels.forms import WorkForm
from annotate.labels.kinds import KINDS, kind_of
from annotate.labels.label import Conflict as LabelConflict
from annotate.labels.label import Label
from annotate.people.models import Membership
from annotate.work.assignments import Assignment

BY_NAME = {kind.words.many: kind for kind in KINDS.values()}
HIDDEN = ("idempotency_key", "revision_no")
OF_PLACEMENTS = ("place", "rating", "flags")


class ShownCompletion(serializers.Serializer):
    id = serializers.IntegerField()
    letter = serializers.CharField()
    text = serializers.CharField(allow_blank=True)


class FormField(serializers.Serializer):
    name = serializers.CharField()
    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    required = serializers.BooleanField()  # type: ignore[assignment]
    choices = serializers.ListField(child=serializers.CharField(), allow_null=True)


class AssignedPrompt(serializers.Serializer):
    id = serializers.IntegerField()
    messages = serializers.ListField(child=serializers.DictField(child=serializers.CharField()))


class AssignmentAnswer(serializers.Serializer):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    state = serializers.CharField(help_text="leased, submitted or skipped")
    leased_until = serializers.DateTimeField()
    prompt = AssignedPrompt()
    completions = ShownCompletion(many=True, help_text="In the order to show them.")
    form = FormField(many=True, help_text="What may be sent as the label.")
    revision = serializers.IntegerField(allow_null=True, help_text="Of the label, if there is one.")


class AssignmentRow(serializers.ModelSerializer[Assignment]):
    kind = serializers.CharField(source="task.kind")
    prompt = serializers.IntegerField(source="task.prompt_id")
    state = serializers.CharField()

    class Meta:
        model = Assignment
        fields = ["id", "kind", "prompt", "state", "leased_until", "created_at", "ended_at"]


class LabelAnswer(serializers.Serializer):
    id = serializers.IntegerField(source="pk")
    kind = serializers.SerializerMethodField()
    assignment = serializers.IntegerField(source="assignment_id", allow_null=True)
    prompt = serializers.IntegerField(source="prompt_id")
    labeler = serializers.CharField(source="labeler.username")
    revision = serializers.IntegerField(source="revision_no")
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    created_at = serializers.DateTimeField()
    content = serializers.SerializerMethodField()

    def get_kind(self, label: Label) -> str:
        return next(name for name, kind in BY_NAME.items() if kind.model is type(label))

    def get_content(self, label: Label) -> dict[str, Any]:
        content = dict(label.content)
        if "placed" in content:
            names = ("completion", *OF_PLACEMENTS)
            content["placements"] = [
                dict(zip(names, each, strict=True)) for each in content.pop("placed")
            ]
        return content


class SkipRequest(serializers.Serializer):
    reason = serializers.ChoiceField(Assignment.SkipReason.choices)
    note = serializers.CharField(required=False, allow_blank=True, max_length=500)


class Placed(serializers.Serializer):
    completion = serializers.IntegerField()
    place = serializers.IntegerField(required=False, min_value=1)
    rating = serializers.IntegerField(required=False, min_value=1, max_value=7, allow_null=True)
    flags = serializers.ListField(child=serializers.CharField(), required=False)


class LabelRequest(serializers.Serializer):
    """What the assignment's `form` names; `placements` stand for its place_…, rating_… and
    flags_…."""

    text = serializers.CharField(required=False)
    choice = serializers.CharField(required=False)
    outcome = serializers.CharField(required=False)
    reason = serializers.CharField(required=False)
    comment = serializers.CharField(required=False)
    active_seconds = serializers.IntegerField(required=False)
    placements = Placed(many=True, required=False)


@listed("list_assignments", AssignmentRow)
@endpoint("GET", permission=MayReadOrLabel)
def assignments(request: Request) -> Response:
    """The caller's own work, the newest first."""
    project = project_of(request, Role.LABELER)
    own = Assignment.objects.by(token_of(request).user).of_project(project).of_kind(*KINDS)
    return paged(request, own.select_related("task"), AssignmentRow)


class NextRequest(serializers.Serializer):
    kind = serializers.ChoiceField(list(KINDS), required=False)


@described(
    "next_assignment", {200: AssignmentAnswer, 204: None}, request=NextRequest, method="POST"
)
@endpoint("POST", permission=MayReadOrLabel, repeats=None)
def next_one(request: Request) -> Response:
    """What the caller does next: what they have begun, or a task that is leased to them now. 204:
    there is nothing for them."""
    project = project_of(request, Role.LABELER)
    asked = NextRequest(data=only_known(request.data, NextRequest().fields))
    asked.is_valid(raise_exception=True)
    member: Membership = here(request)[0].membership
    if not member.has_read_guideline:
        raise Conflict("Read the guideline on the site first.", code="guideline_unread")
    kinds = [asked.validated_data["kind"]] if asked.validated_data else list(KINDS)
    labeler = token_of(request).user
    found = (work for kind in kinds if (work := next_assignment(labeler, project, only=kind)))
    work = next(found, None)
    return _one(work) if work else Response(status=204)


@described("retrieve_assignment", AssignmentAnswer)
@endpoint("GET", permission=MayReadOrLabel)
def assignment(request: Request, assignment_id: int) -> Response:
    """A task that is the caller's."""
    return _one(_labelling(request, assignment_id))


@described("submit_label", LabelAnswer, request=LabelRequest, method="POST", status=201)
@described("revise_label", LabelAnswer, request=LabelRequest, method="PUT", query=[IF_MATCH])
@endpoint("POST", "PUT", permission=MayReadOrLabel, repeats=None)
def label(request: Request, assignment_id: int) -> Response:
    """Answers the task, once; a PUT corrects the answer, as long as the project lets one."""
    work = _labelling(request, assignment_id)
    stored = work.label if request.method == "PUT" else None
    if request.method == "PUT":
        if stored is None or stored.retracted:
            raise Http404("There is no label yet.")
        match(request, _etag(stored))
    form = _form(request, work)
    check(form)
    try:
        if stored is None:
            kind_of(work.task).model.record(assignment=work, **form.as_kwargs())
        else:
            stored.revise(revision_no=stored.revision_no, **form.as_kwargs())
    except LabelConflict as error:
        raise Conflict(str(error)) from None
    except Invalid as error:
        raise refuse(error) from None
    now = Assignment.objects.get(pk=work.pk).label
    status = 201 if stored is None else 200
    return Response(LabelAnswer(now).data, status=status, headers={"ETag": _etag(now)})


@described("skip_assignment", AssignmentRow, request=SkipRequest, method="POST")
@endpoint("POST", permission=MayReadOrLabel)
def skip(request: Request, assignment_id: int) -> Response:
    """Gives the task back, with a reason."""
    work = _labelling(request, assignment_id)
    sent = only_known(request.data, SkipForm.base_fields)
    said = {f"{SkipForm.prefix}-{name}": value for name, value in sent.items()}
    if not work.skip(**check(SkipForm(form_data(said)))):
        raise Conflict("You have already answered this task, so it cannot be skipped.")
    work.refresh_from_db()
    return Response(AssignmentRow(work).data)


@listed(
    "list_labels",
    LabelAnswer,
    [OpenApiParameter("kind", OpenApiTypes.STR, OpenApiParameter.PATH, enum=list(BY_NAME))],
)
@endpoint("GET", permission=MayReadOrLabel)
def labels(request: Request, kind: str) -> Response:
    """The labels of one kind that are in force, the newest first: for an operator everybody's, for
    others their own."""
    project = project_of(request, Role.LABELER)
    if kind not in BY_NAME:
        raise Http404(f"There are no such labels; there are {', '.join(BY_NAME)}.")
    found = BY_NAME[kind].labels.current().of_project(project).with_placements()
    if here(request)[0].membership.role not in MAY_ACT_AS[Role.OPERATOR]:
        found = found.by(token_of(request).user)
    return paged(request, found.select_related("labeler"), LabelAnswer)


def _labelling(request: Request, assignment_id: int) -> Assignment:
    work = assignment_for(*here(request), assignment_id)
    if work.task.kind not in KINDS:
        raise Http404("Reviews are done on the site.")
    return work


def _form(request: Request, work: Assignment) -> WorkForm:
    form_class = kind_of(work.task).form_class(work)
    names = [name for name in form_class(work).fields if name not in HIDDEN]
    sent = only_known(request.data, [*names, "placements"])
    placed = dict(_of_placements(sent.pop("placements", None) or [], names))
    key = request.headers.get("Idempotency-Key", "")
    # The page's own key does here what it does there.
    own = uuid.uuid5(uuid.NAMESPACE_URL, f"{token_of(request).pk}/{key}") if key else uuid.uuid4()
    return form_class(work, form_data({**sent, **placed, "idempotency_key": str(own)}))


def _of_placements(placements: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    """The fields of the form for what was said of each completion."""
    sent = Placed(data=placements, many=True)
    if not sent.is_valid():
        raise serializers.ValidationError({"placements": sent.errors})
    for number, said in enumerate(sent.validated_data):
        for what in OF_PLACEMENTS:
            name = f"{what}_{said['completion']}"
            if what in said and name not in names:
                why = f"This task takes no {what} of completion {said['completion']}."
                raise serializers.ValidationError({f"placements[{number}]": [why]})
            if what in said:
                yield name, said[what]


def _one(work: Assignment) -> Response:
    form = kind_of(work.task).form_class(work)(work)
    completions = work.task.completions.in_bulk(work.shown_order)
    letters, stored = work.letters, work.label
    answer: Mapping[str, Any] = {
        "id": work.pk,
        "kind": work.task.kind,
        "state": work.state,
        "leased_until": work.leased_until,
        "prompt": {"id": work.task.prompt_id, "messages": work.task.prompt.messages},
        "completions": [
            {"id": pk, "letter": letters[pk], "text": completions[pk].text}
            for pk in work.shown_order
        ],
        "form": [field_of(name, each) for name, each in form.fields.items() if name not in HIDDEN],
        "revision": stored.revision_no if stored and not stored.retracted else None,
    }
    headers = {"ETag": _etag(stored)} if answer["revision"] else {}
    return Response(AssignmentAnswer(answer).data, headers=headers)


def field_of(name: str, field: forms.Field) -> dict[str, Any]:
    """A field of a form, as programs are told of it."""
    choices = getattr(field, "choices", None)
    values = [str(value) for value, _ in choices if value != ""] if choices is not None else None
    return {
        "name": name, "label": field.label or "", "required": field.required, "choices": values,
    }  # fmt: skip


def _etag(label: Label) -> str:
    return f'"{label.pk}-{label.revision_no}"'
