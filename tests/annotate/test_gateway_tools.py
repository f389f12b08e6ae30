"""Tools over the gateway, as OpenAI's own client sends and reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from annotate.models import Conversation, Message, Policy, User
from tests.model_server import ModelServer
from tests.rest import Api

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
ASKED: Any = [{"role": "user", "content": "Do I need an umbrella in Bergen?"}]
CALL: Any = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"town": "Bergen"}'},
}
PIECES = [
    {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather"}},
    {"index": 0, "function": {"arguments": '{"town": '}},
    {"index": 0, "function": {"arguments": '"Bergen"}'}},
]


def asks_the_weather(server: ModelServer) -> None:
    deltas = [{"delta": {"tool_calls": [piece]}, "finish_reason": None} for piece in PIECES]
    choices = [*deltas, {"delta": {}, "finish_reason": "tool_calls"}]
    server.raw = [
        b"data: " + json.dumps({"choices": [{"index": 0, **each}]}).encode() + b"\n\n"
        for each in choices
    ] + [b"data: [DONE]\n\n"]


@pytest.fixture
def client(live_server: Any, olga: User) -> OpenAI:
    token = Api(olga).headers["Authorization"].removeprefix("Bearer ")
    return OpenAI(base_url=f"{live_server.url}/v1", api_key=token, max_retries=0)


def test_a_tool_is_called_and_its_answer_read(
    client: OpenAI, chef: Policy, model_server: ModelServer
) -> None:
    asks_the_weather(model_server)
    first = client.chat.completions.create(
        model="chef", messages=ASKED, tools=[TOOL], tool_choice="auto"
    )
    assert first.choices[0].finish_reason == "tool_calls"
    said = first.choices[0].message
    assert said.content is None and said.tool_calls
    assert said.tool_calls[0].model_dump(exclude_none=True) == CALL
    sent = model_server.asked[-1]
    assert (sent["tools"], sent["tool_choice"]) == ([TOOL], "auto")
    model_server.raw = []
    result: Any = {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}
    talk = [*ASKED, said.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(model="chef", messages=talk, tools=[TOOL])
    assert second.choices[0].message.content
    assert model_server.asked[-1]["messages"][-1] == result
    assert model_server.asked[-1]["messages"][-2]["tool_calls"] == [CALL]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_the_pieces_of_a_call_stream(
    client: OpenAI, chef: Policy, model_server: ModelServer
) -> None:
    asks_the_weather(model_server)
    with client.chat.completions.stream(model="chef", messages=ASKED, tools=[TOOL]) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls and message.tool_calls[0].function.arguments == '{"town": "Bergen"}'


def test_calls_of_tools_never_become_data(
    client: OpenAI, chef: Policy, model_server: ModelServer
) -> None:
    asks_the_weather(model_server)
    client.chat.completions.create(model="chef", messages=ASKED, tools=[TOOL])
    assert not Conversation.objects.get().improves_model
    assert Message.objects.get(role="assistant").sampling["tools"] == [TOOL]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function"),
    ({"tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice"),
    ({"messages": [*ASKED, {"role": "tool", "tool_call_id": "x", "content": "?"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "", "tool_calls": [CALL]}]}, "messages[0]"),
]


@pytest.mark.parametrize(("wrong", "where"), WRONG)
def test_what_is_wrong_is_named(
    client: OpenAI, chef: Policy, wrong: dict[str, Any], where: str
) -> None:
    sent: Any = {"messages": ASKED, **wrong}
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(model="chef", **sent)
    assert str(refused.value.param).startswith(where), refused.value.body
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"tools": [TOOL]}, "tools"),
        (
            {
                "messages": [
                    *ASKED,
                    {"role": "assistant", "content": "", "tool_calls": [CALL]},
                    {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
                ]
            },
            "messages",
        ),
    ],
)
def test_a_model_of_the_site_takes_no_tools(
    client: OpenAI, live: Policy, sent: Any, field: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(**{"model": "live", "messages": ASKED, **sent})
    assert (refused.value.param, refused.value.code) == (field, "unsupported_parameter")


def test_addresses_that_are_not_here_are_named(client: OpenAI, live: Policy) -> None:
    with pytest.raises(Exception, match="There is no POST /v1/embeddings here"):
        client.embeddings.create(model="live", input="Hi")
    with pytest.raises(Exception, match="There is no GET /v1/responses/resp_1 here"):
        client.responses.retrieve("resp_1")
