"""Webhooks: what happens is told, signed, once and in order, until it is taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from annotate import jobs
from annotate.labelling.queue import next_assignment
from annotate.models import Conversation, Delivery, Demonstration, Feedback, Project, User, Webhook
from annotate.webhooks import sending
from annotate.webhooks.models import Event, announce, validate_address
from annotate.webhooks.sending import deliver_waiting, signed


@dataclass
class Receiver:
    """A program outside that may be killed and revived at the same port."""

    port: int = 0
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/labels"

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    def live(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:  # noqa: N802 - named as http.server names it
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append((headers, body))
                self.send_response(receiver.status)
                if receiver.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def die(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@pytest.fixture
def receiver(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.live()
    settings.INFERENCE_ENDPOINTS = [receiver.origin]
    monkeypatch.setattr(sending, "PAUSES", (0.01,) * 200)
    yield receiver
    receiver.die()


@pytest.fixture
def hook(project: Project, olga: User, receiver: Receiver) -> tuple[Webhook, bytes]:
    webhook = Webhook(project=project, url=receiver.url, events=list(Event.values), created_by=olga)
    secret = webhook.make_secret()
    webhook.save()
    return webhook, base64.b64decode(secret.removeprefix("whsec_"))


def deliver_all(seconds: float = 120) -> None:
    """Looks as a worker does until nothing waits."""
    ends = time.monotonic() + seconds
    while Delivery.objects.pending().exists():
        assert time.monotonic() < ends, Delivery.objects.pending().values("trouble", "attempts")
        deliver_waiting()


def tell(project: Project, number: int, subject: str) -> None:
    announce(project.pk, Event.RUN, subject=subject, data=lambda: {"n": number})


def test_a_message_is_signed_as_standard_webhooks_has_it() -> None:
    """The example of the specification's own libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', at=1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_receiver_can_tell_who_sent_it(project: Project, receiver: Receiver, hook: Any) -> None:
    _, key = hook
    tell(project, 1, "run 1")
    deliver_all()
    [(headers, body)] = receiver.got
    content = b".".join(
        [headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body]
    )
    wanted = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert json.loads(body).keys() == {"type", "timestamp", "data"}


def test_a_receiver_that_is_killed_and_revived_gets_every_event_once_and_in_order(
    project: Project, receiver: Receiver, hook: Any
) -> None:
    for number in range(10):
        tell(project, number, f"run {number % 3}")
    for _ in range(2):
        deliver_waiting()
    receiver.die()
    for number in range(10, 40):
        tell(project, number, f"run {number % 3}")
    for _ in range(5):
        deliver_waiting()
    assert Delivery.objects.pending().exists()
    receiver.status = 503
    receiver.live()
    deliver_waiting()
    receiver.status = 204
    Webhook.objects.update(rests_until=None)
    deliver_all()
    taken: dict[str, int] = {}
    for headers, body in receiver.got:
        taken.setdefault(headers["webhook-id"], json.loads(body)["data"]["n"])
    assert sorted(taken.values()) == list(range(40))
    for remainder in range(3):
        of_object = [n for n in taken.values() if n % 3 == remainder]
        assert of_object == sorted(of_object)


def test_an_event_that_is_rolled_back_is_told_to_nobody(
    project: Project, receiver: Receiver, hook: Any
) -> None:
    with transaction.atomic():
        tell(project, 1, "run 1")
        transaction.set_rollback(True)
    assert deliver_waiting() == 0 and receiver.got == []


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_a_message_once(project: Project, receiver: Receiver, hook: Any) -> None:
    from django.db import connection

    for number in range(20):
        tell(project, number, f"run {number}")
    numbers = list(Delivery.objects.values_list("pk", flat=True))

    def work() -> None:
        for number in numbers:
            jobs.deliver(number)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event["data"]["n"] for event in receiver.events) == list(range(20))


def test_it_is_given_up_after_the_last_pause_and_holds_nobody_up(
    project: Project, receiver: Receiver, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PAUSES", (0.0,) * 2)
    receiver.status = 400
    tell(project, 1, "run 1")
    deliver_all()
    message = Delivery.objects.get()
    assert (message.attempts, message.status, message.given_up_at is None) == (3, 400, False)
    receiver.status = 200
    tell(project, 2, "run 1")
    deliver_all()
    assert receiver.events[-1]["data"] == {"n": 2}
    message.send_again()
    deliver_all()
    assert receiver.events[-1]["data"] == {"n": 1}
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 2


def test_who_answers_gone_is_paused_and_a_redirect_is_not_followed(
    project: Project, receiver: Receiver, hook: Any
) -> None:
    webhook, _ = hook
    receiver.status = 302
    tell(project, 1, "run 1")
    deliver_waiting()
    assert Delivery.objects.get().trouble == "The server answered 302."
    receiver.status = 410
    Delivery.objects.update(next_at=timezone.now())
    deliver_waiting()
    webhook.refresh_from_db()
    assert webhook.paused_at and len(receiver.got) == 2
    deliver_waiting()
    assert len(receiver.got) == 2
    receiver.status = 204
    webhook.resume()
    deliver_all()
    assert len(receiver.got) == 3


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "ftp://example.com/",
        "https://",
        "https://me:pw@example.com/",
        "https://example.com/#a",
        "//example.com",
        "https://localhost/x",
        "https://10.0.0.1:8443/x",
        "https://[::1]/x",
        "nonsense",
    ],
)
def test_an_address_that_may_not_be_called_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        validate_address(url)


def test_a_private_address_that_the_settings_name_and_one_not_known_yet_may_be_added(
    settings: Settings,
) -> None:
    settings.INFERENCE_ENDPOINTS = ["https://10.0.0.1:8443"]
    validate_address("https://10.0.0.1:8443/x")
    validate_address("https://soon.invalid/x")


def test_a_private_address_behind_a_name_is_not_called(
    project: Project, hook: Any, receiver: Receiver
) -> None:
    Webhook.objects.update(url=f"https://localhost:{receiver.port}/x")
    tell(project, 1, "run 1")
    deliver_waiting()
    assert "not on the public internet" in Delivery.objects.get().trouble
    assert receiver.got == []


def test_only_the_events_that_were_chosen_are_told(
    project: Project, hook: Any, mallory: User
) -> None:
    Webhook.objects.update(events=[Event.THUMB])
    tell(project, 1, "run 1")
    tell(mallory.memberships.get().project, 1, "run 1")
    assert not Delivery.objects.exists()


def test_labels_and_the_end_of_their_batch_are_told(
    project: Project, alice: User, write_task: Callable[..., Any], hook: Any, receiver: Receiver
) -> None:
    write_task(batch="first"), write_task(batch="first")
    for number in range(2):
        work = next_assignment(alice, project)
        assert work is not None
        Demonstration.record(assignment=work, text=f"Answer {number}")
    deliver_all()
    told = [(event["type"], event["data"]) for event in receiver.events]
    labels = [data for kind, data in told if kind == Event.LABEL]
    assert [data["labeler"] for data in labels] == ["alice", "alice"]
    assert [data for kind, data in told if kind == Event.BATCH] == [{"batch": "first", "tasks": 2}]


def test_a_thumb_is_told_without_the_guests_words(
    live: Any, project: Project, gus: User, hook: Any, receiver: Receiver
) -> None:
    answer = Conversation.start(project=project, guest=gus, text="What is rice?")
    Feedback.give(message=answer, user=gus, thumb_up=False, reasons=["style"], note="canary")
    Feedback.take_back(message=answer, user=gus)
    deliver_all()
    assert [event["data"]["thumb"] for event in receiver.events] == ["down", None]
    assert receiver.events[0]["data"]["completion_id"] == str(answer.public_id)
    assert b"canary" not in b"".join(body for _, body in receiver.got)


def test_slack_gets_a_line(project: Project, hook: Any, receiver: Receiver) -> None:
    Webhook.objects.update(is_slack=True)
    data = {"run": 7, "round": 2, "kind": "sft", "state": "failed", "reason": ""}
    announce(project.pk, Event.RUN, subject="run 7", data=lambda: data)
    deliver_all()
    assert receiver.events == [{"text": "Cooking: The sft run of Round 2 is failed."}]


def test_an_operator_adds_pauses_looks_and_deletes(
    project: Project, olga: User, receiver: Receiver, browse: Callable[[User], Client]
) -> None:
    client, address = browse(olga), "/p/cooking/programs/"
    sent = {"act": "webhook", "webhook-url": receiver.url, "webhook-events": ["run.state"]}
    refused = client.post(address, {**sent, "webhook-url": "http://10.0.0.1/x"})
    assert refused.status_code == 422 and not Webhook.objects.exists()
    page = client.post(address, sent).content.decode()
    webhook = Webhook.objects.get()
    assert "whsec_" in page and "whsec_" not in client.get(address).content.decode()
    assert "whsec_" not in webhook.sealed_secret
    one = f"{address}webhooks/{webhook.pk}/"
    client.post(one, {"act": "pause"})
    tell(project, 1, "run 1")
    assert deliver_waiting() == 0
    assert "waiting" in client.get(one).content.decode()
    client.post(one, {"act": "resume"})
    deliver_all()
    assert "delivered" in client.get(one).content.decode()
    client.post(f"{one}deliveries/{Delivery.objects.get().pk}/")
    deliver_all()
    assert len(receiver.got) == 2
    client.post(one, {"act": "save", "url": receiver.url, "events": ["batch.done"]})
    webhook.refresh_from_db()
    assert webhook.events == ["batch.done"]
    client.post(one, {"act": "delete"})
    assert not Webhook.objects.exists()


def test_an_operator_makes_and_revokes_tokens(
    project: Project, olga: User, browse: Callable[[User], Client]
) -> None:
    client, address = browse(olga), "/p/cooking/programs/"
    assert client.post(address, {"act": "token", "token-days": 7}).status_code == 422
    sent = {"act": "token", "token-name": "robot", "token-scopes": ["read"], "token-days": 7}
    page = client.post(address, sent).content.decode()
    token = project.api_tokens.get()
    secret = page.split("<code>")[1].split("</code>")[0]
    assert (token.user, token.scopes, token.name) == (olga, ["read"], "robot")
    assert token.digest(secret) == token.sha256 and token.expires_at
    assert "robot" in client.get(address).content.decode()
    client.post(f"{address}tokens/{token.pk}/revoke/")
    assert "robot" not in client.get(address).content.decode()
