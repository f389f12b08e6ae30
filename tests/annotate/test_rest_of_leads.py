"""Documents, reviews, talks and judges over the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotate.documents.models import Document
from annotate.models import Policy, Project, Review, Task, User
from tests.annotate.answering import rank, write
from tests.model_server import ModelServer
from tests.rest import Api

BOOK = {"name": "eggs.txt", "text": "The mill was built in 1764. Eggs were sold there."}


def test_a_document_comes_in_is_found_and_goes(olga: User) -> None:
    api = Api(olga)
    made = api("POST", "documents", BOOK, Idempotency_Key="a")
    assert (made.status_code, made.json()) == (201, {"new": 1, "superseded": 0})
    assert api("POST", "documents", BOOK, Idempotency_Key="a").json() == made.json()
    assert api("POST", "documents", {**BOOK, "text": "Another."}).json()["superseded"] == 1
    [row] = api("GET", "documents?source=eggs.txt").json()["results"]
    assert (row["version"], row["characters"]) == (2, len("Another."))
    assert api("GET", f"documents/{row['id']}").json()["text"] == "Another."
    api("POST", "documents", {"name": "mill.txt", "text": BOOK["text"]})
    [found] = api("GET", "passages?q=mill").json()["results"]
    assert (found["source"], found["text"]) == ("mill.txt", BOOK["text"])
    assert api("DELETE", "documents?source=eggs.txt").json() == {"deleted": 2}
    assert api("DELETE", "documents?source=eggs.txt").status_code == 404
    assert Document.objects.get().source == "mill.txt"


def test_several_files_come_in_or_none(olga: User) -> None:
    files = [SimpleUploadedFile("a.txt", b"A."), SimpleUploadedFile("b.jsonl", b'{"text": 7}')]
    sent = {"data": {"file": files}, "headers": Api(olga).headers}
    refused = Client().post("/api/v1/documents", **sent)
    assert refused.status_code == 400 and list(refused.json()["fields"]) == ["file"]
    assert not Document.objects.exists()
    files = [SimpleUploadedFile("a.txt", b"A."), SimpleUploadedFile("b.txt", b"B.")]
    sent = {"data": {"file": files}, "headers": Api(olga).headers}
    assert Client().post("/api/v1/documents", **sent).json()["new"] == 2


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"name": "a.txt"}, "text"),
        ({"text": "A."}, "name"),
        ({"name": "a.txt", "text": "A.", "split": "x"}, "split"),
        ({"name": "a.txt", "text": "  "}, "file"),
    ],
)
def test_a_wrong_document_is_named(olga: User, sent: dict[str, Any], field: str) -> None:
    reply = Api(olga)("POST", "documents", sent)
    assert (reply.status_code, list(reply.json()["fields"])) == (400, [field])


@pytest.fixture
def waiting(project: Project, bob: User, write_task: Callable[..., Task]) -> Task:
    write_task()
    task = write(bob, project, text="Boil it.").assignment.task
    task.ask_for_review({"low_agreement"})
    return task


def test_a_review_is_taken_and_decided_once(rita: User, olga: User, waiting: Task) -> None:
    api = Api(rita)
    [row] = api("GET", "reviews?reason=low_agreement").json()["results"]
    assert (row["kind"], row["answers"], row["doubts"]) == ("write", 1, ["low_agreement"])
    assert api("GET", "reviews?reason=nonsense").status_code == 400
    taken = api("POST", "reviews/next", {"filter": {"kind": "write"}})
    address, etag = f"reviews/{taken.json()['id']}", taken.headers["ETag"]
    assert taken.json()["labels"][0]["content"]["text"] == "Boil it."
    assert api("POST", "reviews/next", {"task": row["task"]}).json() == taken.json()
    assert Api(olga)("POST", "reviews/next", {"task": row["task"]}).json()["code"] == "not_yours"
    said = {"verdict": "own", "cause": "labeler_error", "score": 3, "text": "Simmer it."}
    decide = f"{address}/decision"
    assert api("POST", decide, said).status_code == 428
    assert api("POST", decide, said, If_Match='"old"').status_code == 412
    assert not Review.objects.exists()
    done = api("POST", decide, said, If_Match=etag)
    assert done.status_code == 201, done.content
    [decision] = done.json()["decisions"]
    assert (decision["verdict"], decision["score"]) == ("excluded", 3)
    assert api("POST", decide, said, If_Match=etag).status_code == 409
    assert api("POST", f"{address}/skip", {}).status_code == 409
    [settled] = api("GET", "reviews?state=settled").json()["results"]
    assert settled["task"] == row["task"] and settled["settled_at"]
    assert api("POST", "reviews/next", {}).status_code == 204


def test_a_review_says_what_is_missing(rita: User, waiting: Task) -> None:
    api = Api(rita)
    taken = api("POST", "reviews/next", {})
    decide, etag = f"reviews/{taken.json()['id']}/decision", taken.headers["ETag"]
    for said, field in (
        ({"verdict": "perhaps"}, "verdict"),
        ({"verdict": "exclude", "score": 1}, "cause"),
        ({"verdict": "send_back"}, "comment"),
        ({"verdict": "accept"}, "score"),
        ({"verdict": "accept", "seen": "1", "nonsense": 1}, "nonsense"),
    ):
        reply = api("POST", decide, said, If_Match=etag)
        assert (reply.status_code, list(reply.json()["fields"])) == (400, [field])
    assert api("POST", decide.replace("decision", "skip"), {}).json()["state"] == "skipped"


def test_each_of_several_demonstrations_is_scored(
    project: Project, alice: User, bob: User, rita: User, write_task: Callable[..., Task]
) -> None:
    write_task(overlap=2)
    task = [write(each, project) for each in (alice, bob)][0].assignment.task
    task.ask_for_review({"low_agreement"})
    api = Api(rita)
    taken = api("POST", "reviews/next", {})
    address, etag = f"reviews/{taken.json()['id']}/decision", taken.headers["ETag"]
    assert {"score_1", "score_2"} <= {each["name"] for each in taken.json()["form"]}
    for scores, field in (
        (5, "scores"),
        ([5, 6, 7], "scores"),
        ([5], "score_2"),
        ([[], 5], "score_1"),
    ):
        reply = api("POST", address, {"verdict": "accept", "scores": scores}, If_Match=etag)
        assert (reply.status_code, list(reply.json()["fields"])) == (400, [field])
    done = api("POST", address, {"verdict": "accept", "scores": [5, 7]}, If_Match=etag)
    assert [each["score"] for each in done.json()["decisions"]] == [5, 7]


def test_an_order_of_the_reviewers_own_is_a_ranking(
    project: Project, alice: User, bob: User, rita: User, rank_task: Callable[..., Task]
) -> None:
    rank_task(overlap=2)
    rank(alice, project, [0, 1, 2]), rank(bob, project, [2, 1, 0])
    api = Api(rita)
    taken = api("POST", "reviews/next", {})
    shown = taken.json()
    assert [label["labeler"] for label in shown["labels"]] == ["alice", "bob"]
    order = [each["id"] for each in shown["completions"]]
    placements = [{"completion": pk, "place": place} for place, pk in enumerate(order, 1)]
    said = {"verdict": "own", "cause": "subjective", "placements": placements}
    address = f"reviews/{shown['id']}/decision"
    wrong = {**said, "placements": [{"completion": 10**9, "place": 1}]}
    refused = api("POST", address, wrong, If_Match=taken.headers["ETag"])
    assert list(refused.json()["fields"]) == ["placements[0]"]
    done = api("POST", address, said, If_Match=taken.headers["ETag"])
    assert done.status_code == 201, done.content
    [own] = api("GET", "labels/rankings").json()["results"]
    places = {each["completion"]: each["place"] for each in own["content"]["placements"]}
    assert places == {pk: place for place, pk in enumerate(order, 1)}


@pytest.fixture
def speaker(policy: Policy, model_server: ModelServer) -> Policy:
    policy.endpoint, policy.model_name = model_server.url, "m"
    policy.save()
    return policy


def test_talks_are_asked_for(olga: User, speaker: Policy) -> None:
    api = Api(olga)
    sent = {"first": speaker.pk, "goal": "Plan a dinner", "count": 3, "length": 2}
    made = api("POST", "talks", sent)
    assert made.status_code == 201, made.content
    assert made.json()["progress"] == {"asked": 3, "done": 0}
    assert api("GET", "talks").json()["results"] == [made.json()]
    refused = api("POST", "talks", {**sent, "first": 10**9, "count": 0})
    assert set(refused.json()["fields"]) == {"first", "count"}


def test_a_judge_is_added_and_given_tasks(
    olga: User, speaker: Policy, rank_task: Callable[..., Task]
) -> None:
    api = Api(olga)
    sent = {"name": "Strict", "policy": speaker.pk, "rubric": "Short is good.", "form": "pair"}
    made = api("POST", "judges", sent).json()
    assert (made["version"], made["progress"]["total"], made["agreement"]) == (1, 0, None)
    assert list(api("POST", "judges", sent).json()["fields"]) == ["name"]
    address = f"judges/{made['id']}"
    assert api("POST", f"{address}/run", {"scope": "open", "budget": 1}).status_code == 409
    rank_task(k=3)
    given = api("POST", f"{address}/run", {"scope": "open", "budget": 1})
    assert given.status_code == 201 and given.json()["progress"]["open"] > 0
    assert api("POST", f"{address}/cancel", {}).json()["progress"]["open"] == 0
    assert api("POST", f"{address}/resume", {}).json()["progress"]["open"] > 0
    assert api("POST", f"{address}/withdraw", {}).json()["withdrawn_at"]
    assert api("POST", f"{address}/resume", {}).status_code == 409


@pytest.mark.parametrize("address", ["/api/v1/assignments/a%0A/label", "/v1/models%0A/x%0Ay"])
def test_an_address_with_a_line_end_is_refused_as_any_other(olga: User, address: str) -> None:
    reply = Client().get(address, headers=Api(olga).headers)
    assert (reply.status_code, reply.headers["Content-Type"]) == (404, "application/json")
