"""Rounds, runs and decisions over the API."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from annotate.models import Policy, User
from rlhf.models import Metric, Promotion, Round, Run
from tests.rest import Api


@pytest.fixture
def asked(base: Policy, labels: None) -> dict[str, Any]:
    return {"base": base.pk, "stages": ["sft", "reward"], "recipe": "tiny"}


def test_a_dry_run_counts_and_launches_nothing(olga: User, asked: dict[str, Any]) -> None:
    reply = Api(olga)("POST", "rounds", {**asked, "dry_run": True})
    assert reply.status_code == 200
    assert [each["name"] for each in reply.json()["planned"]] == ["SFT", "reward model"]
    assert reply.json()["planned"][0]["lines"]["train"] == 16
    assert not Round.objects.exists()


def test_a_round_is_launched_once_and_watched(olga: User, asked: dict[str, Any]) -> None:
    api = Api(olga)
    changes = {"sft": {"train": {"epochs": 3}}}
    sent = {**asked, "note": "By hand", "settings": changes, "follows": 0}
    made = api("POST", "rounds", sent, Idempotency_Key="k")
    assert made.status_code == 201, made.content
    assert api("POST", "rounds", sent, Idempotency_Key="k").json() == made.json()
    assert Round.objects.count() == 1
    assert (made.json()["number"], made.json()["state"]) == (1, "queued")
    assert [each["kind"] for each in made.json()["runs"]] == ["sft", "reward", "evaluate"]
    assert Run.objects.get(kind="sft").config["train"]["epochs"] == 3
    assert api("GET", "rounds").json()["results"] == [api("GET", "rounds/1").json()]
    quicker = api("POST", "rounds", sent)
    assert (quicker.status_code, quicker.json()["code"]) == (409, "launched_meanwhile")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"base": 999_999}, "base"),
        ({"base": None}, "base"),
        ({"stages": []}, "stages"),
        ({"stages": "sft"}, "stages"),
        ({"stages": ["sft", "nonsense"]}, "stages"),
        ({"recipe": "huge"}, "recipe"),
        ({"seed": 2**63}, "seed"),
        ({"settings": {"sft": {"train": {"nonsense": 1}}}}, "sft.train.nonsense"),
        ({"settings": {"sft": {"train": {"epochs": "many"}}}}, "sft.train.epochs"),
        ({"settings": 7}, "settings"),
        ({"filters": {"best_rated": 9}}, "best_rated"),
        ({"filters": {"nonsense": 9}}, "nonsense"),
        ({"dry_run": "perhaps"}, "dry_run"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_it_names_what_is_wrong(
    olga: User, asked: dict[str, Any], wrong: dict[str, Any], field: str
) -> None:
    reply = Api(olga)("POST", "rounds", {**asked, **wrong})
    assert (reply.status_code, list(reply.json()["fields"])) == (400, [field])
    assert not Round.objects.exists()


def test_a_round_that_lacks_something_says_what(olga: User, base: Policy) -> None:
    sent = {"base": base.pk, "stages": ["sft"], "recipe": "tiny"}
    reply = Api(olga)("POST", "rounds", sent)
    assert (reply.status_code, reply.json()["code"]) == (409, "not_ready")
    assert reply.json()["fields"]


def test_runs_are_cancelled_and_resumed_and_tell_their_numbers(olga: User, round: Round) -> None:
    api, run = Api(olga), round.runs.get(kind="sft")
    for step in (1, 2):
        Metric.objects.create(
            run=run, step=step, split="train", values={"loss": 1 / step}, time=timezone.now()
        )
    assert api("POST", f"runs/{run.pk}/cancel", {}).json()["state"] == "cancelled"
    assert api("POST", f"runs/{run.pk}/cancel", {}).status_code == 409
    rows = api("GET", f"runs/{run.pk}/metrics?after=1").json()["rows"]
    assert rows == [{"step": 2, "split": "train", "values": {"loss": 0.5}}]
    assert api("POST", "rounds/1/resume", {}).json()["runs"][0]["state"] == "queued"
    assert api("POST", f"runs/{run.pk}/resume", {}).status_code == 409
    assert api("POST", "rounds/1/cancel", {}).json()["state"] == "cancelled"
    of_round = api("GET", "runs?round=1").json()["results"]
    assert {each["id"] for each in of_round} == set(round.runs.values_list("pk", flat=True))


def test_the_gate_holds_here_too(olga: User, base: Policy, model_server: Any) -> None:
    base.endpoint, base.model_name = model_server.url, "m"
    base.save()
    Policy.objects.create(project=base.project, name="old", origin="base").go_live()
    api = Api(olga)
    gate = api("GET", f"policies/{base.pk}/gate").json()
    shut = api("POST", f"policies/{base.pk}/promote", {"reason": "Good."})
    assert gate["is_open"] is False
    assert (shut.status_code, shut.json()["code"]) == (409, "gate_shut")
    assert set(shut.json()["fields"]) == {
        each["name"] for each in gate["conditions"] if not each["passed"]
    }
    nothing_said = api("POST", f"policies/{base.pk}/promote", {})
    assert list(nothing_said.json()["fields"]) == ["reason"]
    sent = {"reason": "Good.", "override": "A test."}
    made = api("POST", f"policies/{base.pk}/promote", sent, Idempotency_Key="k")
    assert made.status_code == 201, made.content
    assert (
        api("POST", f"policies/{base.pk}/promote", sent, Idempotency_Key="k").json() == made.json()
    )
    assert api("POST", f"policies/{base.pk}/promote", sent).status_code == 409
    assert [each["override"] for each in api("GET", "promotions").json()["results"]] == ["A test."]


def test_who_waits_for_the_model_server_holds_no_transaction_not_even_with_a_key(
    olga: User, base: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls with one key at once are one decision: the slower gets the reply of the other."""
    Policy.objects.create(project=base.project, name="old", origin="base").go_live()
    api, sent = Api(olga), {"reason": "Good.", "override": "A test."}
    opened: list[list[str]] = []
    replies: list[Any] = []

    def warm(policy: Policy) -> None:
        opened.append(connection.savepoint_ids[:])
        if len(opened) == 1:  # the other call comes, and is done, while this one waits
            replies.append(api("POST", f"policies/{base.pk}/promote", sent, Idempotency_Key="k"))

    monkeypatch.setattr("rlhf.registry.promotion.warm", warm)
    slower = api("POST", f"policies/{base.pk}/promote", sent, Idempotency_Key="k")
    assert opened == [[], []]
    assert (replies[0].status_code, slower.status_code) == (201, 201), slower.content
    assert slower.json() == replies[0].json() and slower.headers["Idempotent-Replayed"] == "true"
    other = api("POST", f"policies/{base.pk}/promote", {"reason": "No."}, Idempotency_Key="k")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert Promotion.objects.filter(project=base.project).count() == 1


def test_suites_are_written_where_two_may_write(olga: User) -> None:
    api = Api(olga)
    made = api("POST", "suites", {"name": "Brief", "lines": "Why? => words 3"})
    assert made.status_code == 201 and made.json()["is_built_in"] is False
    assert list(api("POST", "suites", {"name": "Brief", "lines": ""}).json()["fields"]) == ["name"]
    read = api("GET", "suites/Brief")
    changed = {"lines": "Why? => words 5"}
    assert api("PUT", "suites/Brief", changed).status_code == 428
    assert api("PUT", "suites/Brief", changed, If_Match=read.headers["ETag"]).status_code == 200
    assert api("PUT", "suites/Brief", changed, If_Match=read.headers["ETag"]).status_code == 412
    wrong = api("PUT", "suites/Brief", {"lines": "no check"}, If_Match="*")
    assert (wrong.status_code, list(wrong.json()["fields"])) == (400, ["lines"])
    names = [each["name"] for each in api("GET", "suites").json()["results"]]
    assert "Brief" in names and names == sorted(names)
    assert api("GET", "suites/Nothing").status_code == 404


def test_suites_are_asked_of_policies(olga: User, base: Policy) -> None:
    api = Api(olga)
    refused = api("POST", "suite-results", {"policies": [10**9]})
    assert list(refused.json()["fields"]) == ["policies"]
    made = api("POST", "suite-results", {"policies": [base.pk], "samples": 2})
    assert made.status_code == 201, made.content
    assert made.json()["kind"] == "scorecard"
    assert Run.objects.get().config["train"]["k"] == 2
    assert api("GET", f"suite-results?policy={base.pk}").json()["results"] == []


def test_the_limits_of_the_gate_are_set_once_read(olga: User) -> None:
    api = Api(olga)
    read = api("GET", "gate-limits")
    sent = {**read.json(), "kl": 9.0, "harm": 1.5}
    assert api("PUT", "gate-limits", sent).status_code == 428
    made = api("PUT", "gate-limits", sent, If_Match=read.headers["ETag"])
    assert (made.json(), api("GET", "gate-limits").json()) == (sent, sent)
    assert api("PUT", "gate-limits", sent, If_Match=read.headers["ETag"]).status_code == 412
    wrong = api("PUT", "gate-limits", {**sent, "prompts": 1}, If_Match="*")
    assert list(wrong.json()["fields"]) == ["prompts"]
