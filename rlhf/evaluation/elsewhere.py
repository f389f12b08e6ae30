"""Answers that come from model servers instead of weights: a worker asks for them, one by one.

Every answer is written down as it comes; a later attempt of the run asks for the others only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from annotate.chat import inference
from annotate.chat.inference import Delta, InferenceError
from annotate.costs.uses import Use
from annotate.documents.consulting import consulted
from annotate.models import Policy
from annotate.prompts.models import Messages
from feedback_site.pool import release_connections
from rlhf.data.snapshot import Rows
from rlhf.models.leases import Lease

QUESTIONS, ANSWERS = "questions_elsewhere.jsonl", "completions_elsewhere.jsonl"
# What passes by itself, and how often and how many seconds later it is tried again.
PASSING = (inference.BUSY, inference.NOT_ANSWERING, inference.TOO_SLOW, inference.BROKE_OFF)
PAUSES = (5.0, 15.0, 45.0)

Row = dict[str, Any]


class NoAnswers(Exception):
    """A server does not answer, or nothing of what it is asked; the message says what to do."""


def tell(
    lease: Lease,
    policies: list[Policy],
    rows: Rows,
    *,
    temperature: float | None,
    own_lengths: bool,
) -> None:
    """Writes down what is to be asked of the policies that have no weights here."""
    told = lease.run.config["train"]
    read = {
        (policy.pk, row["id"]): consulted(policy, row["prompt"])
        for policy in policies
        for row in rows
    }
    questions = (
        {
            "policy": policy.name,
            "policy_id": policy.pk,
            "id": row["id"],
            "index": index,
            "messages": policy.messages_for(row["prompt"], read[policy.pk, row["id"]]),
            "prompt": row["prompt"],
            "then": row.get("then", []),
            "passages": read[policy.pk, row["id"]],
            "seed": lease.run.seed + index,
            "temperature": policy.temperature if temperature is None else temperature,
            "max_new_tokens": policy.max_new_tokens if own_lengths else told["max_new_tokens"],
        }
        for policy in policies
        for row in rows
        for index in range(told["k"])
    )
    _write(lease.path / QUESTIONS, questions)


def ask(lease: Lease, *, is_over: Callable[[], bool]) -> bool:
    """Asks what no attempt has an answer to. Returns False where `is_over` came first. Raises
    NoAnswers where a server does not answer."""
    answers = list(rows_in(lease.path / ANSWERS))
    _write(lease.path / ANSWERS, answers)  # without the half line of a process that died
    known = {_place(each) for each in answers}
    asked = [each for each in rows_in(lease.path / QUESTIONS) if _place(each) not in known]
    by_policy: dict[int, list[Row]] = {}
    for question in asked:
        by_policy.setdefault(question["policy_id"], []).append(question)
    heard = {each["policy"] for each in answers}
    policies = Policy.objects.select_related("connection").in_bulk(by_policy)
    for pk, questions in by_policy.items():
        policy = policies[pk]
        refused = _Asking(policy, lease, is_over).all_of(questions)
        if is_over():
            return False
        if refused == len(questions) and policy.name not in heard:
            raise NoAnswers(f"{policy}: the server refuses every prompt of this run.")
    return True


@dataclass
class _Asking:
    """The questions to one policy, as many at once as its connection allows."""

    policy: Policy
    lease: Lease
    is_over: Callable[[], bool]
    stop: Event = field(default_factory=Event)

    def all_of(self, questions: list[Row]) -> int:
        """Writes the answers down. Returns how many questions the server refused."""
        at_once = self.policy.connection.parallel if self.policy.connection else 1
        refused = 0
        with ThreadPoolExecutor(at_once) as pool, (self.lease.path / ANSWERS).open("a") as file:
            try:
                for question, said in zip(questions, pool.map(self._one, questions), strict=True):
                    if self.is_over():
                        break
                    if said is None:
                        refused += 1
                        continue
                    file.write(_line(_answer(self.policy, question, said)))
                    file.flush()
            except InferenceError as error:
                raise NoAnswers(f"{self.policy}: {error} Resume the run to continue.") from error
            finally:
                self.stop.set()
                pool.shutdown(cancel_futures=True)
        return refused

    def _one(self, question: Row) -> Delta | None:
        """The last answer of a conversation. None: the server refuses this for what it is."""
        talk = list(question.get("prompt", []))
        said = self._said(question, question["messages"])
        for turn in question.get("then", []):
            if said is None:
                break
            talk += [
                {"role": "assistant", "content": said.text},
                {"role": "user", "content": turn},
            ]
            said = self._said(question, self.policy.messages_for(talk))
        return said

    def _said(self, question: Row, messages: Messages) -> Delta | None:
        for pause in (*PAUSES, None):
            if self.stop.is_set() or self.is_over():
                return None
            try:
                return inference.complete(
                    self.policy,
                    messages,
                    use=Use.SAMPLING,
                    run=self.lease.run.pk,
                    temperature=question["temperature"],
                    max_tokens=question["max_new_tokens"],
                    seed=question["seed"],
                )
            except InferenceError as error:
                if str(error) in (inference.FAILED, inference.TOO_LONG):
                    return None
                if pause is None or str(error) not in PASSING:
                    raise
            finally:
                release_connections()
            self.stop.wait(pause)
        raise AssertionError("the last try returns or raises")


def rows_in(file: Path) -> Iterator[Row]:
    """Reads rows, up to the first that is not whole; none where there is no file."""
    if not file.exists():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                return


def _answer(policy: Policy, question: Row, said: Delta) -> Row:
    names = ("policy", "id", "index", "seed", "temperature", "max_new_tokens")
    return {
        **{name: question[name] for name in names},
        "passages": question.get("passages", []),
        "text": said.text,
        "finish_reason": said.finish_reason[:20],
        "provider": policy.provider,
        "model": policy.model_name,
    }


def _place(row: Row) -> tuple[str, str, int]:
    return row["policy"], str(row["id"]), row["index"]


def _write(file: Path, rows: Iterator[Row] | list[Row]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(map(_line, rows))


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
