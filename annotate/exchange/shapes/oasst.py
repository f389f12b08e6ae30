"""OpenAssistant's trees, a tree a line or a message a line: answers to the same message that were
ranked are a ranking, and the path of the best ones is a demonstration
(https://github.com/LAION-AI/Open-Assistant, docs/data-schemas)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes.shape import Raw, Reading, Shape, Skip, listed, ranking
from annotate.exchange.values import short
from annotate.prompts.models import Messages

ROLE = {"prompter": "user", "assistant": "assistant", "system": "system"}
MOST = 9
OF_MESSAGE = frozenset(
    ("message_id", "parent_id", "text", "role", "rank", "user_id", "deleted", "review_result")
)


def _is_tree(row: Raw) -> bool:
    if {"text", "role", "replies"} <= row.keys():
        return True
    prompt = listed(row.get("prompt"))
    return (
        isinstance(prompt, dict) and "text" in prompt and ("replies" in prompt or "role" in prompt)
    )


def _read_tree(row: Raw, reading: Reading) -> Iterator[Raw | Skip]:
    """The first message is in “prompt”, or is the row itself."""
    yield from _read_root(listed(row["prompt"]) if "prompt" in row else row, reading)


def _read_root(root: Any, reading: Reading) -> Iterator[Raw | Skip]:
    if not isinstance(root, dict):
        raise BadRow(f"A tree has its first message in “prompt”, not {short(root)}.")
    if _is_out(root):
        raise Skip("its first message was deleted or failed review")
    found = list(_below(root, [], is_best=True, reading=reading))
    if not found:
        raise Skip("a tree without answers")
    yield from found


def _below(node: Raw, before: Messages, *, is_best: bool, reading: Reading) -> Iterator[Raw | Skip]:
    role, said = ROLE.get(str(node.get("role"))), node.get("text")
    if role is None or not isinstance(said, str) or not said.strip():
        raise BadRow("A message of a tree must have a role, prompter or assistant, and a text.")
    path = [*before, {"role": role, "content": said}]
    given = node.get("replies") or []
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise BadRow("“replies” must be a list of messages.")
    replies = []
    for each in given:
        if _is_out(each):
            yield Skip("a message was deleted or failed review")
        else:
            replies.append(each)
    if role == "user":
        yield from _ranked(path, replies)
    elif is_best and (reading.each_answer or not _is_continued(replies)):
        yield {"prompt": before, "completion": said, "labeler": str(node.get("user_id") or "")}
    for each in replies:
        yield from _below(each, path, is_best=is_best and not each.get("rank"), reading=reading)


def _is_out(message: Raw) -> bool:
    return bool(message.get("deleted")) or message.get("review_result") is False


def _is_continued(replies: list[Raw]) -> bool:
    """Whether an answer comes further down the path of the best."""
    return any(
        isinstance(answer, dict) and not _is_out(answer)
        for each in replies
        if not each.get("rank")
        for answer in each.get("replies") or []
    )


def _ranked(path: Messages, replies: list[Raw]) -> Iterator[Raw | Skip]:
    ranked = [each for each in replies if each.get("rank") is not None]
    if len(ranked) < 2:
        return
    if len(ranked) > MOST:
        yield Skip(f"more than {MOST} answers are ranked")
        return
    try:
        yield ranking(
            path, [each.get("text") for each in ranked], [each["rank"] for each in ranked]
        )
    except Skip as skip:
        yield skip


TREES = Shape(
    name="oasst",
    label="OpenAssistant trees",
    recognises=_is_tree,
    read=_read_tree,
    reads=frozenset(("prompt", "message_tree_id", "tree_state", "replies")) | OF_MESSAGE,
    implied=frozenset(("labels",)),
)


def _is_message(row: Raw) -> bool:
    return {"message_id", "parent_id", "message_tree_id", "text", "role"} <= row.keys()


def _read_messages(row: Raw, reading: Reading) -> Iterator[Raw | Skip]:
    messages = {}
    for each in row["message_tree_id"]:
        if not isinstance(each, dict):
            raise BadRow("A message is an object.")
        messages[str(each.get("message_id"))] = {**each, "replies": []}
    roots = []
    for each in messages.values():
        above = messages.get(str(each.get("parent_id")))
        if above is not None and above is not each:
            above["replies"].append(each)
        elif each.get("parent_id") in (None, ""):
            roots.append(each)
        else:
            yield Skip("the message above it is not beside it in the file")
    for root in roots:
        yield from _read_root(root, reading)


MESSAGES = Shape(
    name="oasst_messages",
    label="OpenAssistant messages, a tree in succession",
    recognises=_is_message,
    read=_read_messages,
    together="message_tree_id",
    reads=frozenset(("message_tree_id", "tree_state")) | OF_MESSAGE,
    implied=frozenset(("labels",)),
)
