"""OpenAI's newer shape of a chat over the gateway, as its own client sends and reads it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from annotate.models import Conversation, Message, Policy, User
from tests.annotate.test_gateway_tools import ASKED, CALL, TOOL, asks_the_weather
from tests.model_server import ModelServer
from tests.rest import Api

QUESTION = "How do I boil an egg?"
SAID = "Boil it for **eight** minutes."
WEATHER: Any = {"type": "function", **TOOL["function"]}


@pytest.fixture
def client(live_server: Any, olga: User) -> OpenAI:
    token = Api(olga).headers["Authorization"].removeprefix("Bearer ")
    return OpenAI(base_url=f"{live_server.url}/v1", api_key=token, max_retries=0)


def test_a_text_is_answered(client: OpenAI, live: Policy, model_server: ModelServer) -> None:
    said = client.responses.create(
        model="live", input=QUESTION, instructions="Be short.", max_output_tokens=9, user="u-1"
    )
    assert (said.output_text, said.status, said.model) == (SAID, "completed", "cook")
    assert said.usage and said.usage.output_tokens == 8
    sent = model_server.asked[-1]
    assert sent["max_tokens"] == 9
    *_, user = sent["messages"]
    assert user == {"role": "user", "content": QUESTION}
    assert "Be short." in str(sent["messages"])
    exchange = Message.objects.get(public_id=said.id)
    assert exchange.conversation.improves_model and exchange.conversation.end_user


def test_an_answer_cut_short_says_so(
    client: OpenAI, live: Policy, model_server: ModelServer
) -> None:
    model_server.finish_reason = "length"
    said = client.responses.create(model="live", input=QUESTION)
    assert said.status == "incomplete" and said.incomplete_details
    assert said.incomplete_details.reason == "max_output_tokens"


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_the_events_of_a_stream_are_those_the_client_puts_together(
    client: OpenAI, live: Policy, model_server: ModelServer
) -> None:
    with client.responses.stream(model="live", input=QUESTION) as stream:
        events = list(stream)
        assert stream.get_final_response().output_text == SAID
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == sorted(
        event.sequence_number for event in events
    )


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_a_failure_in_a_stream_is_told(
    client: OpenAI, live: Policy, model_server: ModelServer
) -> None:
    model_server.breaks_after = 1
    *_, last = client.responses.create(model="live", input=QUESTION, stream=True)
    assert last.type == "response.failed" and last.response.error
    assert last.response.error.message


def test_the_next_turn_names_the_one_before(
    client: OpenAI, live: Policy, model_server: ModelServer
) -> None:
    first = client.responses.create(model="live", input=QUESTION, instructions="Be short.")
    second = client.responses.create(
        model="live", input="And two?", previous_response_id=first.id, instructions="Be kind."
    )
    assert second.previous_response_id == first.id
    assert Message.objects.get(public_id=second.id).asked == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": SAID},
        {"role": "user", "content": "And two?"},
    ]


@pytest.mark.parametrize("wrong", ["unknown", "not stored", "of another end user", "of another"])
def test_only_an_own_and_stored_answer_can_be_named(
    client: OpenAI, live: Policy, model_server: ModelServer, rita: User, wrong: str
) -> None:
    first = client.responses.create(
        model="live", input=QUESTION, user="u-1", store=wrong != "not stored"
    )
    if wrong == "of another":
        Conversation.objects.update(guest=rita)
    named = str(uuid.uuid4()) if wrong == "unknown" else first.id
    asking = "u-2" if wrong == "of another end user" else "u-1"
    with pytest.raises(NotFoundError) as refused:
        client.responses.create(
            model="live", input="And two?", previous_response_id=named, user=asking
        )
    assert refused.value.param == "previous_response_id"
    assert refused.value.code == "previous_response_not_found"


def test_a_tool_is_called_and_its_answer_read(
    client: OpenAI, chef: Policy, model_server: ModelServer
) -> None:
    asks_the_weather(model_server)
    asked: Any = [{"role": "user", "content": ASKED[0]["content"]}]
    first = client.responses.create(
        model="chef",
        input=asked,
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
    )
    [call] = first.output
    assert call.type == "function_call"
    assert (call.name, call.call_id, call.arguments) == ("weather", "call_1", '{"town": "Bergen"}')
    assert model_server.asked[-1]["tools"] == [TOOL]
    assert model_server.asked[-1]["tool_choice"]["function"] == {"name": "weather"}
    model_server.raw = []
    result = {"type": "function_call_output", "call_id": "call_1", "output": "Rain."}
    second = client.responses.create(
        model="chef",
        input=[*asked, *(each.model_dump() for each in first.output), result],
        tools=[WEATHER],
    )
    assert second.output_text
    assert model_server.asked[-1]["messages"][-1]["tool_call_id"] == "call_1"
    assert model_server.asked[-1]["messages"][-2]["tool_calls"] == [CALL]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_a_call_of_a_tool_streams(client: OpenAI, chef: Policy, model_server: ModelServer) -> None:
    asks_the_weather(model_server)
    with client.responses.stream(model="chef", input=QUESTION, tools=[WEATHER]) as stream:
        [call] = stream.get_final_response().output
    assert call.type == "function_call" and call.arguments == '{"town": "Bergen"}'


def test_a_form_of_the_answer_is_passed_on(
    client: OpenAI, chef: Policy, model_server: ModelServer
) -> None:
    form: Any = {"type": "json_schema", "name": "egg", "schema": {"type": "object"}, "strict": True}
    client.responses.create(model="chef", input=QUESTION, text={"format": form})
    passed = model_server.asked[-1]["response_format"]
    assert passed["type"] == "json_schema"
    assert passed["json_schema"] == {"name": "egg", "schema": {"type": "object"}, "strict": True}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"input": []}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
    ({"input": [{"type": "function_call_output", "output": "Rain."}]}, "input[0].call_id"),
    ({"input": [{"role": "assistant", "content": "Hi"}]}, "input"),
    ({"input": [{"type": "reasoning", "summary": []}]}, "input[0].summary"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [WEATHER], "tool_choice": "perhaps"}, "tool_choice"),
    ({"tools": [WEATHER]}, "tools"),  # the site's own server cannot call them
    ({"text": {"format": {"type": "json_object"}}}, "text"),
    ({"background": True}, "background"),
    ({"reasoning": {"effort": "high"}}, "reasoning"),
    ({"truncation": "auto"}, "truncation"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
]


@pytest.mark.parametrize(("wrong", "where"), WRONG)
def test_what_is_wrong_is_named(
    client: OpenAI, live: Policy, wrong: dict[str, Any], where: str
) -> None:
    sent: Any = {"model": "live", "input": QUESTION, **wrong}
    with pytest.raises(BadRequestError) as refused:
        client.responses.create(**sent)
    assert refused.value.param == where, refused.value.body
    assert not Message.objects.exists()
