"""Our own rows: the names of Hugging Face's TRL, as `parsing` lists them. Messages may carry what
OpenAI's do: names, weights, parts; a conversation may be judged as a whole (KTO) or come twice
(UltraFeedback)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.parsing import kind_of
from annotate.exchange.shapes.shape import ABOUT, Raw, Reading, Shape, Skip, listed, number
from annotate.exchange.turns import (
    demonstrations,
    is_conversation,
    is_plain,
    preference,
    thumb,
    turns_of,
)
from annotate.exchange.winners import ranked

SCORES = ("score_chosen", "score_rejected")
AS_IT_STANDS = "(leave the scores out to import the pair as it stands)"
CONVERSATIONS = ("prompt", "completion", "chosen", "rejected", "reference")


def _is_ours(row: Raw) -> bool:
    try:
        kind_of(row)
    except BadRow:
        return "winner" in row and "completions" in row
    return True


def _read(row: Raw, reading: Reading) -> Iterator[Any]:
    if all(row.get(name) not in (None, "") for name in SCORES):
        _agree(*(number(row[name], name) for name in SCORES))
    row = _tidied(row, reading)
    if "winner" in row or "winner_from_0" in row:
        row = ranked(row)
    if row.get("system"):
        row = _with_system(row)
    if "messages" in row and "prompt" not in row:
        yield from _of_messages(row, reading)
    elif _begins_with_its_prompt(row):
        yield _of_two(row, reading)
    else:
        yield row


def _agree(chosen: float, rejected: float) -> None:
    """Raises Skip where the scores of a pair do not say which answer is better, or the opposite."""
    if chosen == rejected:
        raise Skip(f"both answers have the same score {AS_IT_STANDS}")
    if chosen < rejected:
        raise Skip(f"the rejected answer has the higher score {AS_IT_STANDS}")


def _tidied(row: Raw, reading: Reading) -> Raw:
    """With messages of nothing but role and content."""
    odd = {
        name: turns_of(row[name], reading)[0]
        for name in CONVERSATIONS
        if isinstance(row.get(name), list)
        and not is_plain(row[name])
        and is_conversation(row[name])
    }
    return row | odd if odd else row


def _with_system(row: Raw) -> Raw:
    row = dict(row)
    system = [{"role": "system", "content": row.pop("system")}]
    name = "prompt" if "prompt" in row else "messages"
    said = row.get(name)
    if isinstance(said, str):
        said = [{"role": "user", "content": said}]
    if isinstance(said, list):
        row[name] = system + said
    return row


def _of_messages(row: Raw, reading: Reading) -> Iterator[Any]:
    if not is_conversation(row["messages"]):
        yield row
        return
    messages, weights = turns_of(row["messages"], reading)
    about = {name: value for name, value in row.items() if name not in ("messages", "label")}
    if not messages or messages[-1]["role"] != "assistant":
        yield row | {"messages": messages}
    elif "label" in row:
        yield thumb(messages, row["label"], about)
    else:
        yield from demonstrations(messages, weights, reading, about)


def _begins_with_its_prompt(row: Raw) -> bool:
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        return False
    return "prompt" not in row or len(chosen) > 1 or len(rejected) > 1


def _of_two(row: Raw, reading: Reading) -> Raw:
    prompt = row.get("prompt") or []
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    chosen, rejected = (turns_of(row[name], reading)[0] for name in ("chosen", "rejected"))
    about = {name: value for name, value in row.items() if name not in ("chosen", "rejected")}
    about.pop("prompt", None)
    if about.get("messages") == chosen or is_conversation(listed(about.get("messages"))):
        about.pop("messages")  # of UltraFeedback: the chosen one once more
    return preference(prompt, chosen, rejected, about)


SHAPE = Shape(
    name="ours",
    label="rows in our own format, with the field names of TRL",
    recognises=_is_ours,
    read=_read,
    reads=ABOUT,
    implied=frozenset(("score_chosen", "score_rejected", "ranking", "agreement", "labelers")),
)
