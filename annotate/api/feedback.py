"""What end users of a product thought of the answers they got."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.access import MayGiveFeedback, endpoint, token_of
from annotate.api.chat_request import StrictSerializer
from annotate.api.pages import described
from annotate.chat.conversations import Conversation
from annotate.chat.feedback import Feedback
from annotate.chat.messages import Message
from annotate.people.models import Project

RETRACTED = "The thumb was removed."


class FeedbackRequest(StrictSerializer):
    completion_id = serializers.UUIDField(required=False, help_text="This, or external_id.")
    external_id = serializers.CharField(required=False, max_length=200)
    thumb = serializers.ChoiceField(["up", "down"], allow_null=True, help_text="null retracts it.")
    reasons = serializers.ListField(
        child=serializers.ChoiceField(Feedback.Reason.choices), default=list, max_length=20
    )
    note = serializers.CharField(default="", allow_blank=True, max_length=2000)
    wanted_answer = serializers.CharField(default="", allow_blank=True, max_length=8000)

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        if ("completion_id" in sent) == ("external_id" in sent):
            raise serializers.ValidationError(
                {"completion_id": ["Name the answer by completion_id or by external_id."]}
            )
        if sent["thumb"] is None:
            return sent
        fitting = dict(Feedback.reasons_for(thumb_up=sent["thumb"] == "up"))
        for reason in sent["reasons"]:
            if reason not in fitting:
                raise serializers.ValidationError(
                    {"reasons": [f"“{reason}” does not go with a thumb {sent['thumb']}."]}
                )
        return sent


class FeedbackAnswer(serializers.Serializer):
    completion_id = serializers.UUIDField()
    thumb = serializers.ChoiceField(["up", "down"], allow_null=True)
    reasons = serializers.ListField(child=serializers.CharField())
    note = serializers.CharField(allow_blank=True)
    counts = serializers.BooleanField(help_text="Whether it becomes data of the project.")
    why = serializers.CharField(allow_blank=True, help_text="Why it does not.")


@described("give_feedback", FeedbackAnswer, request=FeedbackRequest, method="POST")
@endpoint("POST", permission=MayGiveFeedback)
def feedback(request: Request) -> Response:
    """A thumb on an answer given here or logged here: given, changed or, with null, retracted."""
    checked = FeedbackRequest(data=request.data)
    checked.is_valid(raise_exception=True)
    sent = checked.validated_data
    answer = _answer(token_of(request).project, sent)
    why = RETRACTED
    if sent["thumb"] is None:
        Feedback.take_back(message=answer, user=token_of(request).user)
    else:
        given = Feedback.give(
            message=answer,
            user=token_of(request).user,
            thumb_up=sent["thumb"] == "up",
            reasons=sent["reasons"],
            note=sent["note"],
            wanted_answer=sent["wanted_answer"],
        )
        why = given.why_it_does_not_count
    said = {**sent, "completion_id": answer.public_id, "counts": not why, "why": why}
    return Response(FeedbackAnswer(said).data)


def _answer(project: Project, sent: dict[str, Any]) -> Message:
    answers = Message.objects.answers_in(Conversation.objects.of_products(project))
    if "external_id" in sent:
        found = answers.filter(conversation__external_id=sent["external_id"]).first()
    else:
        found = answers.filter(public_id=sent["completion_id"]).first()
    if found is None:
        raise NotFound("No such completion.")
    return found
