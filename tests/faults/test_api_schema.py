"""Whatever the schema of the API describes, and much that it does not, sent with tokens of each
role: no call ends in a 5xx, and every answer is one that the schema has."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.specs.openapi import checks

from annotate.chat.feedback import Feedback
from annotate.labelling.queue import next_assignment
from annotate.models import Conversation, Message
from tests.annotate.answering import write
from tests.faults.conftest import SEED, sized
from tests.test_api_matrix import CALLERS, NEEDS, OPERATIONS, QUERIES, as_named, world

__all__ = ["world"]

CASES = sized(short=150, long=20_000)
SITE = "http://testserver"
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
HI = [{"role": "user", "content": "Hi"}]
LOGGED = {"external_id": "a1", "model": "gpt", "messages": HI, "answer": "Ho", "user": "cook"}
# operation → what is sent, where tests/test_api_matrix.py has none.
SEEDS: dict[str, Any] = {
    "list_models": None,
    "retrieve_model": None,
    "chat_completions": {"model": "live", "messages": HI},
    "create_response": {"model": "live", "input": "Hi"},
    "completions": {"model": "live", "prompt": "Once"},
    "give_feedback": {"completion_id": "answer", "thumb": "up"},
    "give_preference": {
        "completion_id": "answer", "other_completion_id": "other", "verdict": "better"
    },
    "log_answers": {"answers": [LOGGED]},
    "forget_end_user": None,
    "revise_label": {"text": "Nine minutes."},
    "launch_round": {"base": "base_id", "stages": ["sft"], "recipe": "tiny", "dry_run": True},
}  # fmt: skip


@dataclass
class Seen:
    """What came of the calls."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    findings: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, operation: str, case: Any, reply: Response) -> None:
        self.statuses[operation, reply.status_code] += 1
        try:
            case.validate_response(reply, checks=CHECKS)
        except Failure as failure:
            self._keep(operation, [failure], case)
        except BaseExceptionGroup as failures:
            self._keep(operation, failures.exceptions, case)

    def _keep(self, operation: str, failures: Any, case: Any) -> None:
        for each in failures:
            said = f"{each}\n{case.method} {case.formatted_path} {case.query} {case.body!r}"
            self.findings.setdefault((operation, type(each).__name__), said[:1500])


@pytest.fixture
def sent(world: SimpleNamespace, olga: Any, alice: Any, write_task: Any) -> SimpleNamespace:
    """The world, with what the operations of SEEDS name."""
    asked = Conversation.of_api_call(project=world.project, user=olga, messages=HI)
    other = Conversation.of_api_call(project=world.project, user=olga, messages=HI)
    for answer in (asked, other):
        Message.objects.filter(pk=answer.pk).update(state="done", text="Ho")
    Feedback.give(message=asked, user=olga, thumb_up=True)
    world.named |= {"answer": str(asked.public_id), "other": str(other.public_id)}
    world.answered = {"assignment_id": write(alice, world.project).assignment_id}
    held = next_assignment(alice, world.project, only="write")
    weights = world.project.policies.create(name="weights", folder="models/base", origin="base")
    world.named |= {"assignment_id": held.pk, "base_id": weights.pk}
    return world


def every_operation() -> dict[str, Any]:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    load_all_checks()
    found = (each.ok() for each in schemathesis.openapi.from_dict(schema).get_all_operations())
    return {each.definition.raw["operationId"]: each for each in found}


def named_in(world: SimpleNamespace, operation: str, path: str) -> dict[str, Any]:
    own = {"retrieve_model": {"name": "live"}, "forget_end_user": {"name": "cook"}}
    own["revise_label"] = world.answered
    return world.named | (world.reviews if "/reviews/" in path else {}) | own.get(operation, {})


def aim(case: Any, world: SimpleNamespace, operation: str, keep: list[str] | None) -> None:
    """Makes a case one that is about something there is: what its address names, its version, and
    of its body all but the fields to `keep`. None: all of it stays as chance has made it."""
    if keep is None:
        return
    named = named_in(world, operation, case.operation.path)
    case.path_parameters = {k: named.get(k, v) for k, v in (case.path_parameters or {}).items()}
    case.headers = {**(case.headers or {}), "If-Match": "*"}
    seed = {**{name: body for name, (_, body) in OPERATIONS.items()}, **SEEDS}[operation]
    if isinstance(seed, dict):
        made = case.body if isinstance(case.body, dict) else {}
        changed = {name: value for name, value in made.items() if name in keep}
        case.body = {**as_named(seed, named), **changed}
        case.media_type = "application/json"
    if not keep:
        case.query = QUERIES.get(operation, {})


def call(case: Any, world: SimpleNamespace, caller: str, operation: str) -> Response:
    """Sends it; what it changed is taken back."""
    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {world.tokens[caller]}"}
    asked = requests.Request(**case.as_transport_kwargs(base_url=SITE)).prepare()
    kind = asked.headers.pop("Content-Type", "")
    with transaction.atomic():
        if operation in NEEDS:
            world.project.runs.update(state=NEEDS[operation])
        answer = Client(raise_request_exception=False).generic(
            asked.method or "", asked.path_url, asked.body or b"", kind or "", headers=asked.headers
        )
        content = whole(answer) if answer.streaming else answer.content
        connection.check_constraints()
        transaction.set_rollback(True)
    headers = {name.lower(): [value] for name, value in answer.headers.items()}
    return Response(answer.status_code, headers, content, asked, elapsed=0, verify=False)


def whole(answer: Any) -> bytes:
    async def collect() -> bytes:
        return b"".join([block async for block in answer.streaming_content])

    return async_to_sync(collect)() if answer.is_async else b"".join(answer)


@pytest.mark.timeout(sized(short=600, long=3600))
def test_no_call_fails_and_every_answer_is_described(sent, report):
    logging.disable(logging.CRITICAL)
    operations, seen = every_operation(), Seen()
    assert set(operations) == {*OPERATIONS, *SEEDS}
    for name, operation in operations.items():
        explore(sent, name, operation, seen, CASES // len(operations) + 2)
    reached = {name for name, status in seen.statuses if status < 300}
    by_status = Counter[int]()
    for (_, status), count in seen.statuses.items():
        by_status[status] += count
    report(
        cases=seen.statuses.total(),
        operations=len(operations),
        reached=len(reached),
        statuses=dict(sorted(by_status.items())),
    )
    logging.disable(logging.NOTSET)
    assert not seen.findings, "\n\n".join(f"{k}: {v}" for k, v in seen.findings.items())
    missed = set(operations) - reached
    assert not missed, [each for each in seen.statuses if each[0] in missed]


def explore(sent: Any, name: str, operation: Any, seen: Seen, count: int) -> None:
    """So many cases of an operation; the first is one that is answered."""
    callers = cycle(CALLERS)
    fields = st.sets(st.sampled_from(sorted(fields_of(operation))), max_size=2)
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]

    def one(case: Any, keep: list[str] | None) -> None:
        caller = "alice" if "label" in name or "assignment" in name else "olga"
        caller = "rita" if name in ("retrieve_review", "decide_review", "skip_review") else caller
        if name in seen_first:
            caller = next(callers)
        else:
            seen_first.add(name)
            keep = []
        aim(case, sent, name, keep)
        seen.add(name, case, call(case, sent, caller, name))

    seen_first: set[str] = set()
    for mode in modes:
        chosen = st.none() | fields.map(sorted)
        try:
            strategy = operation.as_strategy(generation_mode=mode)
            test = hypothesis.given(strategy, chosen)(one)
            test = hypothesis.seed(SEED)(test)
            hypothesis.settings(
                max_examples=max(count // 2, 1),
                phases=[Phase.generate],
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )(test)()
        except hypothesis.errors.Unsatisfiable:
            continue  # nothing can be wrong about what takes nothing


def fields_of(operation: Any) -> set[str]:
    seed = {**{name: body for name, (_, body) in OPERATIONS.items()}, **SEEDS}
    name = operation.definition.raw["operationId"]
    described = (
        {key for body in operation.body for key in body.optimized_schema.get("properties", {})}
        if operation.body
        else set()
    )
    return described | set(seed[name] or {}) | {""}
