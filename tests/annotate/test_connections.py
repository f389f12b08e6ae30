"""Connections: outside model servers, their keys, and what a policy may do through them."""

import asyncio
import io
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from annotate import jobs
from annotate.chat import inference
from annotate.chat.inference import InferenceError
from annotate.connections import addresses, catalogue, client
from annotate.connections.addresses import NotPublic, is_public, resolve, validate_base
from annotate.connections.client import Server, asking, asking_async
from annotate.connections.sealing import Unreadable, seal, unseal
from annotate.models import ApiToken, Connection, Grid, Policy, Project, User
from annotate.playground.grids import Column
from tests.chats import ask, pending, seen
from tests.model_server import ModelServer

CANARY = "sk-canary-7f3a91"
QUESTION = [{"role": "user", "content": "How do I boil an egg?"}]
EGG = "Boil it for **eight** minutes."
Browse = Callable[[User], Client]


def heard(policy: Policy) -> str:
    async def listen() -> str:
        return "".join([delta.text async for delta in inference.stream(policy, QUESTION)])

    return async_to_sync(listen)()


def whole(policy: Policy) -> str:
    return inference.complete(policy, QUESTION).text


WAYS = pytest.mark.parametrize("answer", [heard, whole])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


# Answers


@WAYS
def test_a_policy_answers_through_its_connection(
    chef: Policy, model_server: ModelServer, answer: Callable[[Policy], str]
) -> None:
    assert answer(Policy.objects.get(pk=chef.pk)) == EGG
    assert model_server.asked[0]["model"] == "cook-1"
    assert model_server.asked_with[0]["Authorization"] == f"Bearer {CANARY}"
    assert not chef.connection.places.exists()  # type: ignore[union-attr]


@WAYS
def test_a_wrong_key_is_named_as_the_cause(
    chef: Policy,
    model_server: ModelServer,
    answer: Callable[[Policy], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    model_server.key = "another"
    with pytest.raises(InferenceError, match="Kitchen AI does not accept its key") as refused:
        answer(chef)
    assert "Incorrect API key" in caplog.text
    assert CANARY not in caplog.text + refused.value.detail
    assert not chef.connection.places.exists()  # type: ignore[union-attr]


@WAYS
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(
    chef: Policy, model_server: ModelServer, status: int, answer: Callable[[Policy], str]
) -> None:
    model_server.fails_first = [status, status]
    assert answer(chef) == EGG
    assert len(model_server.asked) == 3


@WAYS
def test_a_server_that_stays_busy_is_asked_four_times(
    chef: Policy, model_server: ModelServer, answer: Callable[[Policy], str]
) -> None:
    model_server.fails_first = [429] * 9
    with pytest.raises(InferenceError, match="busy"):
        answer(chef)
    assert len(model_server.asked) == 4


@WAYS
@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_what_will_not_pass_is_not_asked_again(
    chef: Policy, model_server: ModelServer, status: int, answer: Callable[[Policy], str]
) -> None:
    model_server.fails_first = [status]
    with pytest.raises(InferenceError):
        answer(chef)
    assert len(model_server.asked) == 1


@WAYS
def test_it_waits_as_long_as_the_server_says(
    chef: Policy, model_server: ModelServer, answer: Callable[[Policy], str]
) -> None:
    model_server.fails_first, model_server.headers = [429], {"Retry-After": "1"}
    began = time.monotonic()
    assert answer(chef) == EGG
    assert time.monotonic() - began >= 1


@WAYS
def test_it_does_not_wait_an_hour(
    chef: Policy, model_server: ModelServer, answer: Callable[[Policy], str]
) -> None:
    model_server.fails_first = [429]
    model_server.headers = {"Retry-After": formatdate(time.time() + 3600, usegmt=True)}
    with pytest.raises(InferenceError, match="busy"):
        answer(chef)


def test_after_the_first_piece_nothing_is_asked_again(
    chef: Policy, model_server: ModelServer
) -> None:
    model_server.breaks_after = 1
    with pytest.raises(InferenceError, match=inference.BROKE_OFF):
        heard(chef)
    assert len(model_server.asked) == 1


@WAYS
@pytest.mark.parametrize("body", ["{", "[]", '{"choices": 3}', '{"choices": [{"message": 4}]}'])
def test_nonsense_breaks_off(
    chef: Policy, model_server: ModelServer, body: str, answer: Callable[[Policy], str]
) -> None:
    model_server.body = body
    with pytest.raises(InferenceError):
        answer(chef)


def test_a_huge_answer_is_not_read_to_its_end(
    chef: Policy, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_BYTES", 10_000)
    model_server.says = ["x" * 20_000]
    for answer in (heard, whole):
        with pytest.raises(InferenceError, match=inference.BROKE_OFF):
            answer(chef)


def test_a_line_without_end_is_not_read_to_its_end(chef: Policy, model_server: ModelServer) -> None:
    model_server.raw = [b"data: " + b"x" * 2**21]
    with pytest.raises(InferenceError, match=inference.BROKE_OFF):
        heard(chef)


@WAYS
def test_no_redirect_is_followed(
    chef: Policy, model_server: ModelServer, answer: Callable[[Policy], str]
) -> None:
    model_server.status, model_server.body = 307, "elsewhere"
    model_server.headers = {"Location": f"{model_server.url}/chat/completions"}
    with pytest.raises(InferenceError, match="do not follow"):
        answer(chef)
    assert len(model_server.asked) == 1


def test_no_more_requests_than_the_connection_allows(
    chef: Policy, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = chef.connection
    assert connection
    connection.parallel = 2
    connection.save()
    monkeypatch.setattr(inference, "LOOK_AGAIN", 0.01)
    model_server.waits = True

    async def all_at_once() -> list[str]:
        async def one() -> str:
            return "".join([delta.text async for delta in inference.stream(chef, QUESTION)])

        threading.Timer(1.0, model_server.go_on.set).start()
        return await asyncio.gather(*[one() for _ in range(6)])

    assert async_to_sync(all_at_once)() == [EGG] * 6
    assert model_server.most_at_once == 2
    assert not connection.places.exists()


@WAYS
def test_whoever_finds_no_place_is_told(
    chef: Policy,
    model_server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Policy], str],
) -> None:
    assert chef.connection
    for _ in range(chef.connection.parallel):
        assert chef.connection.take_place()
    monkeypatch.setattr(inference, "PLACE_SECONDS", 0.1)
    with pytest.raises(InferenceError, match="busy"):
        answer(chef)
    assert model_server.asked == []
    chef.connection.places.update(until="2020-01-01T00:00Z")  # of processes that died
    assert answer(chef) == EGG


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("https://api.openai.com/v1", {"max_completion_tokens": 64, "top_p": 1}),
        ("https://api.anthropic.com/v1", {"max_tokens": 64}),
        ("https://another.example/v1", {"max_tokens": 64, "top_p": 1}),
    ],
)
def test_providers_are_told_what_they_take(chef: Policy, base: str, told: dict[str, Any]) -> None:
    assert chef.connection
    chef.connection.base_url = base
    _, request = inference._request(chef, QUESTION, stream=False)
    names = ("max_tokens", "max_completion_tokens", "top_p")
    assert {name: request["json"][name] for name in names if name in request["json"]} == told


# Keys


def test_a_key_is_sealed_and_opens_only_with_a_secret_key_that_is_known(
    settings: Settings, connection: Connection
) -> None:
    first = settings.SECRET_KEY
    assert CANARY not in connection.sealed_key
    assert connection.server.key == CANARY
    assert CANARY not in repr(connection.server)
    settings.SECRET_KEY = "n" * 60
    with pytest.raises(Unreadable):
        unseal(connection.sealed_key)
    settings.SECRET_KEY_FALLBACKS = [first]
    call_command("reseal_keys")
    settings.SECRET_KEY_FALLBACKS = []
    connection.refresh_from_db()
    assert connection.server.key == CANARY
    assert seal("x") != seal("x")


def test_a_key_that_cannot_be_read_any_more_is_asked_for(
    settings: Settings, chef: Policy, model_server: ModelServer, olga: User, browse: Browse
) -> None:
    settings.SECRET_KEY = "n" * 60
    with pytest.raises(InferenceError, match="Enter it again"):
        heard(chef)
    page = browse(olga).post(_of("connections_test", chef.connection), follow=True)
    assert "Enter it again" in page.content.decode()
    assert model_server.asked == []


def test_the_key_is_in_no_page_export_dump_or_log(
    chef: Policy,
    model_server: ModelServer,
    olga: User,
    browse: Browse,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    connection, operator = chef.connection, browse(olga)
    chef.go_live()
    async_to_sync(seen)(pending(olga))
    model_server.key = "another"  # which makes the server repeat ours
    operator.post(_of("connections_test", connection))
    async_to_sync(seen)(pending(olga))
    pages = [
        operator.get(address, follow=True).content
        for address in (
            reverse("connections", args=["cooking"]),
            _of("connections_one", connection),
            reverse("policies", args=["cooking"]),
            reverse("policies_new", args=["cooking"]),
            reverse("policies_lineage", args=["cooking", chef.pk]),
            reverse("policies_lineage_json", args=["cooking", chef.pk]),
            reverse("playground", args=["cooking"]),
        )
    ]
    refused = operator.post(_of("connections_one", connection), {"name": "", "key": CANARY})
    pages.append(refused.content)
    for kind in ("prompts", "demonstrations", "rankings", "thumbs"):
        page = operator.get(reverse("prompts_export", args=["cooking", kind]))
        assert page.status_code == 200, kind
        pages.append(async_to_sync(_whole)(page))
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)
    assert "Kitchen AI" in dump.getvalue()
    assert b"Kitchen AI" in pages[0]
    assert "Incorrect API key" in caplog.text
    texts = [*(page.decode() for page in pages), dump.getvalue(), caplog.text]
    assert [text for text in texts if CANARY in text] == []


async def _whole(export: Any) -> bytes:
    return b"".join([part async for part in export])


# Addresses

FORBIDDEN = [
    *("127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.255", "0.0.0.0", "0.1.2.3"),
    *("10.0.0.0", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.20.10.2", "172.31.255.255"),
    *("192.168.0.1", "192.168.1.1", "192.168.255.255", "169.254.169.254", "169.254.0.1"),
    *("169.254.170.2", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.1"),
    *("192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9"),
    *("224.0.0.1", "224.0.0.251", "239.255.255.250", "232.1.2.3", "240.0.0.1", "250.1.1.1"),
    *("192.88.99.1", "168.63.129.16", "3fff::1", "5f00::1"),
    *("255.255.255.255", "::1", "::", "::2", "fe80::1", "fe80::dead:beef"),
    *("febf::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fdff:ffff::1", "fec0::1", "feff::1"),
    *("ff02::1", "ff01::1", "ff05::2", "ff0e::1", "2001:db8::1", "2001:db8:ffff::1", "100::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2002:7f00:1::", "2002:a00:1::1"),
    *("2002:c0a8:101::1", "2002:808:808::1", "64:ff9b::7f00:1", "64:ff9b::a00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b::c0a8:1", "64:ff9b:1::1", "::7f00:1", "::a00:1"),
]
MAPPED = [f"::ffff:{each}" for each in FORBIDDEN if each.count(".") == 3]
SPELLED = [
    *("localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "0x7f000001", "2130706433"),
    *("017700000001", "0177.0.0.1", "0x7f.0.0.1", "0", "0x0", "10.1", "192.168.257"),
    *("0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "[::1]", "[::]", "[::ffff:7f00:1]"),
]
NOWHERE = (NotPublic, httpx.ConnectError, httpx.InvalidURL)
ALL = [*FORBIDDEN, *MAPPED]


def test_no_forbidden_address_is_called(
    project: Project, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """Neither written down, nor spelled in another way, nor as what a name leads to."""
    settings.INFERENCE_URL, settings.INFERENCE_ENDPOINTS = "", []
    opened: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, to: opened.append(to))
    monkeypatch.setattr(socket, "create_connection", lambda to, *_, **__: opened.append(to))
    real = socket.getaddrinfo
    names = {f"n{number}.example": address for number, address in enumerate(ALL)}

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        return real(names.get(host, host), port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    written = [f"[{each}]" if ":" in each else each for each in ALL]
    hosts = [*written, *SPELLED, *names]
    assert len(hosts) > 150
    for host in hosts:
        server = Server(f"https://{host}:8443/v1", key=CANARY)
        with pytest.raises(NOWHERE), asking(server, "GET", "models"):
            pass
        with pytest.raises(NOWHERE):
            async_to_sync(_ask)(server)
    assert opened == []


async def _ask(server: Server) -> None:
    async with asking_async(server, "POST", "chat/completions", json={}):
        pass


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "104.18.7.192", "2606:4700::6812:7c0"])
def test_public_addresses_are_called(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    assert resolve(address, 443) == [address]


def test_a_name_with_one_private_address_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, 1, 6, "", (each, 443)) for each in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(NotPublic):
        resolve("both.example", 443)


def _ask_at_once(server: Server) -> None:
    with asking(server, "GET", "models"):
        pass


@pytest.mark.parametrize("ask_server", [_ask_at_once, async_to_sync(_ask)])
def test_the_call_goes_to_the_address_that_was_looked_at(
    monkeypatch: pytest.MonkeyPatch, ask_server: Callable[[Server], Any]
) -> None:
    """A name that leads elsewhere when it is looked up again deceives nobody."""
    lookups: list[str] = []
    called: list[Any] = []

    def look_up(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        lookups.append(host)
        to = "1.1.1.1" if lookups == ["rebinding.example"] else host
        if host == "rebinding.example" and len(lookups) > 1:
            to = "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (to, port))]

    def refuse(_: Any, to: Any) -> None:
        called.append(to)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    with pytest.raises(httpx.ConnectError):
        ask_server(Server("https://rebinding.example/v1"))
    assert lookups.count("rebinding.example") == 1
    assert {to[0] for to in called} <= {"1.1.1.1"}


@pytest.mark.parametrize(
    "base",
    [
        *("ftp://a.example/v1", "file:///etc/passwd", "//a.example", "a.example/v1", "https://"),
        *("https://me:pw@a.example/v1", "https://a.example/v1?x=1", "https://a.example/v1#x"),
        *("http://a.example/v1", "https://a.example:port/v1", "https://[::1/v1"),
        *("https://a.example/v1/chat/completions", "javascript:alert(1)", "https://0177.0.0.1/v1"),
    ],
)
def test_what_is_no_address_of_a_server_is_refused(base: str) -> None:
    with pytest.raises(ValidationError):
        validate_base(base)


def test_what_the_settings_name_may_be_private_and_without_tls(settings: Settings) -> None:
    settings.INFERENCE_ENDPOINTS = ["http://10.0.0.5:8000/v1"]
    validate_base("http://10.0.0.5:8000/v1")
    with pytest.raises(ValidationError):
        validate_base("http://10.0.0.5:8000/v2")


# Pages


def _of(name: str, connection: Connection | None) -> str:
    assert connection
    return reverse(name, args=["cooking", connection.pk])


FIELDS = {"name": "Kitchen AI", "parallel": 4, "price_in": "0.15", "price_out": "0.6"}


def test_an_operator_adds_a_connection_and_sees_that_it_works(
    project: Project, olga: User, browse: Browse, model_server: ModelServer, settings: Settings
) -> None:
    settings.INFERENCE_ENDPOINTS = [model_server.url]
    model_server.key = CANARY
    operator = browse(olga)
    assert b"No connections yet" in operator.get(reverse("connections", args=["cooking"])).content
    said = {**FIELDS, "base_url": model_server.url + "/", "key": CANARY}
    page = operator.post(reverse("connections_new", args=["cooking"]), said, follow=True)
    assert "Kitchen AI answers, and has 2 models." in page.content.decode()
    made = project.connections.get()
    assert (made.models_there, made.base_url) == (["cook-1", "cook-2"], model_server.url)
    assert made.server.key == CANARY
    listed = operator.get(reverse("connections", args=["cooking"])).content.decode()
    assert "works" in listed and "stored" in listed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"key": "another"}, "does not accept the key"),
        ({"status": 500}, "refused, with status 500"),
        ({"status": 404}, "lists no models"),
        ({"status": 302}, "sends us elsewhere"),
        ({"status": 429}, "busy"),
        ({"models": []}, "lists no models"),
        ({"body": "<html>"}, "no model server"),
        ({"body": '{"data": [3]}'}, "no model server"),
        ({"body": '{"data": "x"}'}, "no model server"),
        ({"body": "x" * 20_000}, "no model server"),
    ],
)
def test_a_test_says_what_is_wrong(
    connection: Connection,
    model_server: ModelServer,
    change: dict[str, Any],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "MOST_BYTES", 10_000)
    for name, value in change.items():
        setattr(model_server, name, value)
    catalogue.test(connection)
    connection.refresh_from_db()
    assert says in connection.trouble


def test_a_test_of_a_private_address_says_how_it_may_be_allowed(
    connection: Connection, settings: Settings, model_server: ModelServer
) -> None:
    settings.INFERENCE_ENDPOINTS = []
    catalogue.test(connection)
    assert "INFERENCE_ENDPOINTS" in connection.trouble
    assert model_server.listed == 0


def test_an_empty_key_keeps_the_one_there_is(
    connection: Connection, olga: User, browse: Browse
) -> None:
    said = {**FIELDS, "name": "Kitchen", "base_url": connection.base_url, "key": ""}
    browse(olga).post(_of("connections_one", connection), said)
    connection.refresh_from_db()
    assert (connection.name, connection.server.key) == ("Kitchen", CANARY)
    browse(olga).post(_of("connections_one", connection), {**said, "without_key": "on"})
    connection.refresh_from_db()
    assert not connection.has_key


def test_a_key_does_not_follow_to_another_address(
    connection: Connection, olga: User, browse: Browse, model_server: ModelServer
) -> None:
    """Else an operator could have it sent to a server of their own."""
    said = {**FIELDS, "base_url": "https://elsewhere.example/v1", "key": ""}
    page = browse(olga).post(_of("connections_one", connection), said)
    assert page.status_code == 422
    assert "enter the key again" in page.content.decode()
    connection.refresh_from_db()
    assert connection.base_url == model_server.url


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "sk-é", "tab\there"])
def test_what_is_no_key_is_refused(project: Project, olga: User, browse: Browse, key: str) -> None:
    said = {**FIELDS, "base_url": "https://a.example/v1", "key": key}
    page = browse(olga).post(reverse("connections_new", args=["cooking"]), said)
    assert page.status_code == 422
    assert key not in page.content.decode()
    assert not project.connections.exists()


def test_two_connections_have_two_names(connection: Connection, olga: User, browse: Browse) -> None:
    said = {**FIELDS, "base_url": connection.base_url}
    page = browse(olga).post(reverse("connections_new", args=["cooking"]), said)
    assert "already a connection" in page.content.decode()


def test_a_connection_that_policies_use_is_not_deleted(
    chef: Policy, olga: User, browse: Browse
) -> None:
    page = browse(olga).post(_of("connections_delete", chef.connection), follow=True)
    assert "policies use it: chef" in page.content.decode()
    chef.delete()
    page = browse(olga).post(_of("connections_delete", chef.connection), follow=True)
    assert "is deleted, with its key" in page.content.decode()
    assert not Connection.objects.exists()


# Policies


WORDS = {"temperature": "0.5", "max_new_tokens": "64", "system_prompt": "You are a cook."}


def test_a_policy_is_made_of_a_model_of_a_connection(
    connection: Connection, olga: User, browse: Browse, project: Project
) -> None:
    said = {**WORDS, "name": "chef", "connection": connection.pk, "model_name": "cook-2"}
    browse(olga).post(reverse("policies_new", args=["cooking"]), said)
    policy = project.policies.get(name="chef")
    assert (policy.connection, policy.model_name) == (connection, "cook-2")
    assert (policy.provider, policy.is_elsewhere) == ("Kitchen AI", True)
    lineage = browse(olga).get(reverse("policies_lineage_json", args=["cooking", policy.pk])).json()
    assert lineage["lineage"][0]["provider"] == "Kitchen AI"
    assert lineage["lineage"][0]["model"] == "cook-2"


def test_a_policy_is_made_of_a_model_folder(
    olga: User, browse: Browse, project: Project, settings: Settings, tmp_path: Any
) -> None:
    settings.DATA_DIR = tmp_path
    for folder in ("models/mine", "runs/1/model"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text("{}")
    address = reverse("policies_new", args=["cooking"])
    page = browse(olga).get(address).content.decode()
    assert "models/mine" in page and "runs/1/model" not in page
    browse(olga).post(address, {**WORDS, "name": "mine", "folder": "models/mine"})
    assert project.policies.get(name="mine").folder == "models/mine"
    for other in ("runs/1/model", "../elsewhere", "/etc"):
        page = browse(olga).post(address, {**WORDS, "name": "theirs", "folder": other})
        assert page.status_code == 422


def test_a_policy_needs_one_model_and_a_name_of_its_own(
    chef: Policy, olga: User, browse: Browse, mallory: User
) -> None:
    address = reverse("policies_new", args=["cooking"])
    theirs = Connection.objects.create(
        project=mallory.memberships.get().project, name="x", base_url="https://x.example/v1"
    )
    good = {**WORDS, "name": "new", "connection": chef.connection_id, "model_name": "cook-1"}
    for wrong, says in (
        ({"connection": ""}, "Choose either"),
        ({"model_name": ""}, "Choose a model"),
        ({"name": "chef"}, "already a policy"),
        ({"connection": theirs.pk}, "valid choice"),
        ({"few_shot": "no turns"}, "Begin each turn"),
    ):
        page = browse(olga).post(address, {**good, **wrong})
        assert (page.status_code, says in page.content.decode()) == (422, True), wrong


@pytest.mark.django_db(transaction=True)
def test_it_answers_in_the_playground_and_a_column_of_it_keeps_its_connection(
    chef: Policy, olga: User, browse: Browse, project: Project
) -> None:
    columns = [Column(chef.pk, system_prompt="Be short.", temperature=0.1, max_new_tokens=9)]
    grid = Grid.lay_out(project=project, author=olga, prompts=["Eggs?"], columns=columns)
    assert jobs.look() == 1
    assert grid.cells.get().text == EGG
    saved = grid.save_column(0, name="short chef")
    assert (saved.connection_id, saved.model_name) == (chef.connection_id, "cook-1")


def test_it_answers_in_the_chat(chef: Policy, gus: User, browse: Browse) -> None:
    chef.go_live()
    ask(browse(gus))
    answer = pending(gus)
    async_to_sync(seen)(answer)
    answer.refresh_from_db()
    assert (answer.text, answer.state) == (EGG, "done")


def test_it_answers_in_the_gateway_and_takes_what_only_servers_outside_can(
    chef: Policy, olga: User, client: Client, project: Project, model_server: ModelServer
) -> None:
    secret = ApiToken.issue(project=project, user=olga, name="t", scopes=["chat"])[1]
    said = {"model": "chef", "messages": QUESTION, "response_format": {"type": "json_object"}}
    bearer = {"Authorization": f"Bearer {secret}"}
    reply = client.post("/v1/chat/completions", said, "application/json", headers=bearer)
    assert reply.json()["choices"][0]["message"]["content"] == EGG
    assert model_server.asked[0]["response_format"] == {"type": "json_object"}


def test_the_public_addresses_are_told_apart_by_a_rule_and_not_by_a_list() -> None:
    assert addresses.is_public(ipaddress.ip_address("64:ff9b::808:808"))
