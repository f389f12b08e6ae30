"""How much of a conversation fits into what a policy's model can read at once.

There is no tokenizer here, so it goes by three bytes a token, which is on the safe side for
English. Of a model on somebody else's server nothing is known: that one is sent everything."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from django.conf import settings

from annotate.prompts.models import Messages
from annotate.prompts.policies import Policy

BYTES_A_TOKEN = 3
TOKENS_A_PASSAGE = 500  # about the longest
TOKENS_A_TURN = 8  # what a chat template writes around a message


def window_of(policy: Policy) -> int | None:
    """In tokens, question and answer together; None where it is not known."""
    if policy.is_elsewhere or not policy.folder:
        return None
    try:
        return _window_in(settings.DATA_DIR / policy.folder / "config.json")
    except FileNotFoundError:  # on the server's disk alone
        return None


@cache
def _window_in(config: Path) -> int | None:
    return json.loads(config.read_text()).get("max_position_embeddings")


def size_of(messages: Messages) -> int:
    """In tokens, about."""
    return sum(
        len(message["content"].encode()) // BYTES_A_TOKEN + TOKENS_A_TURN for message in messages
    )


def room_of(policy: Policy) -> int | None:
    """Tokens that may be sent, with room left for an answer; None where it is not known."""
    window = window_of(policy)
    return None if window is None else window - min(policy.max_new_tokens, window // 4)


def fitting(policy: Policy, conversation: Messages) -> Messages:
    """The end of a conversation that leaves room for an answer: without its oldest turns, a
    question and its answer at a time. The last question stays, whether it fits or not. Of a policy
    that reads passages, up to half of the room stays free for them."""
    room = room_of(policy)
    if room is None:
        return conversation
    room -= min(policy.passages_read * TOKENS_A_PASSAGE, room // 2)
    start = 0
    while start < len(conversation) - 1:
        if size_of(policy.messages_for(conversation[start:])) <= room:
            break
        start += 2
    return conversation[start:]
