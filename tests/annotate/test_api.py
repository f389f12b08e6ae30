"""The API as a product outside uses it."""

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from annotate.models import (
    ApiToken,
    Conversation,
    Feedback,
    Membership,
    Message,
    Policy,
    Project,
    User,
)
from tests.model_server import ModelServer

CHAT = "/v1/chat/completions"
FEEDBACK = "/api/v1/feedback"
POLICIES = "/api/v1/policies"
MESSAGES = [{"role": "user", "content": "How do I boil an egg?"}]


@pytest.fixture
def issue(project: Project, gus: User) -> Callable[..., str]:
    """Makes a token and hands out its secret."""

    def make(**fields: Any) -> str:
        fields = {"project": project, "user": gus, "scopes": ApiToken.Scope.values, **fields}
        return ApiToken.issue(**fields)[1]

    return make


@pytest.fixture
def call(client: Client, issue: Callable[..., str]) -> Callable[..., Any]:
    """call(address, body) with a token that may do everything; GET without a body."""

    def send(address: str, body: Any = None, *, token: str | None = None, **extra: Any) -> Any:
        headers = {"Authorization": f"Bearer {token or issue()}", **extra}
        if body is None:
            return client.get(address, headers=headers)
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return client.post(address, text, content_type="application/json", headers=headers)

    return send


Call = Callable[..., Any]


def test_the_live_policy_answers(live: Policy, call: Call, model_server: ModelServer) -> None:
    reply = call(CHAT, {"model": "live", "messages": MESSAGES})
    answer = reply.json()
    assert reply.status_code == 200
    assert answer["model"] == "cook"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Boil it for **eight** minutes."},
            "finish_reason": "stop",
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
    assert '{"error": {"message": "The answer broke off' in sent
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
    assert "The model server failed" in reply.json()["detail"]
    assert b"canary" not in reply.content


def test_without_a_live_policy_nobody_answers(call: Call) -> None:
    reply = call(CHAT, {"messages": MESSAGES})
    assert (reply.status_code, reply.json()) == (
        409,
        {"detail": "No policy is live in this project."},
    )


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
        ({"messages": MESSAGES, "n": 2}, "n"),
        ({"messages": MESSAGES, "n": 10**9}, "n"),
        ({"messages": MESSAGES, "max_tokens": 10**9}, "max_tokens"),
        ({"messages": MESSAGES, "max_tokens": 0}, "max_tokens"),
        ({"messages": MESSAGES, "max_completion_tokens": 4097}, "max_completion_tokens"),
        ({"messages": MESSAGES, "temperature": -1}, "temperature"),
        ({"messages": MESSAGES, "temperature": 3}, "temperature"),
        ({"messages": MESSAGES, "model": "gpt-4"}, "model"),
        ({"messages": MESSAGES, "tools": []}, "tools"),
        ({"messages": MESSAGES, "stream": "perhaps"}, "stream"),
    ],
)
def test_it_names_the_field_that_is_wrong(
    live: Policy, call: Call, model_server: ModelServer, body: dict[str, Any], field: str
) -> None:
    reply = call(CHAT, body)
    assert reply.status_code == 400
    assert list(reply.json()) == [field]
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
        assert (reply.status_code, reply.json()) == (200, sent)
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
        ({"thumb": "up", "reasons": ["nonsense"]}, "reasons"),
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
    assert list(reply.json()) == [field]
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
        assert (reply.status_code, reply.json()) == (404, {"detail": "No such completion."})
    assert not Feedback.objects.exists()


def test_it_lists_the_policies_of_the_project(
    live: Policy, call: Call, issue: Callable[..., str], mallory: User
) -> None:
    found = call(POLICIES).json()
    assert found["count"] == 1
    assert found["results"][0] | {"created_at": ""} == {
        "name": "cook",
        "description": "",
        "state": "live",
        "origin": "prompted",
        "created_at": "",
    }
    hers = issue(project=mallory.memberships.get().project, user=mallory)
    assert call(POLICIES, token=hers).json()["results"] == []
    assert call(POLICIES + "?limit=-1&offset=x").status_code == 200


ALL = [(CHAT, {"messages": MESSAGES}), (FEEDBACK, {}), (POLICIES, None)]


@pytest.mark.parametrize(("address", "body"), ALL)
def test_nobody_comes_in_without_a_token(
    client: Client, gus: User, live: Policy, address: str, body: Any
) -> None:
    client.force_login(gus)  # a session is not a token
    send = client.get if body is None else client.post
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer fs_guess"},
        {"Authorization": "Bearer \u00e9"},
        {"Authorization": "Basic Z3VzOmd1cw=="},
        {"Authorization": "Token fs_guess"},
    ):
        reply = send(address, headers=headers)
        assert reply.status_code == 401
        assert reply["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("address", "body"), ALL)
def test_a_token_beside_a_session_is_refused(
    client: Client, gus: User, live: Policy, call: Call, address: str, body: Any
) -> None:
    client.force_login(gus)
    reply = call(address, body)
    assert reply.status_code == 401
    assert "not both" in reply.json()["detail"]


@pytest.mark.parametrize(("address", "body"), ALL)
@pytest.mark.parametrize("spoil", ["expired", "revoked", "paused", "left", "inactive"])
def test_a_token_dies_with_what_it_rests_on(
    call: Call,
    issue: Callable[..., str],
    gus: User,
    live: Policy,
    address: str,
    body: Any,
    spoil: str,
) -> None:
    token = issue(expires_at=timezone.now() + timedelta(hours=1))
    assert call(address, body, token=token).status_code in (200, 400)
    if spoil == "expired":
        ApiToken.objects.update(expires_at=timezone.now())
    elif spoil == "revoked":
        ApiToken.objects.get().revoke()
    elif spoil == "paused":
        gus.memberships.update(state=Membership.State.PAUSED)
    elif spoil == "left":
        gus.memberships.all().delete()
    else:
        User.objects.update(is_active=False)
    assert call(address, body, token=token).status_code == 401


@pytest.mark.parametrize(
    ("address", "body", "scope"),
    [(CHAT, {"messages": MESSAGES}, "chat"), (FEEDBACK, {}, "feedback"), (POLICIES, None, "read")],
)
def test_a_token_does_what_it_was_made_for(
    call: Call, issue: Callable[..., str], live: Policy, address: str, body: Any, scope: str
) -> None:
    others = [each for each in ApiToken.Scope.values if each != scope]
    assert call(address, body, token=issue(scopes=others)).status_code == 403
    assert call(address, body, token=issue(scopes=[scope])).status_code in (200, 400)


def test_only_a_digest_of_a_token_is_kept(issue: Callable[..., str]) -> None:
    secrets = {issue() for _ in range(50)}
    assert len(secrets) == 50
    for token in ApiToken.objects.all():
        secret = next(each for each in secrets if ApiToken.digest(each) == token.sha256)
        assert len(secret) >= 46  # 256 bits
        assert secret.startswith(token.prefix)
        assert secret not in str([str(value) for value in vars(token).values()])


def test_a_token_is_made_and_revoked_from_the_command_line(
    project: Project, gus: User, call: Call
) -> None:
    out = StringIO()
    call_command("api_token", project="cooking", user="gus", days=3, stdout=out, stderr=StringIO())
    secret = out.getvalue().strip()
    token = ApiToken.objects.get()
    assert (token.user, token.scopes) == (gus, ["chat", "feedback"])
    assert timedelta(days=2) < token.expires_at - timezone.now() <= timedelta(days=3)
    assert call(FEEDBACK, {}, token=secret).status_code == 400
    assert call(POLICIES, token=secret).status_code == 403
    call_command("api_token", project="cooking", revoke=token.prefix, stdout=StringIO())
    assert call(FEEDBACK, {}, token=secret).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"project": "nowhere"}, "no project “nowhere”"),
        ({"project": "cooking"}, "Name a member of Cooking"),
        ({"project": "cooking", "user": "mallory"}, "Name a member of Cooking"),
        ({"project": "cooking", "user": "gus", "days": 0}, "1 or more"),
        ({"project": "cooking", "revoke": "fs_x"}, "0 tokens of Cooking"),
    ],
)
def test_the_command_says_what_is_wrong(
    project: Project, gus: User, mallory: User, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("api_token", **arguments)
    assert not ApiToken.objects.exists()


def test_the_schema_is_for_those_who_may_call(client: Client, call: Call, gus: User) -> None:
    assert client.get("/api/schema/").status_code == 401
    described = call("/api/schema/")
    assert described.status_code == 200
    for address in (CHAT, FEEDBACK, POLICIES):
        assert f"  {address}:" in described.content.decode()
    client.force_login(gus)
    assert client.get("/api/schema/").status_code == 200
