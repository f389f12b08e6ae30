"""Raw texts over the gateway, as OpenAI's own client sends and reads them."""

from __future__ import annotations

from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from annotate.models import Completion, Conversation, Message, Policy, User
from tests.model_server import ModelServer
from tests.rest import Api

BEGUN = "To boil an egg, "
SAID = "Boil it for **eight** minutes."


@pytest.fixture
def client(live_server: Any, olga: User) -> OpenAI:
    token = Api(olga).headers["Authorization"].removeprefix("Bearer ")
    return OpenAI(base_url=f"{live_server.url}/v1", api_key=token, max_retries=0)


def test_a_policy_goes_on_with_a_text_and_adds_no_prompt_of_its_own(
    client: OpenAI, live: Policy, model_server: ModelServer
) -> None:
    whole = client.completions.create(model="live", prompt=BEGUN, max_tokens=8, stop=["\n"])
    [choice] = whole.choices
    assert (choice.text, choice.finish_reason, whole.object) == (SAID, "stop", "text_completion")
    assert whole.usage and whole.usage.prompt_tokens == 4
    sent = model_server.asked[-1]
    assert model_server.asked_at[-1] == "/v1/completions"
    assert (sent["prompt"], sent["max_tokens"], sent["stop"]) == (BEGUN, 8, ["\n"])
    assert "messages" not in sent and "is_raw" not in sent
    answer = Message.objects.get(role="assistant")
    assert answer.is_raw and answer.context == [{"role": "user", "content": BEGUN}]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_it_streams(client: OpenAI, live: Policy, model_server: ModelServer) -> None:
    chunks = list(
        client.completions.create(
            model="live", prompt=BEGUN, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == SAID
    assert [choice.finish_reason for choice in chunks[-2].choices] == ["stop"]
    assert chunks[-1].usage and chunks[-1].usage.total_tokens == 12


def test_several_texts_have_n_answers_each(
    client: OpenAI, live: Policy, model_server: ModelServer
) -> None:
    whole = client.completions.create(model="live", prompt=["One", "Two"], n=2, seed=5)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    asked = sorted((sent["prompt"], sent["seed"]) for sent in model_server.asked)
    assert asked == [("One", 5), ("One", 6), ("Two", 5), ("Two", 6)]
    assert whole.usage and whole.usage.prompt_tokens == 2  # each prompt once


def test_a_raw_text_never_becomes_data(
    client: OpenAI, live: Policy, model_server: ModelServer, olga: User
) -> None:
    whole = client.completions.create(model="live", prompt=BEGUN)
    assert not Conversation.objects.get().improves_model
    reply = Api(olga)("POST", "feedback", {"completion_id": whole.id, "thumb": "up"}).json()
    assert reply["counts"] is False
    assert not Completion.objects.exists()


def test_a_server_that_has_no_such_address_is_named(
    client: OpenAI, live: Policy, model_server: ModelServer
) -> None:
    model_server.lacks = "/completions"
    with pytest.raises(NotFoundError) as refused:
        client.completions.create(model="live", prompt=BEGUN)
    assert "/v1/chat/completions" in str(refused.value)
    assert refused.value.code == "not_found"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": [[1, 2, 3]]}, "prompt[0]"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["x"] * 17}, "prompt"),
    ({"prompt": ["x"] * 5, "n": 4}, "n"),
    ({"logprobs": 3}, "logprobs"),
    ({"echo": True}, "echo"),
    ({"suffix": "The end."}, "suffix"),
    ({"best_of": 3}, "best_of"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"user": ""}, "user"),
]


@pytest.mark.parametrize(("wrong", "where"), WRONG)
def test_what_is_wrong_is_named(
    client: OpenAI, live: Policy, wrong: dict[str, Any], where: str
) -> None:
    sent: Any = {"model": "live", "prompt": BEGUN, **wrong}
    with pytest.raises(BadRequestError) as refused:
        client.completions.create(**sent)
    assert refused.value.param == where, refused.value.body
    assert not Message.objects.exists()


def test_what_asks_nothing_is_taken(client: OpenAI, live: Policy) -> None:
    sent: Any = {"echo": False, "best_of": 1, "suffix": "", "logit_bias": {}, "logprobs": None}
    sent |= {"presence_penalty": 0, "frequency_penalty": 0.0, "user": "u-1"}
    assert client.completions.create(model="live", prompt=BEGUN, **sent).choices[0].text == SAID
