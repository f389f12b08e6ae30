"""Chatbot Arena: two models' conversations, or their answers to one prompt, and the winner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.shapes.shape import (
    ABOUT,
    Raw,
    Reading,
    Shape,
    Skip,
    about,
    has,
    listed,
    ranking,
    text,
    truth,
)
from annotate.exchange.turns import NO_ANSWER, PARTS_EARLIER, is_conversation, turns_of
from annotate.exchange.winners import ranked
from annotate.prompts.models import Messages

WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")  # of the table on Kaggle


def _recognises(row: Raw) -> bool:
    is_told = "winner" in row or has(row, *WINNERS)
    return is_told and (
        has(row, "conversation_a", "conversation_b") or has(row, "response_a", "response_b")
    )


def _read(row: Raw, reading: Reading) -> Iterator[Raw]:
    a, b = _sides(row, reading)
    if not a or not b or a[-1]["role"] != "assistant" or b[-1]["role"] != "assistant":
        raise Skip(NO_ANSWER)
    if a[:-1] != b[:-1]:
        raise Skip(PARTS_EARLIER)
    policies = [text(row, "model_a") or "model_a", text(row, "model_b") or "model_b"]
    judge = str(row.get("judge") or "")
    by: Raw = {"labeler": judge} if judge else {}
    if judge.lower().startswith("gpt"):
        by["simulated"] = True
    known = ranked({"completions": [0, 1], "winner": _winner(row)})
    yield ranking(
        a[:-1],
        [a[-1]["content"], b[-1]["content"]],
        known["ranks"],
        policies=policies,
        outcome=known.get("outcome", "ranked"),
        **(by | about(row)),
    )


def _winner(row: Raw) -> Any:
    if "winner" in row:
        return row["winner"]
    for name, winner in zip(WINNERS, ("model_a", "model_b", "tie"), strict=True):
        if truth(row.get(name), name):
            return winner
    raise BadRow("Neither of the two won, and it is not a tie.")


def _sides(row: Raw, reading: Reading) -> tuple[Messages, Messages]:
    if row.get("conversation_a") is not None:
        return turns_of(row["conversation_a"], reading)[0], turns_of(
            row.get("conversation_b"), reading
        )[0]
    asked, a, b = (listed(row.get(name)) for name in ("prompt", "response_a", "response_b"))
    if is_conversation(asked):
        asked = turns_of(asked, reading)[0]
        return [*asked, _answer(a)], [*asked, _answer(b)]
    if isinstance(asked, list) and isinstance(a, list) and isinstance(b, list):
        return _woven(asked, a), _woven(asked, b)
    asked = [{"role": "user", "content": text(row, "prompt")}]
    return [*asked, _answer(a)], [*asked, _answer(b)]


def _woven(asked: list[Any], answers: list[Any]) -> Messages:
    """Turn by turn, as Kaggle's table has them: questions in one list, answers in another."""
    turns: Messages = []
    for question, answer in zip(asked, answers, strict=False):
        turns += [{"role": "user", "content": str(question or "")}, _answer(answer or "")]
    return turns


def _answer(said: Any) -> dict[str, str]:
    if not isinstance(said, str):
        raise BadRow("A response must be a text.")
    return {"role": "assistant", "content": said}


SHAPE = Shape(
    name="arena",
    label="Chatbot Arena: two models and a winner",
    recognises=_recognises,
    read=_read,
    reads=ABOUT
    | {
        "conversation_a",
        "conversation_b",
        "response_a",
        "response_b",
        "prompt",
        "model_a",
        "model_b",
    }
    | {"judge", "winner", *WINNERS},
)
