"""What end users of a product thought of the answers they got."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import Role
from annotate.api.access import MayGiveFeedback, MayRead, endpoint, project_of, token_of
from annotate.api.pages import Conflict, described
from annotate.api.strict import StrictSerializer
from annotate.chat.conversations import Conversation
from annotate.chat.feedback import Feedback
from annotate.chat.measures import LONGEST, RATING, Measure
from annotate.chat.messages import Message
from annotate.chat.preferences import AnotherPair, Preference
from annotate.people.models import Project, User

RETRACTED = "The thumb was removed."
RETRACTED_PREFERENCE = "The preference was removed."
TRAINS_NOTHING = "Ratings, metrics and tags are counted per policy, and train nothing."
EXPLAINS = ("reasons", "note", "wanted_answer")
NOTHING_SAID: dict[str, Any] = {"reasons": [], "note": "", "wanted_answer": ""}
MOST_MEASURES = 32
MOST_ROWS_OF_MEASURES = 2000
LARGEST = 1e300


@extend_schema_field(
    {
        "type": "object",
        "maxProperties": MOST_MEASURES,
        "additionalProperties": {
            "nullable": True,
            "oneOf": [
                {"type": "boolean"},
                {"type": "number"},
                {"type": "string", "maxLength": LONGEST},
            ],
        },
    }
)
class Metrics(serializers.DictField):
    """Names of one's own, each with true or false, a number, or a category; null forgets it."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        said: dict[str, Any] = super().to_internal_value(data)
        if len(said) > MOST_MEASURES:
            raise serializers.ValidationError(f"There may be {MOST_MEASURES} names.")
        wrong = {name: why for name, value in said.items() if (why := self._wrong(name, value))}
        if wrong:
            raise serializers.ValidationError(wrong)
        return said

    def _wrong(self, name: str, value: Any) -> list[str]:
        if not 0 < len(name) <= LONGEST or name == RATING or not _is_clean(name):
            return [f"A name has 1 to {LONGEST} characters, and is not “{RATING}”."]
        if isinstance(value, str) and (not 0 < len(value) <= LONGEST or not _is_clean(value)):
            return [f"A category has 1 to {LONGEST} characters."]
        if value is not None and not isinstance(value, bool | int | float | str):
            return ["Send true, false, a number, a text or null."]
        if isinstance(value, int | float) and abs(value) > LARGEST:
            return ["The number is too large."]
        return []


def _is_clean(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


class FeedbackRequest(StrictSerializer):
    completion_id = serializers.UUIDField(required=False, help_text="This, or external_id.")
    external_id = serializers.CharField(required=False, max_length=200)
    thumb = serializers.ChoiceField(
        ["up", "down"], required=False, allow_null=True, help_text="null retracts it."
    )
    rating = serializers.IntegerField(
        required=False, min_value=1, max_value=7, allow_null=True, help_text="7 is best."
    )
    metrics = Metrics(required=False)
    tags = serializers.ListField(
        child=serializers.CharField(max_length=LONGEST), required=False, max_length=MOST_MEASURES
    )
    reasons = serializers.ListField(
        child=serializers.ChoiceField(Feedback.Reason.choices),
        required=False,
        max_length=20,
        help_text="What is left out stays as it was, while the thumb is the same.",
    )
    note = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    wanted_answer = serializers.CharField(required=False, allow_blank=True, max_length=8000)

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        if ("completion_id" in sent) == ("external_id" in sent):
            raise serializers.ValidationError(
                {"completion_id": ["Name the answer by completion_id or by external_id."]}
            )
        measures = {"rating", "metrics", "tags"} & set(sent)
        if "thumb" not in sent and not measures:
            raise serializers.ValidationError(
                {"thumb": ["Send a thumb, or something else to say."]}
            )
        if wrong := _misplaced(sent, sent.get("thumb")):
            raise serializers.ValidationError(wrong)
        return sent


def _misplaced(sent: dict[str, Any], thumb: str | None) -> dict[str, list[str]]:
    """What was sent to explain a thumb, and does not go with this one."""
    if thumb is None:
        return {name: ["Send the thumb that it explains."] for name in EXPLAINS if sent.get(name)}
    if thumb == "up" and sent.get("wanted_answer"):
        return {"wanted_answer": ["It does not go with a thumb up."]}
    fitting = dict(Feedback.reasons_for(thumb_up=thumb == "up"))
    unfit = next((each for each in sent.get("reasons", []) if each not in fitting), None)
    return {"reasons": [f"“{unfit}” does not go with a thumb {thumb}."]} if unfit else {}


class FeedbackAnswer(serializers.Serializer):
    completion_id = serializers.UUIDField()
    thumb = serializers.ChoiceField(["up", "down"], allow_null=True, help_text="As it stands now.")
    reasons = serializers.ListField(child=serializers.CharField())
    note = serializers.CharField(allow_blank=True)
    wanted_answer = serializers.CharField(allow_blank=True)
    rating = serializers.IntegerField(allow_null=True)
    metrics = serializers.DictField(help_text="All that are known by now.")
    tags = serializers.ListField(child=serializers.CharField())
    counts = serializers.BooleanField(help_text="Whether it becomes data of the project.")
    why = serializers.CharField(allow_blank=True, help_text="Why it does not.")


@described("give_feedback", FeedbackAnswer, request=FeedbackRequest, method="POST")
@endpoint("POST", permission=MayGiveFeedback)
def feedback(request: Request) -> Response:
    """A thumb on an answer given here or logged here: given, changed or, with null, retracted."""
    checked = FeedbackRequest(data=request.data)
    checked.is_valid(raise_exception=True)
    sent = checked.validated_data
    answer, user = _answer(token_of(request).project, sent), token_of(request).user
    why = RETRACTED if "thumb" in sent else TRAINS_NOTHING
    metrics = dict(sent.get("metrics", {}))
    if "rating" in sent:
        metrics[RATING] = sent["rating"]
    Measure.note(message=answer, user=user, metrics=metrics, tags=sent.get("tags"))
    if "thumb" in sent and sent["thumb"] is None:
        Feedback.take_back(message=answer, user=user)
    elif "thumb" in sent:
        given = Feedback.give(
            message=answer,
            user=user,
            thumb_up=sent["thumb"] == "up",
            **{name: sent[name] for name in EXPLAINS if name in sent},
        )
        why = given.why_it_does_not_count
    said = {"completion_id": answer.public_id, "counts": not why, "why": why}
    return Response(FeedbackAnswer(said | _stored(answer, user)).data)


def _stored(answer: Message, user: User) -> dict[str, Any]:
    """All that this person says of the answer by now."""
    given = answer.feedback.current().of_user(user).first()
    said = {name: getattr(given, name) for name in EXPLAINS} if given else NOTHING_SAID
    thumb = ("up" if given.thumb_up else "down") if given else None
    return {"thumb": thumb, **said, **_measured(answer, user)}


def _measured(answer: Message, user: User) -> dict[str, Any]:
    rows = list(Measure.objects.of(answer, user))
    values = {row.name: row.value for row in rows if row.kind != Measure.Kind.TAG}
    rating = values.pop(RATING, None)
    tags = [row.name for row in rows if row.kind == Measure.Kind.TAG]
    return {"rating": rating, "metrics": values, "tags": tags}


class PreferenceRequest(StrictSerializer):
    completion_id = serializers.UUIDField(required=False, help_text="This, or external_id.")
    external_id = serializers.CharField(required=False, max_length=200)
    other_completion_id = serializers.UUIDField(required=False)
    other_external_id = serializers.CharField(required=False, max_length=200)
    verdict = serializers.ChoiceField(
        Preference.Verdict.choices,
        allow_null=True,
        help_text="How the first is beside the other; null takes it back.",
    )

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        for prefix in ("", "other_"):
            if (f"{prefix}completion_id" in sent) == (f"{prefix}external_id" in sent):
                said = f"Name an answer by {prefix}completion_id or by {prefix}external_id."
                raise serializers.ValidationError({f"{prefix}completion_id": [said]})
        return sent


class PreferenceAnswer(serializers.Serializer):
    completion_id = serializers.UUIDField()
    other_completion_id = serializers.UUIDField()
    verdict = serializers.CharField(allow_null=True)
    counts = serializers.BooleanField(help_text="Whether it becomes a ranking that may train.")
    why = serializers.CharField(allow_blank=True, help_text="Why it does not.")


@described("give_preference", PreferenceAnswer, request=PreferenceRequest, method="POST")
@endpoint("POST", permission=MayGiveFeedback)
def preference(request: Request) -> Response:
    """Which of two answers to the same messages is better."""
    checked = PreferenceRequest(data=request.data)
    checked.is_valid(raise_exception=True)
    sent, token = checked.validated_data, token_of(request)
    others = {k.removeprefix("other_"): v for k, v in sent.items() if k.startswith("other_")}
    one, other = _answer(token.project, sent), _answer(token.project, others)
    if one == other or one.asked != other.asked:
        said = "Compare two different answers to the same messages."
        raise serializers.ValidationError({"other_completion_id": [said]})
    try:
        given = Preference.between(one, other, user=token.user, verdict=sent["verdict"])
    except AnotherPair:
        raise Conflict("Each of the two is already compared with another answer.") from None
    why = given.why_it_does_not_count if given else RETRACTED_PREFERENCE
    ids = {"completion_id": one.public_id, "other_completion_id": other.public_id}
    answer = {**ids, "verdict": sent["verdict"], "counts": not why, "why": why}
    return Response(PreferenceAnswer(answer).data)


class MeasureRow(serializers.Serializer):
    policy = serializers.CharField(allow_null=True)
    name = serializers.CharField()
    kind = serializers.CharField(help_text="bool, number, category or tag")
    category = serializers.CharField(allow_blank=True)
    count = serializers.IntegerField()
    mean = serializers.FloatField(allow_null=True, help_text="Of truth values, the share of true.")


class MeasureTable(serializers.Serializer):
    results = MeasureRow(many=True)


@described("list_measures", MeasureTable)
@endpoint("GET", permission=MayRead)
def measures(request: Request) -> Response:
    """Ratings, metrics and tags, per policy."""
    project = project_of(request, Role.REVIEWER)
    rows = Measure.objects.of_project(project).by_policy()[:MOST_ROWS_OF_MEASURES]
    return Response(MeasureTable({"results": list(rows)}).data)


def _answer(project: Project, sent: dict[str, Any]) -> Message:
    answers = Message.objects.answers_in(Conversation.objects.of_products(project))
    if "external_id" in sent:
        found = answers.filter(conversation__external_id=sent["external_id"]).first()
    else:
        found = answers.filter(public_id=sent["completion_id"]).first()
    if found is None:
        raise NotFound("No such completion.")
    return found
