"""Every operation of the API × who calls it, with a token of every scope: the roles of the pages
hold here too. An operation that nobody has classified fails."""

from __future__ import annotations

import io
import json
from functools import cache, partial
from itertools import product
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import transaction
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from annotate.documents.models import Document
from annotate.labelling.queue import next_assignment
from annotate.models import ApiToken, Judge, Policy, Upload
from rlhf.models import Round, Run
from rlhf.models.built_in_suites import BUILT_IN
from rlhf.registry.promotion import promote
from tests.annotate.answering import write

TEXT = {"messages": [{"role": "user", "content": "How do I boil an egg?"}]}
LABELER = {"alice", "rita", "olga"}
REVIEWER = {"rita", "olga"}
OPERATOR = {"olga"}
EVERYBODY = {"gus", "alice", "rita", "olga"}
CALLERS = ("gus", "alice", "rita", "olga", "mallory")
JUDGE = {"name": "Strict", "policy": "policy_id", "rubric": "Short is good.", "form": "pair"}

# operation → (who gets a 2xx, what is sent). `own`: an assignment of the caller's.
Case = tuple[set[str], Any]
OPERATIONS: dict[str, Case] = {
    "list_prompts": (OPERATOR, None),
    "create_prompt": (OPERATOR, TEXT),
    "retrieve_prompt": (OPERATOR, None),
    "change_prompt": (OPERATOR, {"add_tags": ["soup"]}),
    "list_completions": (OPERATOR, None),
    "create_completion": (OPERATOR, {"prompt": "prompt_id", "policy": "m", "text": "Eight."}),
    "open_tasks": (OPERATOR, {"kind": "write"}),
    "list_batches": (OPERATOR, None),
    "list_assignments": (LABELER, None),
    "next_assignment": (LABELER, {}),
    "retrieve_assignment": ({"alice"}, None),
    "submit_label": ({"alice"}, {"text": "Eight minutes."}),
    "skip_assignment": ({"alice"}, {"reason": "unclear"}),
    "list_labels": (LABELER, None),
    "list_imports": (OPERATOR, None),
    "create_import": (OPERATOR, {"text": '{"prompt": "Hi", "completion": "Ho"}'}),
    "retrieve_import": (OPERATOR, None),
    "discard_import": (OPERATOR, None),
    "run_import": (OPERATOR, {"dry_run": True}),
    "export": (OPERATOR, None),
    "list_policies": (EVERYBODY, None),
    "list_measures": ({"rita", "olga"}, None),
    "list_rounds": (OPERATOR, None),
    "retrieve_round": (OPERATOR, None),
    "cancel_round": (OPERATOR, {}),
    "resume_round": (OPERATOR, {}),
    "prioritise_round": (OPERATOR, {}),
    "list_runs": (OPERATOR, None),
    "retrieve_run": (OPERATOR, None),
    "list_metrics": (OPERATOR, None),
    "cancel_run": (OPERATOR, {}),
    "resume_run": (OPERATOR, {}),
    "retrieve_gate": (OPERATOR, None),
    "promote_policy": (OPERATOR, {"reason": "Good.", "override": "I say so."}),
    "challenge_with_policy": (OPERATOR, {"reason": "Good."}),
    "reject_policy": (OPERATOR, {"reason": "Bad."}),
    "roll_back": (OPERATOR, {"reason": "Oh no."}),
    "list_promotions": (OPERATOR, None),
    "retrieve_evaluations": (OPERATOR, None),
    "list_documents": (OPERATOR, None),
    "add_documents": (OPERATOR, {"name": "tea.txt", "text": "Tea is a drink."}),
    "delete_documents": (OPERATOR, None),
    "retrieve_document": (OPERATOR, None),
    "search_passages": (OPERATOR, None),
    "list_reviews": (REVIEWER, None),
    "next_review": ({"rita", "olga"}, {}),
    "retrieve_review": ({"rita"}, None),
    "decide_review": ({"rita"}, {"verdict": "accept", "cause": "subjective", "score": 6}),
    "skip_review": ({"rita"}, {}),
    "list_talks": (OPERATOR, None),
    "open_talks": (OPERATOR, {"first": "policy_id", "goal": "Plan a dinner", "count": 2}),
    "list_judges": (OPERATOR, None),
    "add_judge": (OPERATOR, JUDGE),
    "retrieve_judge": (OPERATOR, None),
    "give_tasks_to_judge": (OPERATOR, {"scope": "open", "budget": 5}),
    "stop_judge": (OPERATOR, {}),
    "resume_judge": (OPERATOR, {}),
    "withdraw_judge": (OPERATOR, {}),
    "list_suites": (OPERATOR, None),
    "create_suite": (OPERATOR, {"name": "Mine", "lines": "Why? => words 3"}),
    "retrieve_suite": (OPERATOR, None),
    "change_suite": (OPERATOR, {"lines": "Why? => words 3"}),
    "list_suite_results": (OPERATOR, None),
    "evaluate_policies": (OPERATOR, {"policies": ["policy_id"]}),
    "retrieve_gate_limits": (OPERATOR, None),
    "change_gate_limits": (OPERATOR, {"kl": 9, "length": 2, "prompts": 30, "harm": 5}),
}
# What mallory gets who names nothing of others: her project has nothing to go back to, and the
# policies that she names are none of it.
HERS = {"roll_back": 409, "open_talks": 400, "add_judge": 400, "evaluate_policies": 400}
QUERIES = {"delete_documents": {"source": "egg.txt"}, "search_passages": {"q": "egg"}}
NEEDS = {  # operation → the state that the run must be in
    "resume_round": Run.State.FAILED,
    "resume_run": Run.State.FAILED,
}
# Their tests: tests/annotate/test_api.py, test_gateway*.py, test_rest.py, tests/rlhf/test_rest.py.
ELSEWHERE = {
    *("list_models", "retrieve_model", "chat_completions", "give_feedback"),
    *("log_answers", "forget_end_user", "revise_label", "launch_round"),
    *("give_preference", "create_response", "completions"),
}
OF_THEIR_OWN_PROJECT = {  # lists and makings that name nothing: mallory's are of her project
    *("list_prompts", "create_prompt", "list_completions", "open_tasks", "list_assignments"),
    *("list_labels", "list_imports", "create_import", "export", "list_policies"),
    *(
        "next_assignment",
        "list_measures",
        "list_batches",
        "list_rounds",
        "list_runs",
        "list_promotions",
        "retrieve_evaluations",
    ),
    *("list_documents", "add_documents", "search_passages", "list_reviews", "next_review"),
    *("list_talks", "list_judges", "list_suites", "create_suite", "list_suite_results"),
    *("retrieve_gate_limits", "change_gate_limits", "retrieve_suite", "change_suite"),
}


@cache
def operations() -> dict[str, tuple[str, str]]:
    """Operation → (method, address), as the schema has them."""
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    return {
        each["operationId"]: (method, address)
        for address, methods in paths.items()
        for method, each in methods.items()
    }


@pytest.fixture
def world(request, project, bob, write_task, rank_task, policy, model_server) -> SimpleNamespace:
    cast = {name: request.getfixturevalue(name) for name in CALLERS}
    round = Round.objects.create(
        project=project, number=1, recipe="tiny", base=policy, launched_by=cast["olga"]
    )
    other = Round.objects.create(
        project=project, number=2, recipe="tiny", base=policy, launched_by=cast["olga"]
    )
    new = partial(Run.objects.create, project=project, kind=Run.Kind.SFT)
    new(round=other, position=0, priority=5)
    run = new(round=round, position=0, config={"train": {}, "tune": {}})
    for name in ("first", "second"):
        made = project.policies.create(
            name=name, origin=Policy.Origin.PROMPTED, endpoint=model_server.url, model_name="m"
        )
        promote(made, by=cast["olga"], reason="Better.", override="A test.")
    policy.endpoint, policy.model_name = model_server.url, "m"
    policy.save()
    Document.add(project, ["Boil an egg for eight minutes."], source="egg.txt")
    judge = Judge.objects.create(
        project=project, name="Kind", policy=policy, rubric="Short.", author=cast["olga"]
    )
    rank_task()
    answered = write(bob, project, write_task())
    answered.assignment.task.ask_for_review({"sampled"})
    review = next_assignment(cast["rita"], project, only="review")
    write(bob, project, write_task()).assignment.task.ask_for_review({"sampled"})
    task = write_task()
    own = next_assignment(cast["alice"], project, only="write")
    write_task()
    line = io.BytesIO(b'{"prompt": "Which?", "completion": "This."}')
    upload = Upload.keep(
        project=project, by=cast["olga"], file=line, name="x.jsonl", format="jsonl"
    )
    cast["mallory"].memberships.get().project.publish_guideline(text="Be kind.", author=None)
    named = {
        "prompt_id": task.prompt_id,
        "assignment_id": own.pk,
        "upload_id": upload.pk,
        "kind": "demonstrations",
        "number": round.number,
        "run_id": run.pk,
        "policy_id": policy.pk,
        "document_id": Document.objects.get().pk,
        "judge_id": judge.pk,
        "name": next(iter(BUILT_IN)),
    }
    of_reviews = {"assignment_id": review.pk}
    tokens = {
        name: ApiToken.issue(
            project=person.memberships.get().project, user=person, scopes=ApiToken.Scope.values
        )[1]
        for name, person in cast.items()
    }
    return SimpleNamespace(named=named, reviews=of_reviews, tokens=tokens, project=project)


def as_named(value: Any, named: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: as_named(each, named) for key, each in value.items()}
    if isinstance(value, list):
        return [as_named(each, named) for each in value]
    return named.get(value, value) if isinstance(value, str) else value


def call(world: SimpleNamespace, caller: str, operation: str, body: Any) -> Any:
    method, address = operations()[operation]
    named = world.named | (world.reviews if "/reviews/" in address else {})
    sent = as_named(body or {}, named)
    query = urlencode(QUERIES.get(operation, {}))
    with transaction.atomic():
        Run.objects.update(state=NEEDS.get(operation, Run.State.QUEUED))
        reply = Client().generic(
            method.upper(),
            address.format(**{k: quote(str(v)) for k, v in named.items()}) + f"?{query}",
            json.dumps(sent) if body is not None else "",
            content_type="application/json",
            headers={"Authorization": f"Bearer {world.tokens[caller]}", "If-Match": "*"},
        )
        transaction.set_rollback(True)
    return reply


def test_every_operation_of_the_schema_is_classified():
    assert set(operations()) == {*OPERATIONS, *ELSEWHERE}


def expected(caller: str, operation: str) -> set[int]:
    served, _ = OPERATIONS[operation]
    if caller in served or (caller == "mallory" and operation in OF_THEIR_OWN_PROJECT):
        return set(range(200, 300))
    if caller == "mallory":
        return {HERS.get(operation, 404)}
    return {403, 404}


def test_each_operation_answers_each_caller_as_the_pages_would(world, subtests):
    for (operation, (_, body)), caller in product(OPERATIONS.items(), CALLERS):
        with subtests.test(operation, caller=caller):
            status = call(world, caller, operation, body).status_code
            assert status in expected(caller, operation)


def test_a_token_without_the_scope_is_refused(world, olga, subtests):
    scopes = ["chat", "feedback", "log"]
    world.tokens["olga"] = ApiToken.issue(project=world.project, user=olga, scopes=scopes)[1]
    for operation, (_, body) in OPERATIONS.items():
        with subtests.test(operation):
            reply = call(world, "olga", operation, body)
            assert reply.status_code == 403
            assert set(reply.json()) == {"detail", "code", "fields"}
            assert reply.json()["code"] == "insufficient_scope"
