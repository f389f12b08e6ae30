"""The API as a product outside uses it."""

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.utils import timezone

from annotate import jobs
from annotate.chat import messages
from annotate.models import (
    Conversation,
    Feedback,
    Membership,
    Message,
    Policy,
    Preference,
    Project,
    Ranking,
    User,
)
from tests.model_server import ModelServer

CHAT = "/v1/chat/completions"
FEEDBACK = "/api/v1/feedback"
POLICIES = "/api/v1/policies"
MESSAGES = [{"role": "user", "content": "How do I boil an egg?"}]


Call = Callable[..., Any]


def test_the_live_policy_answers(live: Policy, call: Call, model_server: ModelServer) -> None:
    reply = call(CHAT, {"model": "live", "messages": MESSAGES})
    answer = reply.json()
    assert reply.status_code == 200
    assert answer["model"] == "cook"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Boil it for **eight** minutes.",
                "refusal": None,
            },
            "finish_reason": "stop",
            "logprobs": None,
            "completion_id": answer["id"],
        }
    ]
    logged = Message.objects.get(public_id=answer["id"])
    assert (logged.text, logged.policy) == ("Boil it for **eight** minutes.", live)
    assert logged.asked == MESSAGES
    assert logged.context == model_server.asked[0]["messages"]
    assert logged.conversation.via_api


def test_it_streams_as_openai_does(live: Policy, call: Call) -> None:
    reply = call(CHAT, {"messages": MESSAGES, "stream": True})
    assert reply["Content-Type"] == "text/event-stream"
    sent = _whole(reply.streaming_content)
    chunks = [json.loads(data) for data in re.findall(r"data: (\{.*\})\n\n", sent)]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "Boil it for **eight** minutes."
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert sent.endswith("data: [DONE]\n\n")
    logged = Message.objects.get(public_id=chunks[0]["id"])
    assert (logged.text, logged.state) == (text, "done")


def test_a_stream_that_fails_says_so(live: Policy, call: Call, model_server: ModelServer) -> None:
    model_server.breaks_after = 1
    sent = _whole(call(CHAT, {"messages": MESSAGES, "stream": True}).streaming_content)
    assert '{"error": {"message": "The answer was interrupted' in sent
    assert Message.objects.get(role="assistant").text == "Boil it "


def _whole(parts: AsyncIterator[bytes]) -> str:
    async def collect() -> str:
        return b"".join([part async for part in parts]).decode()

    return async_to_sync(collect)()


def test_the_history_and_the_wishes_are_passed_on(
    live: Policy, call: Call, model_server: ModelServer
) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hungry?"},
        *MESSAGES,
    ]
    wishes = {"temperature": 0.1, "top_p": 0.9, "max_tokens": 5}
    call(CHAT, {"messages": messages, **wishes})
    asked = model_server.asked[0]
    assert asked["messages"][-3:] == messages
    assert {name: asked[name] for name in wishes} == wishes
    call(CHAT, {"messages": messages, "max_completion_tokens": 4000})
    assert model_server.asked[1]["max_tokens"] == live.max_new_tokens


def test_store_false_keeps_the_exchange_out_of_the_data(live: Policy, call: Call) -> None:
    call(CHAT, {"messages": MESSAGES, "store": False})
    assert not Conversation.objects.get().improves_model


def test_the_exchange_is_no_chat_of_the_person(
    live: Policy, call: Call, gus: User, browse: Callable[[User], Client]
) -> None:
    call(CHAT, {"messages": MESSAGES})
    exchange = Conversation.objects.get()
    assert browse(gus).get("/p/cooking/chat/").status_code == 200
    assert browse(gus).get(f"/p/cooking/chat/{exchange.pk}/").status_code == 404


def test_a_failing_model_server_is_a_bad_gateway(
    live: Policy, call: Call, model_server: ModelServer
) -> None:
    model_server.status, model_server.body = 500, "canary of the server"
    reply = call(CHAT, {"messages": MESSAGES})
    assert reply.status_code == 502
    assert "The model server failed" in reply.json()["error"]["message"]
    assert reply.json()["error"]["type"] == "server_error"
    assert b"canary" not in reply.content


def test_without_a_live_policy_nobody_answers(call: Call) -> None:
    reply = call(CHAT, {"messages": MESSAGES})
    assert reply.status_code == 404
    assert reply.json()["error"] == {
        "message": "No policy is live in this project.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "a\x00b"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 32_001}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 20_000}] * 2}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}] * 201}, "messages"),
        ({"messages": [{"role": "user", "content": "x", "name": "Bo"}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "messages"),
        ({"messages": [*MESSAGES, {"role": "system", "content": "Hi"}, *MESSAGES]}, "messages"),
        ({"messages": MESSAGES, "n": 5}, "n"),
        ({"messages": MESSAGES, "n": 10**9}, "n"),
        ({"messages": MESSAGES, "max_tokens": 10**9}, "max_tokens"),
        ({"messages": MESSAGES, "max_tokens": 0}, "max_tokens"),
        ({"messages": MESSAGES, "max_completion_tokens": 4097}, "max_completion_tokens"),
        ({"messages": MESSAGES, "temperature": -1}, "temperature"),
        ({"messages": MESSAGES, "temperature": 3}, "temperature"),
        ({"messages": MESSAGES, "tools": [{"type": "function"}]}, "tools"),
        ({"messages": MESSAGES, "logprobs": True}, "logprobs"),
        ({"messages": MESSAGES, "presence_penalty": 0.5}, "presence_penalty"),
        ({"messages": MESSAGES, "frequency_penalty": 0.5}, "frequency_penalty"),
        ({"messages": MESSAGES, "response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": MESSAGES, "logit_bias": {"50256": -100}}, "logit_bias"),
        ({"messages": MESSAGES, "stop": list("abcde")}, "stop"),
        ({"messages": MESSAGES, "metadata": {"a": 1} | {str(n): "" for n in range(16)}}, "metad"),
        ({"messages": MESSAGES, "stream": "perhaps"}, "stream"),
    ],
)
def test_it_names_the_field_that_is_wrong(
    live: Policy, call: Call, model_server: ModelServer, body: dict[str, Any], field: str
) -> None:
    reply = call(CHAT, body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(field) and error["message"].startswith(field)
    assert not Conversation.objects.exists()
    assert model_server.asked == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("x" * 300_000, 413),
        ('{"messages": ["' + "x" * 300_000, 413),
        ("[" * 100_000, 400),
        ('{"a":' * 40_000, 400),
        ("{", 400),
        ("", 400),
        ("[]", 400),
        ("null", 400),
        ('"text"', 400),
        ('{"messages": NaN}', 400),
        ('{"messages": Infinity}', 400),
        (b"\xff\xfe{}", 400),
        ('{"messages": 1e999}', 400),
    ],
)
@pytest.mark.parametrize("address", [CHAT, FEEDBACK])
def test_it_refuses_bodies_before_they_cost_anything(
    live: Policy, call: Call, issue: Callable[..., str], body: Any, status: int, address: str
) -> None:
    token = issue()
    call(address, "{}", token=token)  # warm
    began = time.process_time()
    assert call(address, body, token=token).status_code == status
    assert time.process_time() - began < 0.5  # of the processor
    assert not Conversation.objects.exists()


def test_other_content_types_are_refused(live: Policy, client: Client, issue: Any) -> None:
    headers = {"Authorization": f"Bearer {issue()}"}
    assert client.post(CHAT, {"messages": "Hi"}, headers=headers).status_code == 415


@pytest.fixture
def completion_id(live: Policy, call: Call) -> str:
    return call(CHAT, {"messages": MESSAGES}).json()["id"]


def test_a_thumb_comes_changes_and_goes(call: Call, completion_id: str, gus: User) -> None:
    for thumb, reasons in (("up", ["helpful"]), ("down", ["too_long", "other"]), ("down", [])):
        sent = {"completion_id": completion_id, "thumb": thumb, "reasons": reasons, "note": "So."}
        reply = call(FEEDBACK, sent)
        nothing = {"rating": None, "metrics": {}, "tags": [], "wanted_answer": ""}
        said = {**sent, **nothing, "counts": True, "why": ""}
        assert (reply.status_code, reply.json()) == (200, said)
        given = Feedback.objects.current().get()
        assert (given.thumb_up, given.reasons, given.note) == (thumb == "up", reasons, "So.")
        assert given.user == gus
    for _ in range(2):
        reply = call(FEEDBACK, {"completion_id": completion_id, "thumb": None})
        assert (reply.status_code, reply.json()["thumb"]) == (200, None)
        assert not Feedback.objects.current().exists()


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"thumb": "sideways"}, "thumb"),
        ({"reasons": ["helpful"]}, "thumb"),
        ({"thumb": "up", "reasons": ["harmful"]}, "reasons"),
        ({"thumb": "up", "reasons": ["nonsense"]}, "reasons[0]"),
        ({"thumb": "up", "reasons": "helpful"}, "reasons"),
        ({"thumb": "up", "note": "x" * 2001}, "note"),
        ({"thumb": "up", "completion_id": "7"}, "completion_id"),
        ({"thumb": "up", "stars": 5}, "stars"),
    ],
)
def test_it_names_what_is_wrong_with_a_thumb(
    call: Call, completion_id: str, sent: dict[str, Any], field: str
) -> None:
    reply = call(FEEDBACK, {"completion_id": completion_id, **sent})
    assert reply.status_code == 400
    assert list(reply.json()["fields"]) == [field]
    assert reply.json()["detail"].startswith(field)
    assert not Feedback.objects.exists()


def test_a_foreign_completion_does_not_exist(
    call: Call, completion_id: str, issue: Callable[..., str], mallory: User, gus: User
) -> None:
    elsewhere = mallory.memberships.get().project
    hers = issue(project=elsewhere, user=mallory)
    guests_own = Conversation.start(
        project=gus.memberships.get().project, guest=gus, text="Private"
    ).public_id
    missing = "00000000-0000-4000-8000-000000000000"
    for token, number in ((hers, completion_id), (None, str(guests_own)), (None, missing)):
        reply = call(FEEDBACK, {"completion_id": number, "thumb": "up"}, token=token)
        said = {"detail": "No such completion.", "code": "not_found", "fields": {}}
        assert (reply.status_code, reply.json()) == (404, said)
    assert not Feedback.objects.exists()


def test_it_lists_the_policies_of_the_project(
    live: Policy, call: Call, issue: Callable[..., str], mallory: User
) -> None:
    found = call(POLICIES).json()
    assert found["next"] is None and len(found["results"]) == 1
    assert found["results"][0] | {"created_at": ""} == {
        "id": live.pk,
        "name": "cook",
        "description": "",
        "state": "live",
        "origin": "prompted",
        "created_at": "",
    }
    hers = issue(project=mallory.memberships.get().project, user=mallory)
    assert call(POLICIES, token=hers).json()["results"] == []
    assert call(POLICIES + "?limit=-1").json()["fields"].keys() == {"limit"}


def test_the_schema_is_for_those_who_may_call(client: Client, call: Call, gus: User) -> None:
    assert client.get("/api/schema/").status_code == 401
    described = call("/api/schema/")
    assert described.status_code == 200
    for address in (CHAT, FEEDBACK, POLICIES):
        assert f"  {address}:" in described.content.decode()
    client.force_login(gus)
    assert client.get("/api/schema/").status_code == 200


def _chat_and_rate(call: Call, user: str | None) -> dict[str, Any]:
    sent = {"messages": MESSAGES, **({"user": user} if user else {})}
    answer = call(CHAT, sent).json()
    return call(FEEDBACK, {"completion_id": answer["id"], "thumb": "up"}).json()


def test_no_end_user_takes_the_place_of_another_and_what_does_not_count_is_told(
    live: Policy, call: Call, olga: User, browse: Callable[..., Client], monkeypatch: Any
) -> None:
    monkeypatch.setattr(messages, "COUNTED_A_DAY", 2)
    Membership.objects.update(vouched_at=timezone.now())
    for user in ("ann", "ben", None):
        said = [_chat_and_rate(call, user) for _ in range(3)]
        assert [each["counts"] for each in said] == [True, True, False]
        assert [bool(each["why"]) for each in said] == [False, False, True]
        assert ("Send `user`" in said[2]["why"]) is (user is None)
    Feedback.objects.update(updated_at=timezone.now() - timedelta(minutes=2))
    jobs.harvest_waiting()
    assert Message.objects.exclude(completion=None).count() == 6
    page = browse(olga).get("/p/cooking/labelers/guests/").content.decode()
    assert f"3: {messages.TOO_MANY}".replace("'", "&#x27;") in page
    digests = set(Conversation.objects.values_list("end_user", flat=True))
    assert len(digests) == 3 and not digests & {"ann", "ben"}


def test_ratings_metrics_and_tags_are_kept_and_counted_per_policy(
    call: Call, completion_id: str, olga: User, issue: Callable[..., str]
) -> None:
    metrics = {"solved": True, "seconds": 2.5, "topic": "eggs"}
    sent = {"completion_id": completion_id, "rating": 6, "metrics": metrics, "tags": ["a", "b"]}
    said = call(FEEDBACK, sent).json()
    assert (said["rating"], said["metrics"], said["tags"]) == (6, metrics, ["a", "b"])
    assert (said["thumb"], said["counts"]) == (None, False) and "train nothing" in said["why"]
    changed = {"completion_id": completion_id, "metrics": {"solved": None, "seconds": 3}}
    said = call(FEEDBACK, {**changed, "tags": ["b"], "thumb": "up"}).json()
    assert said["metrics"] == {"seconds": 3.0, "topic": "eggs"}
    assert (said["rating"], said["tags"], said["counts"]) == (6, ["b"], True)
    rows = call("/api/v1/measures", token=issue(user=olga)).json()["results"]
    assert [(row["name"], row["kind"], row["category"], row["mean"]) for row in rows] == [
        ("topic", "category", "eggs", None),
        ("rating", "number", "", 6.0),
        ("seconds", "number", "", 3.0),
        ("b", "tag", "", 1.0),
    ]
    assert {row["policy"] for row in rows} == {"cook"}


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"rating": 8}, "rating"),
        ({"metrics": {"a": [1]}}, "metrics.a"),
        ({"metrics": {"": 1}}, "metrics"),
        ({"metrics": {"rating": 1}}, "metrics.rating"),
        ({"metrics": {"a": "x" * 65}}, "metrics.a"),
        ({"metrics": {str(n): 1 for n in range(33)}}, "metrics"),
        ({"tags": ["x" * 65]}, "tags[0]"),
        ({}, "thumb"),
    ],
)
def test_it_names_what_is_wrong_with_a_measure(
    call: Call, completion_id: str, sent: dict[str, Any], field: str
) -> None:
    reply = call(FEEDBACK, {"completion_id": completion_id, **sent})
    assert (reply.status_code, list(reply.json()["fields"])) == (400, [field])


def test_a_preference_between_two_answers_of_ones_own_becomes_a_ranking_once(
    call: Call, issue: Callable[..., str]
) -> None:
    def answered(name: str, text: str) -> dict[str, Any]:
        return {"external_id": name, "model": "m", "messages": MESSAGES, "answer": text}

    logged = [answered("a", "Eight."), answered("b", "Two."), answered("c", "Three.")]
    call("/api/v1/answers", {"answers": logged})
    sent = {"external_id": "a", "other_external_id": "b", "verdict": "better"}

    def prefer(**changes: Any) -> Any:
        reply = call("/api/v1/preferences", {**sent, **changes})
        Preference.objects.update(updated_at=timezone.now() - timedelta(minutes=2))
        jobs.harvest_waiting()
        return reply

    assert prefer().json()["counts"] is True
    ranking = Ranking.objects.get()
    assert [placed.completion.text for placed in ranking.placed] == ["Eight.", "Two."]
    turned = prefer(external_id="b", other_external_id="a", verdict="better")
    assert turned.status_code == 200
    placed = Ranking.objects.get().placed
    assert [each.completion.text for each in placed] == ["Two.", "Eight."]
    assert prefer(other_external_id="c").status_code == 200
    first, second = Ranking.objects.order_by("pk")
    assert [each.completion.text for each in second.placed] == ["Eight.", "Three."]
    assert prefer(other_external_id="c", verdict=None).status_code == 200
    assert prefer(verdict=None).json()["why"] == "The preference was removed."
    assert not Ranking.objects.exists()


def test_the_best_of_several_is_sent_with_the_winner_first(call: Call) -> None:
    names = "abcd"
    logged = [
        {"external_id": name, "model": "m", "messages": MESSAGES, "answer": f"Answer {name}."}
        for name in names
    ]
    call("/api/v1/answers", {"answers": logged})

    def prefer(one: str, other: str) -> int:
        sent = {"external_id": one, "other_external_id": other, "verdict": "better"}
        return call("/api/v1/preferences", sent).status_code

    assert [prefer("a", name) for name in "bcd"] == [200, 200, 200]
    for preference in Preference.objects.all():
        preference.harvest()
    ranked = [[each.completion.text[7] for each in row.placed] for row in Ranking.objects.all()]
    assert sorted(ranked) == [["a", "b"], ["a", "c"], ["a", "d"]]
    assert prefer("c", "d") == 409


def test_a_preference_of_a_new_guest_says_that_it_does_not_count(call: Call, gus: User) -> None:
    Project.objects.update(new_guest_days=7)
    logged = [
        {"external_id": name, "model": "m", "messages": MESSAGES, "answer": name} for name in "ab"
    ]
    call("/api/v1/answers", {"answers": logged})
    sent = {"external_id": "a", "other_external_id": "b", "verdict": "better"}
    said = call("/api/v1/preferences", sent).json()
    assert not said["counts"] and "a reviewer has to approve" in said["why"]
    member = gus.memberships.get()
    member.vouch()
    assert call("/api/v1/preferences", sent).json()["counts"] is True
    Membership.objects.filter(pk=member.pk).update(excluded_at=timezone.now())
    assert call("/api/v1/preferences", sent).json()["why"] == messages.EXCLUDED


def test_the_reply_says_that_no_more_preferences_of_the_day_count(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotate.chat.preferences.COUNTED_A_DAY", 1)
    said = []
    for number, user in enumerate(["ann", "ann", "ben"]):
        asked = [{"role": "user", "content": f"Question {number}"}]
        answers = [
            {
                "external_id": f"{number}{name}",
                "model": "gpt",
                "messages": asked,
                "answer": f"Answer {name}",
                "user": user,
            }
            for name in "ab"
        ]
        assert call("/api/v1/answers", {"answers": answers}).status_code == 201
        sent = {"external_id": f"{number}a", "other_external_id": f"{number}b", "verdict": "better"}
        said.append(call("/api/v1/preferences", sent).json())
    assert [each["counts"] for each in said] == [True, False, True]
    assert "in a day" in said[1]["why"] and not said[2]["why"]


def test_a_preference_between_answers_to_different_questions_is_refused(call: Call) -> None:
    logged = [
        {
            "external_id": name,
            "model": "m",
            "messages": [{"role": "user", "content": name}],
            "answer": "x",
        }
        for name in "ab"
    ]
    call("/api/v1/answers", {"answers": logged})
    sent = {"external_id": "a", "other_external_id": "b", "verdict": "better"}
    reply = call("/api/v1/preferences", sent)
    assert (reply.status_code, list(reply.json()["fields"])) == (400, ["other_completion_id"])
    itself = call("/api/v1/preferences", {**sent, "other_external_id": "a"})
    assert itself.status_code == 400


def test_a_thumb_that_does_not_count_says_why(live: Policy, call: Call) -> None:
    Membership.objects.update(vouched_at=timezone.now())
    private = call(CHAT, {"messages": MESSAGES, "store": False}).json()["id"]
    said = call(FEEDBACK, {"completion_id": private, "thumb": "up"}).json()
    assert (said["counts"], said["why"]) == (False, messages.NOT_ALLOWED)
    said = call(FEEDBACK, {"completion_id": private, "thumb": None}).json()
    assert (said["counts"], "removed" in said["why"]) == (False, True)
    Membership.objects.update(vouched_at=None)
    Project.objects.update(new_guest_days=7)
    plain = call(CHAT, {"messages": MESSAGES}).json()["id"]
    said = call(FEEDBACK, {"completion_id": plain, "thumb": "up"}).json()
    assert not said["counts"] and "a reviewer has to approve" in said["why"]


def test_what_explains_a_thumb_is_refused_without_one(live: Policy, call: Call) -> None:
    answer = call(CHAT, {"messages": MESSAGES}).json()["id"]
    for name, said in {"reasons": ["style"], "note": "x", "wanted_answer": "y"}.items():
        for thumb in ({"rating": 3}, {"thumb": None}):
            refused = call(FEEDBACK, {"completion_id": answer, name: said, **thumb})
            assert (refused.status_code, list(refused.json()["fields"])) == (400, [name])
    up = call(FEEDBACK, {"completion_id": answer, "thumb": "up", "wanted_answer": "y"})
    assert (up.status_code, list(up.json()["fields"])) == (400, ["wanted_answer"])
    assert not Feedback.objects.exists()


def test_the_reply_to_feedback_says_what_is_stored(live: Policy, call: Call) -> None:
    answer = call(CHAT, {"messages": MESSAGES}).json()["id"]
    why = {"reasons": ["style"], "note": "Dry.", "wanted_answer": "Eight, dear."}
    call(FEEDBACK, {"completion_id": answer, "thumb": "down", **why})
    again = call(FEEDBACK, {"completion_id": answer, "thumb": "down"}).json()
    assert {name: again[name] for name in why} == why
    rated = call(FEEDBACK, {"completion_id": answer, "rating": 3}).json()
    assert (rated["thumb"], rated["note"], rated["rating"]) == ("down", "Dry.", 3)
    fewer = call(FEEDBACK, {"completion_id": answer, "thumb": "down", "note": ""}).json()
    assert (fewer["note"], fewer["reasons"]) == ("", ["style"])
    gone = call(FEEDBACK, {"completion_id": answer, "thumb": None}).json()
    assert (gone["thumb"], gone["reasons"], gone["note"]) == (None, [], "")
