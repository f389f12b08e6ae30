"""Reviewing over the API: what waits, taking one, and deciding it."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as Invalid
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role, review_for, review_task_for
from annotate.api.access import MayReadOrLabel, endpoint, here, project_of, token_of
from annotate.api.labels import (
    AssignedPrompt,
    AssignmentRow,
    FormField,
    LabelAnswer,
    ShownCompletion,
    field_of,
)
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
from annotate.api.strict import StrictSerializer
from annotate.labelling.queue import open_review
from annotate.labels.kinds import kind_of
from annotate.labels.label import Conflict as LabelConflict
from annotate.labels.review_forms import ReviewFilter, ReviewForm
from annotate.labels.reviews import Review, labels_under_review
from annotate.labels.verdicts import Cause
from annotate.prompts.models import content_hash
from annotate.views.review import filter_of, next_of
from annotate.work.assignments import Assignment
from annotate.work.tasks import Task

STATES = ("waiting", "settled")
FILTERS = [OpenApiParameter(name, str) for name in ReviewFilter.base_fields]


class ReviewRow(serializers.ModelSerializer[Task]):
    task = serializers.IntegerField(source="pk")
    kind = serializers.CharField(source="subject.kind", help_text="What the answers are.")
    prompt = serializers.IntegerField(source="prompt_id")
    answers = serializers.IntegerField(help_text="How many the review is of.")
    doubts = serializers.ListField(child=serializers.CharField())
    settled_at = serializers.DateTimeField(source="closed_at", allow_null=True)

    class Meta:
        model = Task
        fields = ["task", "kind", "prompt", "answers", "doubts", "created_at", "settled_at"]


class ReviewQuery(serializers.Serializer):
    state = serializers.ChoiceField(STATES, default=STATES[0])


class NextReview(StrictSerializer):
    task = serializers.IntegerField(
        required=False, min_value=1, max_value=10**18 - 1, help_text="This one, out of its turn."
    )
    filter = serializers.DictField(
        child=serializers.CharField(allow_blank=True),
        required=False,
        help_text="As in the query of GET /api/v1/reviews.",
    )


class Decided(serializers.ModelSerializer[Review]):
    label = serializers.IntegerField(  # type: ignore[assignment]  # the key is called so
        source="label.pk"
    )
    reviewer = serializers.CharField(source="reviewer.username")

    class Meta:
        model = Review
        fields = ["label", "verdict", "cause", "score", "comment", "reviewer", "created_at"]


class ReviewAnswer(serializers.Serializer):
    id = serializers.IntegerField()
    task = serializers.IntegerField()
    kind = serializers.CharField()
    state = serializers.CharField(help_text="leased, submitted or skipped")
    leased_until = serializers.DateTimeField()
    prompt = AssignedPrompt()
    completions = ShownCompletion(many=True, help_text="Of a comparison, in the order to show.")
    labels = LabelAnswer(many=True, help_text="L1, L2, … of a verdict, in this order.")
    form = FormField(many=True, help_text="What may be sent as the decision.")
    decisions = Decided(many=True, help_text="Once it is decided.")


class PlacedByReviewer(StrictSerializer):
    completion = serializers.IntegerField(min_value=1)
    place = serializers.IntegerField(min_value=1, max_value=9)


class DecisionRequest(StrictSerializer):
    """What the review's `form` names; `placements` stand for its place_…, `scores` for its
    score_…."""

    verdict = serializers.RegexField(
        r"^(accept|own|(pick|send_back|exclude)(:[0-9]{1,2})?)$",
        help_text="accept, own, pick:2, send_back:2, exclude:2, where 2 is L2; without: all.",
    )
    cause = serializers.ChoiceField(
        Cause.choices, required=False, help_text="Of the answers not accepted; of all if all are."
    )
    comment = serializers.CharField(
        required=False, allow_blank=True, max_length=2000, help_text="To those the cause is of."
    )
    score = serializers.IntegerField(
        required=False, min_value=1, max_value=7, help_text="Of a demonstration that is alone."
    )
    scores = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=7, allow_null=True),
        required=False,
        help_text="Of several demonstrations: of L1, L2, …; null for none. They stand for the "
        "form's score_….",
    )
    text = serializers.CharField(required=False, help_text="One's own version: verdict own.")
    leave_out = serializers.BooleanField(
        required=False, help_text="The text is another than the answer's, and is not to be used."
    )
    placements = PlacedByReviewer(many=True, required=False)
    strength = serializers.IntegerField(
        required=False, min_value=1, max_value=4,
        help_text="Of one's own ranking of two of which one is better: 4 much … 1 barely.",
    )  # fmt: skip
    active_seconds = serializers.IntegerField(required=False, help_text="What the review took.")
    as_gold = serializers.BooleanField(required=False, help_text="Of one's own ranking.")


@listed("list_reviews", ReviewRow, [ReviewQuery, *FILTERS])
@endpoint("GET", permission=MayReadOrLabel)
def reviews(request: Request) -> Response:
    """The reviews that wait, or those that are settled; the newest first."""
    project = project_of(request, Role.REVIEWER)
    asked = ReviewQuery(data=request.query_params)
    asked.is_valid(raise_exception=True)
    chosen = filter_of(project, request.query_params)
    check(chosen)
    rows = chosen.narrow(project.tasks.of_kind(Task.Kind.REVIEW)).with_subjects()
    is_settled = asked.validated_data["state"] == "settled"
    names = [*ReviewQuery().fields, *ReviewFilter.base_fields]
    rows = rows.closed() if is_settled else rows.open()
    return paged(request, rows, ReviewRow, filters=names)


@described("next_review", {200: ReviewAnswer, 204: None}, request=NextReview, method="POST")
@endpoint("POST", permission=MayReadOrLabel, repeats=None)
def next_one(request: Request) -> Response:
    """The review that the caller does next, leased now. 204: there is none for them."""
    project = project_of(request, Role.REVIEWER)
    asked = NextReview(data=request.data)
    asked.is_valid(raise_exception=True)
    reviewer = token_of(request).user
    if (number := asked.validated_data.get("task")) is not None:
        work = open_review(reviewer, project, review_task_for(*here(request), number).pk)
        if work is None:
            why = "It is settled, somebody else has it, or you answered the prompt yourself."
            raise Conflict(why, code="not_yours")
    else:
        wished = asked.validated_data.get("filter", {})
        chosen = filter_of(project, form_data(only_known(wished, ReviewFilter.base_fields)))
        check(chosen)
        work = next_of(reviewer, project, chosen)
    return _one(request, work.pk) if work else Response(status=204)


@described("retrieve_review", ReviewAnswer)
@endpoint("GET", permission=MayReadOrLabel)
def review(request: Request, assignment_id: int) -> Response:
    """A review of the caller's, or one that anybody has ended."""
    return _one(request, assignment_id)


@described(
    *("decide_review", ReviewAnswer),
    request=DecisionRequest, method="POST", status=201, query=[IF_MATCH],
)  # fmt: skip
@endpoint("POST", permission=MayReadOrLabel, repeats=None)
def decision(request: Request, assignment_id: int) -> Response:
    """Decides a review, once, about the answers that its ETag stands for."""
    work = review_for(*here(request), assignment_id)
    if work.is_submitted:
        raise Conflict("This review is finished.")
    form = _form(request, work)
    match(request, _etag(form))
    check(form)
    try:
        Review.record(assignment=work, **form.decision())
    except LabelConflict as error:
        raise Conflict(str(error)) from None
    except Invalid as error:
        raise refuse(error) from None
    return _one(request, assignment_id, status=201)


@described("skip_review", AssignmentRow, method="POST")
@endpoint("POST", permission=MayReadOrLabel)
def skip(request: Request, assignment_id: int) -> Response:
    """Leaves a review to others."""
    work = review_for(*here(request), assignment_id)
    if work.is_submitted or not work.skip(reason=Assignment.SkipReason.OTHER):
        raise Conflict("This review is finished, so it cannot be skipped.")
    work.refresh_from_db()
    return Response(AssignmentRow(work).data)


def _form(request: Request, work: Assignment) -> ReviewForm:
    form_class, labels = kind_of(work.task).review_form, labels_under_review(work.task)
    empty = form_class(work, labels)
    sent = only_known(request.data, [*empty.fields, "placements", "scores"])
    sent.pop("seen", None)
    sent |= _scores(sent.pop("scores", None), empty)
    placed = PlacedByReviewer(data=sent.pop("placements", None) or [], many=True)
    if not placed.is_valid():
        raise serializers.ValidationError({"placements": placed.errors})
    for number, said in enumerate(placed.validated_data):
        name = f"place_{said['completion']}"
        if name not in empty.fields:
            why = f"This review is not of completion {said['completion']}."
            raise serializers.ValidationError({f"placements[{number}]": [why]})
        sent[name] = said["place"]
    return form_class(work, labels, form_data({**sent, "seen": empty.initial["seen"]}))


def _scores(sent: Any, form: ReviewForm) -> dict[str, Any]:
    """The scores of several answers, as the form names them."""
    if sent is None:
        return {}
    named = {f"score_{slot}": score for slot, score in enumerate(_listed(sent), start=1)}
    if not named.keys() <= form.fields.keys():
        raise serializers.ValidationError({"scores": ["Send one for each of several answers."]})
    return named


def _listed(sent: Any) -> list[Any]:
    if not isinstance(sent, list):
        raise serializers.ValidationError({"scores": ["Send a list."]})
    return sent


def _one(request: Request, assignment_id: int, status: int = 200) -> Response:
    work = review_for(*here(request), assignment_id)
    subject = work.task.subject
    assert subject
    labels = [] if work.is_submitted else labels_under_review(work.task)
    form = kind_of(work.task).review_form(work, labels)
    completions = work.task.completions.in_bulk(work.shown_order)
    answer: dict[str, Any] = {
        "id": work.pk,
        "task": work.task_id,
        "kind": subject.kind,
        "state": work.state,
        "leased_until": work.leased_until,
        "prompt": {"id": work.task.prompt_id, "messages": work.task.prompt.messages},
        "completions": [
            {"id": pk, "letter": work.letters[pk], "text": completions[pk].text}
            for pk in work.shown_order
        ],
        "labels": labels,
        "form": [field_of(name, each) for name, each in form.fields.items() if name != "seen"],
        "decisions": Review.ending(work) if work.is_submitted else [],
    }
    headers = {} if work.is_submitted else {"ETag": _etag(form)}
    return Response(ReviewAnswer(answer).data, status=status, headers=headers)


def _etag(form: ReviewForm) -> str:
    """Changes with the answers under review."""
    return f'"{content_hash([str(form.initial["seen"])])[:16]}"'
