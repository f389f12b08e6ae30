"""The client of the model server, against a server over real HTTP."""

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from annotate.chat import inference
from annotate.chat.inference import InferenceError
from annotate.connections import client
from annotate.models import Policy
from tests.model_server import ModelServer

QUESTION = [{"role": "user", "content": "How do I boil an egg?"}]


def cook(**fields: Any) -> Policy:
    return Policy(**{"name": "cook", "model_name": "cook-1", "max_new_tokens": 64, **fields})


def heard(policy: Policy, messages: list[dict[str, str]] = QUESTION) -> tuple[str, str]:
    """The text that came, and why it ended."""

    async def listen() -> tuple[str, str]:
        text = reason = ""
        async for delta in inference.stream(policy, messages):
            text += delta.text
            reason = delta.finish_reason
        return text, reason

    return asyncio.run(listen())


def test_it_streams_the_pieces_as_they_come(model_server: ModelServer) -> None:
    async def pieces() -> list[str]:
        return [delta.text async for delta in inference.stream(cook(), QUESTION)]

    assert asyncio.run(pieces()) == ["", "Boil it ", "for **eight** ", "minutes.", ""]
    assert heard(cook())[1] == "stop"


def test_it_asks_as_the_policy_says(model_server: ModelServer) -> None:
    heard(cook(temperature=0.2))
    assert model_server.asked == [
        {
            "model": "cook-1",
            "messages": QUESTION,
            "stream": True,
            "temperature": 0.2,
            "top_p": 1.0,
            "max_tokens": 64,
            "stream_options": {"include_usage": True},
        }
    ]


@pytest.mark.parametrize(
    "spelt",
    [
        "<|im_end|>",
        "<end_of_turn>",
        "</s>",
        "[/INST]",
        "<<SYS>>",
        "<\uff5cUser\uff5c>",
        "<|EOT_ID|>",
    ],
)
def test_a_guest_cannot_spell_a_control_token_to_a_server_we_know_nothing_of(
    model_server: ModelServer, spelt: str
) -> None:
    heard(cook(), [{"role": "user", "content": f"say {spelt} now"}])
    (told,) = model_server.asked[0]["messages"]
    assert spelt not in told["content"]
    assert told["content"].replace("\u2060", "") == f"say {spelt} now"


def test_ordinary_text_leaves_as_it_is(model_server: ModelServer) -> None:
    text = "if a < b | c > d: <b>bold</b> [INSTANCE] <s x> 5 <6> \u00e9 🙂"
    heard(cook(), [{"role": "user", "content": text}])
    assert model_server.asked[0]["messages"] == [{"role": "user", "content": text}]


GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for message in messages %}{{ '<turn:' + message['role'] + '>' }}"
    "{{ message['content'] | trim }}<turn:end>{% endfor %}"
)


def model_folder(folder: Path, template: str) -> None:
    folder.mkdir(parents=True)
    names = ["<eos>", "<turn:end>", "<turn:user>", "<turn:assistant>", "\n"]
    added = [{"id": i, "content": name, "special": i < 4} for i, name in enumerate(names)]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": template, "eos_token": "<eos>"})
    )
    (folder / "generation_config.json").write_text(
        json.dumps({"top_k": 1, "repetition_penalty": 1.5, "eos_token_id": 0})
    )
    (folder / "config.json").write_text("{}")


def test_a_folder_is_sampled_alike_whatever_its_generation_config_says(
    model_server: ModelServer, settings: Settings, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    model_folder(tmp_path / "models/egg", GEMMA)
    heard(cook(model_name="", folder="models/egg", temperature=0.5))
    assert json.loads(model_server.asked[0]["generation_config"]) == {
        **inference.PLAIN,
        "do_sample": True,
        "temperature": 0.5,
        "top_p": 1.0,
        "max_new_tokens": 64,
        "eos_token_id": [0, 1],  # the template ends a turn by another token than the tokenizer
        "pad_token_id": 0,
    }


def test_a_system_message_is_told_as_the_template_takes_it(
    model_server: ModelServer, settings: Settings, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    model_folder(tmp_path / "models/egg", GEMMA)
    model_folder(tmp_path / "models/free", GEMMA.replace("raise_exception('no system')", "''"))
    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "say <turn:end>"},
    ]
    heard(cook(model_name="", folder="models/egg"), asked)
    heard(cook(model_name="", folder="models/free"), asked)
    spelt = "say <\u2060turn:end>"
    folded, plain = (request["messages"] for request in model_server.asked)
    assert folded == [{"role": "user", "content": f"Be brief.\n\n{spelt}"}]
    assert plain == [asked[0], {"role": "user", "content": spelt}]


def test_it_names_weights_by_their_whole_path(
    model_server: ModelServer, settings: Settings
) -> None:
    heard(cook(model_name="", folder="models/egg"))
    assert model_server.asked[0]["model"] == str(settings.DATA_DIR / "models/egg")


def test_it_gets_a_whole_answer_at_once(model_server: ModelServer) -> None:
    answer = inference.complete(cook(), QUESTION, max_tokens=7)
    assert (answer.text, answer.finish_reason) == ("Boil it for **eight** minutes.", "stop")
    assert model_server.asked[0]["max_tokens"] == 7


def test_it_warms_a_policy_with_one_token(model_server: ModelServer) -> None:
    inference.warm(cook())
    assert model_server.asked[0]["max_tokens"] == 1


def test_it_keeps_its_key_for_its_own_server(model_server: ModelServer, settings: Settings) -> None:
    settings.INFERENCE_API_KEY = "a canary"
    heard(cook())
    elsewhere = model_server.url.replace("127.0.0.1", "localhost")
    settings.INFERENCE_ENDPOINTS = [elsewhere]
    heard(cook(endpoint=elsewhere + "/"))
    with_key, without_key = model_server.asked_with
    assert with_key["Authorization"] == "Bearer a canary"
    assert "Authorization" not in without_key


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254/latest",
        "http://127.0.0.1:5432/v1",
        "{url}/../admin",
        "{url}@elsewhere.example/v1",
        "file:///etc/passwd",
    ],
)
def test_it_calls_no_address_the_installation_did_not_name(
    model_server: ModelServer, endpoint: str
) -> None:
    with pytest.raises(InferenceError, match="may not call"):
        heard(cook(endpoint=endpoint.format(url=model_server.url)))
    assert model_server.asked == []


def test_it_follows_no_redirect(model_server: ModelServer) -> None:
    model_server.status = 307
    model_server.headers = {"Location": model_server.url + "/chat/completions"}
    for ask in (heard, lambda policy: inference.complete(policy, QUESTION)):
        with pytest.raises(InferenceError, match="do not follow"):
            ask(cook())
    assert len(model_server.asked) == 2


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (500, "Internal Server Error", "The model server failed on this"),
        (404, '{"detail": "no such model"}', "does not know the policy “cook”"),
        (401, "", "does not accept this site's key"),
        (503, "", "busy"),
        (429, "", "busy"),
        (400, '{"message": "maximum context length is 512 tokens"}', "more than the model"),
        (422, '{"detail": "Unexpected fields"}', "The model server failed on this"),
    ],
)
def test_it_says_in_words_what_the_server_refused(
    model_server: ModelServer, status: int, body: str, sentence: str
) -> None:
    model_server.status, model_server.body = status, body
    with pytest.raises(InferenceError, match=sentence) as streaming:
        heard(cook())
    with pytest.raises(InferenceError, match=sentence):
        inference.complete(cook(), QUESTION)
    assert str(status) in streaming.value.detail
    assert not body or body not in str(streaming.value)


def test_it_says_that_the_weights_are_missing(model_server: ModelServer) -> None:
    model_server.status = 500
    with pytest.raises(InferenceError, match="files of the policy “cook” are missing"):
        heard(cook(model_name="", folder="models/gone"))


def test_it_says_that_nobody_is_listening(settings: Settings) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        settings.INFERENCE_URL = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        for ask in (heard, inference.warm):
            with pytest.raises(InferenceError) as refused:
                ask(cook())
            assert str(refused.value) == inference.NOT_ANSWERING


def test_it_says_that_no_server_is_set_up(settings: Settings) -> None:
    settings.INFERENCE_URL = ""
    with pytest.raises(InferenceError, match="INFERENCE_URL is empty"):
        heard(cook())


def test_it_does_not_wait_for_ever(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_server.waits = True
    monkeypatch.setattr(client, "TIMEOUT", httpx.Timeout(0.2))
    with pytest.raises(InferenceError) as slow:
        heard(cook())
    assert str(slow.value) == inference.TOO_SLOW


@pytest.mark.parametrize("breaks_after", [0, 1, 2])
def test_it_notices_an_answer_that_breaks_off(model_server: ModelServer, breaks_after: int) -> None:
    model_server.breaks_after = breaks_after
    with pytest.raises(InferenceError, match="was interrupted"):
        heard(cook())


@pytest.mark.parametrize(
    "body",
    [
        "data: {not json\n\n",
        'data: {"error": "`temperature` is "bad" here"}\n\n',  # as transformers writes it
        "data: []\n\n",
        'data: {"choices": [{"delta": []}]}\n\n',
        'data: {"choices": "none"}\n\n',
        "<html>Welcome</html>",
        "",
    ],
)
def test_it_takes_nonsense_for_an_answer_that_broke_off(
    model_server: ModelServer, body: str
) -> None:
    model_server.body = body or " "
    for ask in (heard, lambda policy: inference.complete(policy, QUESTION)):
        with pytest.raises(InferenceError, match="was interrupted"):
            ask(cook())


def test_it_reports_an_error_that_comes_in_the_stream(model_server: ModelServer) -> None:
    model_server.body = 'data: {"error": {"message": "maximum context length"}}\n\n'
    with pytest.raises(InferenceError, match="more than the model can read"):
        heard(cook())


@pytest.mark.parametrize(
    "line",
    [
        "",
        ": a comment",
        "event: ping",
        "id: 7",
        "retry: 1000",
        "data",
        "data:",
        "\ufeff: a comment",
        'data: {"choices": []}',
        'data: {"choices": null}',
        'data: {"usage": {}}',
        'data: {"choices": [{"delta": {"content": null}, "finish_reason": null}]}',
        'data: {"choices": [{"delta": null}], "error": null}',
    ],
)
def test_it_passes_over_what_is_not_a_piece(model_server: ModelServer, line: str) -> None:
    end = 'data: {"choices": [{"delta": {"content": "Yes."}, "finish_reason": "stop"}]}'
    model_server.body = f"{line}\r\n\r\n{end}\r\n\r\n"
    assert heard(cook()) == ("Yes.", "stop")


def piece(text: str | None, reason: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return json.dumps({"choices": [choice]}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (f"data: {piece('All of it')}\n\ndata: [DONE]\n\n", "All of it"),
        (f"data: {piece('All of it')}\n\ndata: [DONE]", "All of it"),
        (f"data: {piece('All of it')}\r\n\r\ndata:[DONE]\r\n\r\n", "All of it"),
        (f"data: {piece('All of it')}\n\ndata: [DONE] \n\n: late\n\n", "All of it"),
        (
            f"data: {piece('All of it')}\n\n"
            'data: {"choices": [], "usage": {"prompt_tokens": 3}}\n\ndata: [DONE]\n\n',
            "All of it",
        ),
        (f"data: {piece(None)}\n\ndata: [DONE]\n\n", ""),
    ],
)
def test_done_ends_an_answer_that_names_no_reason(
    model_server: ModelServer, body: str, answer: str
) -> None:
    model_server.body = body
    assert heard(cook()) == (answer, "stop")


@pytest.mark.parametrize("end", ["", "data: ", "data: [DON", "data: {", ": [DONE]\n\n"])
def test_an_answer_that_nothing_ends_broke_off(model_server: ModelServer, end: str) -> None:
    model_server.body = f"data: {piece('Half of')}\n\n{end}"
    with pytest.raises(InferenceError, match="was interrupted"):
        heard(cook())


def test_done_without_any_piece_is_no_answer(model_server: ModelServer) -> None:
    model_server.body = "data: [DONE]\n\n"
    with pytest.raises(InferenceError, match="was interrupted"):
        heard(cook())


@pytest.mark.parametrize("none", [None, "", {}])
def test_an_error_that_is_none_is_none(model_server: ModelServer, none: object) -> None:
    chunk = {**json.loads(piece("Yes.", "stop")), "error": none}
    model_server.body = f"data: {json.dumps(chunk)}\n\n"
    assert heard(cook()) == ("Yes.", "stop")
    whole = {"choices": [{"message": {"content": "Yes."}}], "error": none}
    model_server.body = json.dumps(whole)
    assert inference.complete(cook(), QUESTION).text == "Yes."


@pytest.mark.parametrize(
    "error",
    [{"error": {"message": "out of memory"}}, {"object": "error", "message": "out of memory"}],
)
def test_an_error_in_the_midst_of_an_answer_is_not_its_end(
    model_server: ModelServer, error: dict[str, Any]
) -> None:
    model_server.body = f"data: {piece('Half')}\n\ndata: {json.dumps(error)}\n\ndata: [DONE]\n\n"
    with pytest.raises(InferenceError, match="failed on this") as failed:
        heard(cook())
    assert "out of memory" in failed.value.detail
    model_server.body = json.dumps(error)
    with pytest.raises(InferenceError, match="failed on this"):
        inference.complete(cook(), QUESTION)


WHOLE = "Ein Ei \U0001f600 七分钟 é \u2028\x85\x0b\x0c 👩‍🍳"  # with line ends that are none here


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("before", ["data: ", "data:"])
@pytest.mark.parametrize("gap", [1, 2])
def test_an_answer_arrives_whole_however_the_bytes_are_cut(
    model_server: ModelServer, line_end: str, size: int, before: str, gap: int
) -> None:
    lines = [piece(WHOLE[:9]), piece(WHOLE[9:]), piece("", "stop"), "[DONE]"]
    body = "\ufeff: hello" + "".join(line_end * gap + before + line for line in lines)
    sent = (body + line_end).encode()
    model_server.raw = [sent[i : i + size] for i in range(0, len(sent), size)]
    assert heard(cook()) == (json.loads(json.dumps(WHOLE)), "stop")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 10_000])
def test_an_event_may_have_several_lines_of_data(
    model_server: ModelServer, line_end: bytes, size: int
) -> None:
    chunk = json.dumps(json.loads(piece("Yes.", "stop")), indent=1).encode()
    sent = line_end.join([b"data: " + line for line in chunk.splitlines()] + [b"", b""])
    model_server.raw = [sent[i : i + size] for i in range(0, len(sent), size)]
    assert heard(cook()) == ("Yes.", "stop")


@pytest.mark.parametrize("character", ["\U0001f600", "\U0001f480", "👩‍🍳"])
@pytest.mark.parametrize("ends", ["stop", None])
def test_a_character_arrives_whole_whose_halves_come_one_by_one(
    model_server: ModelServer, character: str, ends: str | None
) -> None:
    units = character.encode("utf-16-le")
    halves = [
        units[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(units), 2)
    ]
    chunks = [json.dumps(json.loads(piece(""))).replace('""', json.dumps(half)) for half in halves]
    ended = [piece(None), *chunks, *([piece("", ends)] if ends else []), "[DONE]"]
    model_server.body = "".join(f"data: {chunk}\n\n" for chunk in ended)
    assert heard(cook()) == (character, "stop")


@pytest.mark.parametrize("character", ["é", "七", "\U0001f600"])
def test_a_character_arrives_whole_whose_bytes_are_in_different_events(
    model_server: ModelServer, character: str
) -> None:
    before, after = piece("<>").encode().split(b"<>")
    sent = [before + bytes([byte]) + after for byte in character.encode()]
    sent = [before + b"a" + after, *sent, before + b"z" + after, b"[DONE]"]
    model_server.raw = [b"data: " + chunk + b"\n\n" for chunk in sent]
    assert heard(cook()) == (f"a{character}z", "stop")


@pytest.mark.parametrize(("half", "stands_for_it"), [("\ud83d", "?"), ("\ude00", "?")])
def test_half_a_character_that_stays_alone_takes_nothing_with_it(
    model_server: ModelServer, half: str, stands_for_it: str
) -> None:
    model_server.says = ["a", half, "b", half]
    assert heard(cook())[0] == f"a{stands_for_it}b{stands_for_it}"
    assert inference.complete(cook(), QUESTION).text == f"a{stands_for_it}b{stands_for_it}"


def test_what_comes_can_be_stored(model_server: ModelServer) -> None:
    model_server.says = ["a\x00b", "\ud800"]
    text, _ = heard(cook())
    assert text == "a\ufffdb?"


def test_it_ends_an_answer_that_does_not_end(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "LONGEST_ANSWER", 100)
    model_server.says = ["word " * 10] * 50
    text, reason = heard(cook())
    assert reason == "length"
    assert len(text) <= 150


@pytest.fixture
def small(settings: Settings, tmp_path: Path) -> Callable[..., Policy]:
    """A policy whose model reads 100 tokens."""
    settings.DATA_DIR = tmp_path
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").write_text(json.dumps({"max_position_embeddings": 100}))
    return lambda **fields: cook(model_name="", folder="small", **fields)


def test_it_does_not_send_more_than_the_model_can_read(
    model_server: ModelServer, small: Callable[..., Policy]
) -> None:
    with pytest.raises(InferenceError, match="more than the model can read"):
        heard(small(), [{"role": "user", "content": "egg " * 100}])
    assert model_server.asked == []


def test_it_leaves_the_answer_the_room_there_is(
    model_server: ModelServer, small: Callable[..., Policy]
) -> None:
    heard(small(), [{"role": "user", "content": "x" * 150}])
    heard(small(max_new_tokens=10), QUESTION)
    assert [request["max_tokens"] for request in model_server.asked] == [42, 10]


def test_it_throws_away_what_was_said_beyond_the_window(
    model_server: ModelServer, small: Callable[..., Policy]
) -> None:
    model_server.usage = {"prompt_tokens": 120, "completion_tokens": 3}
    with pytest.raises(InferenceError, match="more than the model can read"):
        heard(small(), [{"role": "user", "content": "中" * 40}])
