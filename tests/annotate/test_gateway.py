"""The API as the clients of OpenAI's use it: what they send by habit, and what they read."""

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from feedback_site_client import calls
from pytest_django import Settings

from annotate.chat.stops import UntilStop
from annotate.models import Conversation, Message, Policy, Project
from tests.model_server import ModelServer

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "How do I boil an egg?"}]
TEXT = "Boil it for **eight** minutes."
Call = Callable[..., Any]


def _chunks(reply: Any) -> list[dict[str, Any]]:
    async def whole(parts: AsyncIterator[bytes]) -> str:
        return b"".join([part async for part in parts]).decode()

    sent = async_to_sync(whole)(reply.streaming_content)
    assert sent.endswith("data: [DONE]\n\n")
    return [json.loads(data) for data in re.findall(r"data: (\{.*\})\n\n", sent)]


NULLS = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
]


@pytest.mark.parametrize(
    "sent",
    [
        dict.fromkeys(NULLS),
        {"logprobs": False, "top_logprobs": 0, "n": 1, "logit_bias": {}, "modalities": ["text"]},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "response_format": {"type": "text"}},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "functions": []},
        {"service_tier": "auto", "prompt_cache_key": "x", "safety_identifier": "y"},
        {"stream_options": {"include_usage": False}},
        {"messages": [{**MESSAGES[0], "name": None, "tool_calls": None}]},
    ],
)
def test_what_changes_nothing_is_taken(
    live: Policy, call: Call, model_server: ModelServer, sent: dict[str, Any]
) -> None:
    reply = call(CHAT, {"messages": MESSAGES, **sent})
    assert reply.status_code == 200, reply.content
    assert reply.json()["choices"][0]["message"]["content"] == TEXT
    sampling = {"temperature", "top_p", "max_tokens"}
    plain = {"model", "messages", "stream", "stream_options", *sampling}
    assert set(model_server.asked[0]) <= plain


def test_text_parts_and_the_developers_role_are_read(live: Policy, call: Call) -> None:
    parts = [{"type": "text", "text": "How do I"}, {"type": "text", "text": "boil an egg?"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    assert call(CHAT, {"messages": messages}).status_code == 200
    assert Message.objects.get(role="assistant").asked == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How do I\nboil an egg?"},
    ]


def test_other_parts_are_refused_by_name(live: Policy, call: Call) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    error = call(CHAT, {"messages": [{"role": "user", "content": [part]}]}).json()["error"]
    assert error["param"] == "messages[0].content"
    assert error["code"] == "unsupported_parameter" and "image_url" in error["message"]


def test_usage_is_what_the_server_counts_or_an_estimate(
    live: Policy, call: Call, model_server: ModelServer
) -> None:
    estimated = call(CHAT, {"messages": MESSAGES}).json()["usage"]
    assert estimated["completion_tokens"] == 8  # 30 bytes
    assert estimated["total_tokens"] == estimated["prompt_tokens"] + 8
    model_server.usage = {"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 26}
    counted = call(CHAT, {"messages": MESSAGES})
    assert counted.json()["usage"] == model_server.usage
    logged = Message.objects.get(public_id=counted.json()["id"])
    assert (logged.prompt_tokens, logged.completion_tokens) == (21, 5)


def test_usage_may_come_after_the_last_piece(
    live: Policy, call: Call, model_server: ModelServer
) -> None:
    piece = {"choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    count = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    model_server.raw = [
        *(f"data: {json.dumps(each)}\n\n".encode() for each in (piece, end, count)),
        b"data: [DONE]\n\n",
    ]
    usage = call(CHAT, {"messages": MESSAGES}).json()["usage"]
    assert usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert model_server.asked[0]["stream_options"] == {"include_usage": True}


def test_a_stream_ends_with_the_usage_where_it_is_wished(live: Policy, call: Call) -> None:
    sent = {"messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = _chunks(call(CHAT, sent))
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 8
    assert all(chunk["usage"] is None for chunk in chunks)
    assert all(
        "usage" not in chunk for chunk in _chunks(call(CHAT, {**sent, "stream_options": {}}))
    )


def test_several_answers_have_an_id_each(
    live: Policy, call: Call, model_server: ModelServer
) -> None:
    answer = call(CHAT, {"messages": MESSAGES, "n": 3, "seed": 7}).json()
    ids = [choice["completion_id"] for choice in answer["choices"]]
    assert len(set(ids)) == 3 and ids[0] == answer["id"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert sorted(asked["seed"] for asked in model_server.asked) == [7, 8, 9]
    for number in ids:
        said = call("/api/v1/feedback", {"completion_id": number, "thumb": "up"})
        assert said.status_code == 200


def test_several_answers_stream_by_their_index(live: Policy, call: Call) -> None:
    said = {0: "", 1: ""}
    for chunk in _chunks(call(CHAT, {"messages": MESSAGES, "n": 2, "stream": True})):
        for choice in chunk["choices"]:
            said[choice["index"]] += choice["delta"].get("content", "")
    assert said == {0: TEXT, 1: TEXT}


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_ends_before_its_stop_text(
    live: Policy, call: Call, model_server: ModelServer, stream: bool
) -> None:
    model_server.says = ["Boil it\nUs", "er: and the", " next"]
    reply = call(CHAT, {"messages": MESSAGES, "stop": "\nUser:", "stream": stream})
    if stream:
        chunks = _chunks(reply)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        reason = chunks[-1]["choices"][0]["finish_reason"]
    else:
        choice = reply.json()["choices"][0]
        text, reason = choice["message"]["content"], choice["finish_reason"]
    assert (text, reason) == ("Boil it", "stop")
    assert model_server.asked[0]["stop"] == ["\nUser:"]


@pytest.mark.parametrize(
    ("pieces", "stops", "shown"),
    [
        (["abc"], [], "abc"),
        (["ab", "c"], ["b"], "a"),
        (["a#", "#", "b"], ["##"], "a"),
        (["a#", "b"], ["##"], "a#b"),
        (["a#"], ["##"], "a#"),
        (["one ENDtwo"], ["two", "END"], "one "),
        (["aab"], ["ab"], "a"),
        (["x", "", "y"], ["", "xyz"], "xy"),
    ],
)
def test_stop_texts(pieces: list[str], stops: list[str], shown: str) -> None:
    until = UntilStop(stops)
    assert "".join(map(until.add, pieces)) + until.rest() == shown
    assert until.is_over is (shown != "".join(pieces))


def _other(project: Project, name: str, state: str, **fields: Any) -> Policy:
    return Policy.objects.create(
        project=project, name=name, state=state, origin="prompted", model_name="m", **fields
    )


def test_any_policy_that_can_answer_is_asked_by_name(live: Policy, call: Call) -> None:
    for name, state in (("r1/ppo", "candidate"), ("dare", "challenger"), ("old", "retired")):
        _other(live.project, name, state)
    _other(live.project, "bad", "rejected")
    Project.objects.update(challenger_percent=0)
    Policy.objects.create(project=live.project, name="paper", origin="external")
    listed = [row["id"] for row in call("/v1/models").json()["data"]]
    assert listed == ["live", "challenger", "old", "dare", "r1/ppo", "cook"]
    for name in listed:
        answer = call(CHAT, {"messages": MESSAGES, "model": name}).json()
        assert answer["model"] == {"live": "cook", "challenger": "dare"}.get(name, name)
        assert call(f"/v1/models/{name}").json()["id"] == name
    for name in ("bad", "paper", "gpt-4"):
        reply = call(CHAT, {"messages": MESSAGES, "model": name})
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
        assert call(f"/v1/models/{name}").status_code == 404


def test_the_live_ones_name_still_answers_after_a_promotion(live: Policy, call: Call) -> None:
    _other(live.project, "next", "candidate").go_live()
    assert call(CHAT, {"messages": MESSAGES, "model": "cook"}).json()["model"] == "cook"
    assert call(CHAT, {"messages": MESSAGES, "model": "live"}).json()["model"] == "next"


def test_what_only_the_server_can_do_is_passed_on_to_one_of_its_own(
    live: Policy, call: Call, model_server: ModelServer, settings: Settings
) -> None:
    settings.INFERENCE_ENDPOINTS = [model_server.url]
    Policy.objects.filter(pk=live.pk).update(endpoint=model_server.url)
    wishes = {
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "response_format": {"type": "json_object"},
    }
    assert call(CHAT, {"messages": MESSAGES, **wishes}).status_code == 200
    assert {name: model_server.asked[0][name] for name in wishes} == wishes


def test_metadata_stay_with_the_exchange(live: Policy, call: Call) -> None:
    call(CHAT, {"messages": MESSAGES, "metadata": {"page": "recipes", "session": "s1"}})
    assert Conversation.objects.get().metadata == {"page": "recipes", "session": "s1"}


@pytest.mark.parametrize(
    ("method", "address", "status", "code"),
    [
        ("get", CHAT, 405, "method_not_allowed"),
        ("post", "/v1/embeddings", 404, "not_found"),
        ("post", "/v1/audio/speech", 404, "not_found"),
    ],
)
def test_every_error_has_their_shape(
    live: Policy, client: Client, issue: Any, method: str, address: str, status: int, code: str
) -> None:
    headers = {"Authorization": f"Bearer {issue()}"}
    reply = getattr(client, method)(address, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    refused = getattr(client, method)(address)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_token_without_the_scope_is_told(live: Policy, call: Call, issue: Any) -> None:
    reply = call(CHAT, {"messages": MESSAGES}, token=issue(scopes=["read"]))
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "insufficient_scope")


def test_too_many_calls_are_429_in_their_shape(
    live: Policy, call: Call, issue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotate import limits
    from feedback_site.models import Rate

    monkeypatch.setattr(limits, "LIMITS", {"API": {"token": Rate(1, 0.01)}})
    token = issue()
    call("/v1/models", token=token)
    reply = call("/v1/models", token=token)
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(reply["Retry-After"]) > 0


def test_too_much_context_has_its_code(live: Policy, call: Call, model_server: ModelServer) -> None:
    model_server.status, model_server.body = 400, "the context length is too long"
    reply = call(CHAT, {"messages": MESSAGES})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_each_reply_names_its_request(live: Policy, call: Call, client: Client) -> None:
    assert re.fullmatch("[0-9a-f]{32}", call("/v1/models")["X-Request-Id"])
    assert call("/v1/models", **{"X-Request-Id": "mine-1"})["X-Request-Id"] == "mine-1"
    assert call("/v1/models", **{"X-Request-Id": "a b\tc"})["X-Request-Id"] != "a b\tc"
    assert client.get("/accounts/sign-in/").has_header("X-Request-Id")


def test_pages_of_listed_origins_may_call(
    live: Policy, call: Call, client: Client, settings: Settings
) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]
    ask = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    allowed = client.options(CHAT, headers=ask)
    assert allowed["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "x-stainless-lang" in allowed["Access-Control-Allow-Headers"]
    assert not allowed.has_header("Access-Control-Allow-Credentials")
    other = client.options(CHAT, headers={**ask, "Origin": "https://evil.example"})
    assert not other.has_header("Access-Control-Allow-Origin")
    page = client.get("/accounts/sign-in/", headers={"Origin": "https://shop.example"})
    assert not page.has_header("Access-Control-Allow-Origin")


LOG = "/api/v1/answers"


def _said(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "external_id": f"a{number}",
        "model": "gpt-x",
        "messages": MESSAGES,
        "answer": f"Answer {number}.",
        **changes,
    }


def test_answers_of_other_servers_are_logged_once_and_take_thumbs(
    project: Project, call: Call
) -> None:
    batch = {"answers": [_said(1), _said(2, user="ann", metadata={"page": "x"}, to_label=True)]}
    for is_new in (True, False):
        reply = call(LOG, batch)
        assert reply.status_code == 201
        rows = reply.json()["answers"]
        assert [row["is_new"] for row in rows] == [is_new, is_new]
        assert [row["counts"] for row in rows] == [False, True]
    first, second = Message.objects.filter(role="assistant").order_by("id")
    assert (first.text, first.policy.name, first.policy.origin) == (
        "Answer 1.",
        "gpt-x",
        "external",
    )
    assert second.completion is not None and second.completion.prompt.messages == MESSAGES
    said = call("/api/v1/feedback", {"external_id": "a1", "thumb": "down"}).json()
    assert said["completion_id"] == str(first.public_id)
    assert first.feedback.current().get().thumb_up is False


def test_another_answer_of_the_same_name_is_refused_with_its_whole_batch(
    project: Project, call: Call
) -> None:
    call(LOG, {"answers": [_said(1)]})
    reply = call(LOG, {"answers": [_said(2), _said(1, answer="Another.")]})
    assert reply.status_code == 409 and "“a1”" in reply.json()["detail"]
    assert Conversation.objects.count() == 1


@pytest.mark.parametrize("change", [{"store": False}, {"user": "ben"}, {"metadata": {"page": "y"}}])
def test_an_answer_that_is_logged_again_otherwise_is_refused(
    project: Project, call: Call, change: dict[str, Any]
) -> None:
    said = _said(1, user="ann", metadata={"page": "x"})
    call(LOG, {"answers": [said]})
    reply = call(LOG, {"answers": [said | change]})
    assert reply.status_code == 409 and next(iter(change)) in reply.json()["detail"]
    later = call(LOG, {"answers": [said | {"to_label": True}]})
    assert later.json()["answers"][0]["counts"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"external_id": ""},
        {"answer": " "},
        {"answer": "a\x00b"},
        {"messages": []},
        {"model": ""},
        {"stars": 5},
        {"metadata": {"a": {"b": 1}}},
    ],
)
def test_a_wrong_answer_is_refused_with_its_batch(
    project: Project, call: Call, wrong: dict[str, Any]
) -> None:
    reply = call(LOG, {"answers": [_said(1), _said(2, **wrong)]})
    assert reply.status_code == 400
    assert not Conversation.objects.exists()


def test_an_end_user_is_forgotten_with_all_that_became_of_them(live: Policy, call: Call) -> None:
    call(LOG, {"answers": [_said(1, user="ann", to_label=True), _said(2, user="ben")]})
    call(CHAT, {"messages": MESSAGES, "user": "ann"})
    reply = _delete(call, "/api/v1/end-users/ann")
    assert (reply.status_code, reply.json()) == (200, {"exchanges": 2})
    assert [each.external_id for each in Conversation.objects.all()] == ["a2"]
    assert not live.project.prompts.exists()
    assert _delete(call, "/api/v1/end-users/ann").json() == {"exchanges": 0}


@pytest.mark.parametrize("name", ["team/ann", "/", "..", "a\nb", "ann?x#y", "ann/"])
def test_an_end_user_of_any_name_is_forgotten(project: Project, call: Call, name: str) -> None:
    call(LOG, {"answers": [_said(1, user=name), _said(2, user="ben")]})
    reply = _delete(call, f"/api/v1/{calls.forget_end_user(name).path}")
    assert (reply.status_code, reply.json()) == (200, {"exchanges": 1})


def _delete(call: Call, address: str) -> Any:
    return call(address, method="delete")
