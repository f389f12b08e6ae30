"""Which policy is asked, and what becomes of asking it: the same for all addresses under /v1/."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import Any

from asgiref.sync import async_to_sync
from rest_framework.exceptions import Throttled

from annotate.api.openai.chat_request import CHALLENGER, LIVE
from annotate.chat import inference
from annotate.chat import streaming as chat
from annotate.chat.conversations import Conversation, NoLivePolicy
from annotate.chat.messages import Message
from annotate.limits import seconds_to_wait
from annotate.people.models import Project
from annotate.people.tokens import ApiToken
from annotate.prompts.models import Messages
from annotate.prompts.policies import Policy
from feedback_site.web import api_errors as errors

BYTES_A_TOKEN = 4  # where a model server does not count; about what English text has


def acting(project: Project, name: str) -> Policy | None:
    """The live policy or its challenger."""
    policies = project.policies.askable()
    return (policies.live() if name == LIVE else policies.challenger()).first()


def asked_for(project: Project, name: str) -> Policy:
    """The policy that a request names. Raises NoSuchModel."""
    by_role = acting(project, name) if name in (LIVE, CHALLENGER) else None
    if policy := by_role or project.policies.askable().filter(name=name).first():
        return policy
    if name == LIVE:
        raise errors.NoSuchModel("No policy is live in this project.")
    raise errors.NoSuchModel(f"There is no policy “{name}” here. GET /v1/models lists them.")


def count_end_user(token: ApiToken, end_user: str) -> None:
    """Raises Throttled where this end user asks too often."""
    if not end_user:
        return
    who = f"{token.project_id}/{end_user}"
    if wait := seconds_to_wait("API of an end user", end_user=who):
        raise Throttled(wait=math.ceil(wait))


def begin(
    token: ApiToken,
    asked: dict[str, Any],
    messages: Messages,
    *,
    improves_model: bool,
    **sampling: Any,
) -> list[Message]:
    """The places of the `n` answers to a checked request; they are still to be written."""
    policy = asked_for(token.project, asked["model"])
    wished = asked.get("max_completion_tokens") or asked.get("max_tokens") or policy.max_new_tokens
    try:
        return [
            Conversation.of_api_call(
                project=token.project,
                user=token.user,
                # The challenger has its share of what the live policy is asked.
                policy=None if asked["model"] == LIVE else policy,
                messages=messages,
                end_user=asked.get("user", ""),
                metadata=asked.get("metadata", {}),
                improves_model=improves_model,
                max_tokens=min(wished, policy.max_new_tokens),
                **_of_choice(sampling, number),
            )
            for number in range(asked["n"])
        ]
    except NoLivePolicy:
        raise errors.NoSuchModel("No policy is live in this project.") from None


def _of_choice(sampling: dict[str, Any], number: int) -> dict[str, Any]:
    """The same seed for every choice would make them the same answer."""
    return sampling | ({"seed": sampling["seed"] + number} if "seed" in sampling else {})


def write_all(answers: list[Message]) -> None:
    """Writes them to their ends. Raises where one of them fails."""
    async_to_sync(_write_all)(answers)
    for answer in answers:
        answer.refresh_from_db()
        if answer.state != Message.State.DONE:
            raise failure_of(answer)


async def _write_all(answers: list[Message]) -> None:
    await asyncio.gather(*map(chat.write_whole, answers))


def failure_of(answer: Message) -> errors.APIException:
    """Why there is no answer, as its client can read it."""
    if answer.failure == inference.TOO_LONG:
        return errors.TooLongContext(answer.failure)
    if answer.failure == inference.NO_RAW:
        return errors.NotDoneHere(answer.failure)
    return errors.NoAnswer(answer.failure)


def failure_in_stream(answer: Message) -> dict[str, Any]:
    """The same as the last event of a stream."""
    error = failure_of(answer)
    return errors.body(error.status_code, answer.failure, code=error.default_code)


def usage_of(answers: Iterable[Message]) -> dict[str, int]:
    """Tokens of the prompt, once, and of all the answers to it."""
    answers = list(answers)
    first = answers[0]
    asked = "".join(message["content"] for message in first.context)
    prompt = first.prompt_tokens if first.prompt_tokens is not None else _estimate(asked)
    said = sum(
        each.completion_tokens if each.completion_tokens is not None else _estimate(each.text)
        for each in answers
    )
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def _estimate(text: str) -> int:
    return math.ceil(len(text.encode()) / BYTES_A_TOKEN)


def whole_calls(pieces: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls of tools, put together from their pieces: each has the `index` of its call, the first
    its id and name, and all of them some of the arguments."""
    calls: dict[int, dict[str, Any]] = {}
    for place, piece in enumerate(pieces):
        function = piece.get("function") or {}
        index = piece.get("index")
        call = calls.setdefault(
            index if isinstance(index, int) else place,
            {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
        )
        call["id"] = piece.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
    return [calls[index] for index in sorted(calls)]
