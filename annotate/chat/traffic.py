"""Answers of other servers that a product logs here, and end users it asks to forget."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from annotate.chat.conversations import Conversation, digest_of, title_of
from annotate.chat.messages import Message
from annotate.people.models import Project, User
from annotate.prompts.policies import Policy


class AnswerDiffers(Exception):
    """Another answer is logged under this name. The sentence says which."""


@transaction.atomic
def log(
    answers: list[dict[str, Any]], *, project: Project, user: User
) -> list[tuple[Message, bool]]:
    """Logs answers, all or none; with each, whether it is new.

    An answer: `external_id`, `model`, `messages`, `answer`, and perhaps `user`, `metadata`,
    `store`, `to_label`. Raises AnswerDiffers where another is known by an external_id."""
    policies: dict[str, Policy] = {}
    logged = []
    for said in answers:
        name = said["model"]
        if name not in policies:
            policies[name] = Policy.objects.said_by(project, name)
        answer, is_new = _log_one(said, project=project, user=user, policy=policies[name])
        if said["to_label"]:
            answer.become_data()
        logged.append((answer, is_new))
    return logged


def _log_one(
    said: dict[str, Any], *, project: Project, user: User, policy: Policy
) -> tuple[Message, bool]:
    question = said["messages"][-1]["content"]
    conversation, is_new = Conversation.objects.get_or_create(
        project=project,
        external_id=said["external_id"],
        defaults={
            "guest": user,
            "via_api": True,
            "end_user": digest_of(project, said.get("user", "")),
            "improves_model": said["store"],
            "metadata": said.get("metadata", {}),
            "title": title_of(question),
        },
    )
    if not is_new:
        known = Message.objects.answers_in(Conversation.objects.filter(pk=conversation.pk)).get()
        if differing := _differing(known, said, policy):
            raise AnswerDiffers(
                f"Another answer is logged as “{said['external_id']}”, of another"
                f" {', '.join(differing)}. Give each a name of its own."
            )
        return known, False
    asked = conversation.messages.create(role=Message.Role.USER, text=question)
    answer = conversation.messages.create(
        role=Message.Role.ASSISTANT,
        answers=asked,
        policy=policy,
        text=said["answer"],
        asked=said["messages"],
        context=said["messages"],
        finish_reason="stop",
    )
    return answer, True


def _differing(known: Message, said: dict[str, Any], policy: Policy) -> list[str]:
    """What was sent otherwise than it is stored."""
    conversation = known.conversation
    pairs = {
        "answer": (known.text, said["answer"]),
        "messages": (known.asked, said["messages"]),
        "model": (known.policy, policy),
        "user": (
            conversation.end_user,
            digest_of(conversation.project, said.get("user", "")),
        ),
        "metadata": (conversation.metadata, said.get("metadata", {})),
        "store": (conversation.improves_model, said["store"]),
    }
    return [name for name, (stored, sent) in pairs.items() if stored != sent]


def forget_end_user(project: Project, name: str) -> int:
    """Deletes all exchanges of an end user and what became of them; how many there were."""
    theirs = list(Conversation.objects.of_end_user(project, name)) if name else []
    for conversation in theirs:
        conversation.erase()
    return len(theirs)
