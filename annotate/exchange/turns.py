"""Conversations as others write them, and what can be learnt from one: demonstrations of its
answers, or a comparison of two that part at their last turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes.shape import Raw, Reading, Skip, listed, number
from annotate.exchange.values import short
from annotate.prompts.models import Messages

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "instruction", "user_input"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "bot", "model", "ai", "claude",
                     "agent", "output"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}  # fmt: skip
TOOLS = {
    *("tool", "function", "function_call", "function_response", "observation", "ipython"),
    *("tool_call", "tool_calls", "tool_response"),
}
ROLE_NAMES = ("role", "from", "sender", "speaker")
TEXT_NAMES = ("content", "value", "text")
A_TOOL = "a tool is called in the conversation"
NO_TEXT = "a turn has no text"
NO_ANSWER = "the conversation has no answer"
WEIGHT_0 = "its answer has weight 0: not to be learnt from"
PARTS_EARLIER = "the two conversations differ before their last turn"
ALIKE = "chosen and rejected are the same text"


def is_plain(messages: Any) -> bool:
    """Whether these are messages as we write them ourselves."""
    return isinstance(messages, list) and all(
        isinstance(each, dict)
        and len(each) == 2
        and isinstance(each.get("content"), str)
        and each.get("role") in ("user", "assistant", "system")
        for each in messages
    )


def is_conversation(value: Any) -> bool:
    value = listed(value)
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and any(name in value[0] for name in ROLE_NAMES)
    )


def turns_of(value: Any, reading: Reading) -> tuple[Messages, list[Any]]:
    """The conversation as {role, content}, and the weight of each message, None where none is
    given. What else its messages hold is noted as not read."""
    value = listed(value)
    if not isinstance(value, list) or not value:
        raise BadRow(f"A conversation is a list of messages, not {short(value)}.")
    messages, weights = [], []
    for each in value:
        role, content = _turn(each, reading)
        if role == "system" and not content.strip():
            continue
        messages.append({"role": role, "content": content})
        weights.append(each.get("weight", each.get("loss_weight")))
    return messages, weights


def _turn(message: Any, reading: Reading) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise BadRow(f"A message must have a role and a content, not be {short(message)}.")
    by = next((name for name in ROLE_NAMES if message.get(name)), "role")
    said = str(message.get(by, "")).lower()
    if said in TOOLS or message.get("tool_calls") or message.get("function_call"):
        raise Skip(A_TOOL)
    if said not in ROLES:
        known = "user, assistant, system"
        raise BadRow(f"A message's {by} must be one of {known}, not {short(message.get(by))}.")
    name = next((name for name in TEXT_NAMES if message.get(name) is not None), "content")
    for other, extra in message.items():
        if other not in (by, name, "weight", "loss_weight") and extra not in (None, "", [], {}):
            reading.note(f"{other} of messages")
    return ROLES[said], _text(message.get(name))


def _text(content: Any) -> str:
    """Of a message: a text, or parts that are all texts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        if isinstance(part, dict) and part.get("type", "text") in ("text", "input_text"):
            part = part.get("text", part.get("value"))
        if isinstance(part, dict):
            raise Skip(_not_text(part))
        if not isinstance(part, str):
            raise BadRow(f"A message's content must be a text, not {short(content)}.")
        texts.append(part)
    return "\n".join(texts)


def _not_text(part: Raw) -> str:
    if part.get("type") in TOOLS:
        return A_TOOL
    if part.get("type") in ("reasoning", "thinking"):
        return "a message holds reasoning apart from its text"
    return "a message holds an image or something else that is not text"


def demonstrations(
    messages: Messages, weights: list[Any], reading: Reading, about: Raw
) -> Iterator[Raw | Skip]:
    """The last answer of the conversation, or each, with what was said before as the prompt."""
    answers = [i for i, each in enumerate(messages) if each["role"] == "assistant"]
    if not answers:
        raise Skip(NO_ANSWER)
    for i in answers if reading.each_answer else answers[-1:]:
        if weights[i] is not None and number(weights[i], "weight") == 0:
            yield Skip(WEIGHT_0)
        elif not i or messages[i - 1]["role"] != "user":
            yield Skip("its answer follows no message of the user")
        elif not all(each["content"].strip() for each in messages[: i + 1]):
            yield Skip(NO_TEXT)
        else:
            yield {"prompt": messages[:i], "completion": messages[i]["content"], **about}


def thumb(messages: Messages, label: Any, about: Raw) -> Raw:
    """A judgement on the last turn."""
    return {"prompt": messages[:-1], "completion": messages[-1:], "label": label, **about}


def preference(prompt: Messages, chosen: Messages, rejected: Messages, about: Raw) -> Raw:
    """Two conversations that are one but for their last turn, after a prompt that they may, or may
    not, begin with."""
    if not chosen or not rejected:
        raise Skip(NO_ANSWER)
    before = chosen[:-1]
    if before != rejected[:-1]:
        raise Skip(PARTS_EARLIER)
    if prompt and before[: len(prompt)] != prompt:
        system = [each for each in before if each["role"] == "system"]
        before = before if before == [*system, *prompt] else prompt + before
    better, worse = chosen[-1], rejected[-1]
    if not better["role"] == worse["role"] == "assistant":
        raise Skip("a conversation does not end with an answer")
    if not all(each["content"].strip() for each in before):
        raise Skip(NO_TEXT)
    if better["content"].strip() == worse["content"].strip():
        raise Skip(ALIKE)
    texts = {"chosen": better["content"], "rejected": worse["content"]}
    return {"prompt": before, **texts, **about}
