"""How often what costs may be done, by whom, and what it holds meanwhile."""

import asyncio
import gc
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import hashers
from django.db import connection
from django.test import Client
from django.urls import get_resolver, reverse

from annotate import limits
from annotate.chat import inference
from annotate.people.tokens import ApiToken
from feedback_site import passwords
from feedback_site.asgi import application
from feedback_site.models import Bucket, Rate

CHAT = "/v1/chat/completions"


def in_threads(number, work):
    def done(n):
        try:
            return work(n)
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(done, range(number)))


@pytest.mark.django_db(transaction=True)
def test_a_bucket_is_exact_however_many_take_at_once():
    rate = Rate(100, 1e-9)
    start = threading.Barrier(64)

    def take(_):
        start.wait()
        return sum(Bucket.take("exact", rate) == 0 for _ in range(4))

    assert sum(in_threads(64, take)) == 100


@pytest.mark.django_db
def test_a_bucket_fills_again_and_no_fuller_than_full():
    rate = Rate(2, 0.5)
    assert [Bucket.take("a", rate) for _ in range(2)] == [0, 0]
    assert 1.5 < Bucket.take("a", rate) <= 2
    assert Bucket.take("b", rate) == 0
    sql = "UPDATE feedback_site_bucket SET filled_at = filled_at - interval %s"
    with connection.cursor() as cursor:
        cursor.execute(sql, ["2 seconds"])
        assert Bucket.take("a", rate) == 0 and Bucket.take("a", rate) > 0
        cursor.execute(sql, ["1 hour"])
    assert [Bucket.take("a", rate) == 0 for _ in range(3)] == [True, True, False]
    with connection.cursor() as cursor:
        cursor.execute(sql, ["2 days"])
    Bucket.forget_full()
    assert not Bucket.objects.exists()


def sign_in(client, name="alice", **extra):
    return client.post("/sign-in/", {"username": name, "password": "wrong"}, **extra)


@pytest.fixture
def tight(monkeypatch):
    """Makes every bucket hold so many tokens, of these kinds only."""

    def make(what, **bursts):
        rates = {kind.replace("_", " "): Rate(burst, 0.01) for kind, burst in bursts.items()}
        monkeypatch.setattr(limits, "LIMITS", {**limits.LIMITS, what: rates})

    return make


@pytest.mark.django_db
def test_sixty_guesses_by_x_forwarded_for_are_one_address(client):
    replies = [
        sign_in(client, f"name{n}", HTTP_X_FORWARDED_FOR=f"10.0.0.{n}").status_code
        for n in range(60)
    ]
    burst = int(limits.LIMITS["sign-in"]["address"].burst)
    assert replies[:burst] == [200] * burst
    assert replies.count(429) >= 60 - burst - 15


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("trusted", "said", "counted"),
    [
        (["127.0.0.1"], "10.0.0.9", "10.0.0.9"),
        (["127.0.0.1"], "1.2.3.4, 10.0.0.9", "10.0.0.9"),
        (["127.0.0.0/8", "10.0.0.0/8"], "1.2.3.4, 10.0.0.9", "1.2.3.4"),
        (["127.0.0.1"], "nonsense", "127.0.0.1"),
        (["127.0.0.1"], "1.2.3.4, ", "127.0.0.1"),
        (["192.168.0.1"], "10.0.0.9", "127.0.0.1"),
        ([], "10.0.0.9", "127.0.0.1"),
    ],
)
def test_only_a_trusted_proxy_says_whose_request_it_is(settings, client, trusted, said, counted):
    settings.TRUSTED_PROXIES = trusted
    request = client.get("/sign-in/", HTTP_X_FORWARDED_FOR=said).wsgi_request
    assert request.META["REMOTE_ADDR"] == counted


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["address", "name", "everybody"])
def test_each_bucket_of_signing_in_counts_by_itself(client, tight, kind):
    tight("sign-in", **{kind: 2})
    for n in range(2):
        assert sign_in(client).status_code == 200, n
    refused = sign_in(client)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 100
    assert "Wait" in refused.content.decode()
    others = sign_in(client, "bob", REMOTE_ADDR="10.0.0.1").status_code
    assert others == (429 if kind == "everybody" else 200)


@pytest.mark.django_db
def test_whoever_is_refused_takes_nothing_from_everybody(client, tight):
    tight("sign-in", address=1, everybody=2)
    for _ in range(5):
        sign_in(client)
    assert sign_in(client, "bob", REMOTE_ADDR="10.0.0.1").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("what", "name", "form"),
    [
        ("chat", "chat_new", {"text": ""}),
        ("import", "prompts_import", {}),
        ("preview", "preview", {"text": "a"}),
        ("export", "prompts_export", None),
    ],
)
def test_each_costly_page_has_a_limit_of_its_own(browse, olga, project, tight, what, name, form):
    tight(what, account=1)
    args = [project.slug, "prompts"] if what == "export" else [project.slug]
    client, address = browse(olga), reverse(name, args=args)
    ask = client.get if form is None else client.post
    assert ask(address, form).status_code in (200, 422)
    assert ask(address, form).status_code == 429


def test_every_limited_address_exists_and_every_limit_is_used():
    names = {name for name in get_resolver().reverse_dict if isinstance(name, str)}
    limited = {**limits.POSTS, **limits.ANY_METHOD}
    assert set(limited) <= names
    assert set(limited.values()) | {"API", "API of an end user"} == set(limits.LIMITS)
    assert {name for name in names if name.startswith(limits.OF_THE_API)} > {"api_prompts"}


@pytest.mark.django_db
def test_the_api_counts_by_token_and_by_end_user(client, project, olga, tight):
    _, secret = ApiToken.issue(project=project, user=olga, scopes=["chat", "read"])
    _, other = ApiToken.issue(project=project, user=olga, scopes=["read"])

    def ask(secret, **extra):
        return client.get("/api/v1/policies", headers={"Authorization": f"Bearer {secret}"})

    def chat(user):
        body = {"messages": [{"role": "user", "content": "Hi"}], "user": user}
        headers = {"Authorization": f"Bearer {secret}"}
        return client.post(CHAT, json.dumps(body), "application/json", headers=headers)

    tight("API of an end user", end_user=1)
    assert chat("u1").status_code == 404  # nobody is live
    refused = chat("u1")
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    assert chat("u2").status_code == 404
    tight("API", token=6)
    statuses = [ask(secret).status_code for _ in range(7)]
    assert 429 in statuses and ask(other).status_code == 200
    refused = ask(secret)
    assert "Try again in" in refused.json()["detail"] and refused.headers["Retry-After"]


@pytest.mark.django_db(transaction=True)
def test_hashing_a_password_holds_no_connection(client, alice, settings, monkeypatch):
    settings.PASSWORD_HASHERS = ["feedback_site.passwords.Argon2", "feedback_site.passwords.PBKDF2"]
    alice.set_password("a good long passphrase")
    alice.save()
    assert alice.password.startswith("argon2$argon2id$")
    held = []
    for hasher in (passwords.Argon2, passwords.PBKDF2):
        base = hasher.__mro__[2]
        for act in ("encode", "verify"):
            plain = getattr(base, act)

            def watched(self, *args, plain=plain, **kwargs):
                held.append(connection.connection is not None)
                return plain(self, *args, **kwargs)

            monkeypatch.setattr(base, act, watched)
    sign_in(client)
    sign_in(client, "nobody-of-this-name")
    right = {"username": "alice", "password": "a good long passphrase"}
    assert client.post("/sign-in/", right).status_code == 302
    assert len(held) >= 3 and not any(held)


@pytest.mark.skipif(sys.platform != "linux", reason="Threads have a priority of their own there")
def test_hashing_lets_all_others_go_first(monkeypatch):
    def here() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = here()
    hashed = []
    monkeypatch.setattr(
        hashers.Argon2PasswordHasher, "verify", lambda *_: hashed.append(here()) or True
    )
    assert passwords.Argon2().verify("a", "b")
    assert hashed == [min(before + passwords.NICENESS, 19)] and here() == before


@pytest.mark.django_db(transaction=True)
def test_a_password_of_before_is_hashed_anew_at_the_next_sign_in(client, alice, settings):
    settings.PASSWORD_HASHERS = ["feedback_site.passwords.PBKDF2"]
    alice.set_password("a good long passphrase")
    alice.save()
    settings.PASSWORD_HASHERS = ["feedback_site.passwords.Argon2", "feedback_site.passwords.PBKDF2"]
    right = {"username": "alice", "password": "a good long passphrase"}
    assert client.post("/sign-in/", right).status_code == 302
    alice.refresh_from_db()
    assert alice.password.startswith("argon2$")


@pytest.mark.django_db(transaction=True)
def test_forty_connections_with_wrong_passwords_leave_the_site_up(
    browse, alice, project, settings, monkeypatch
):
    settings.PASSWORD_HASHERS = ["feedback_site.passwords.Argon2"]
    monkeypatch.setattr(passwords, "_turn", threading.BoundedSemaphore(2))
    hash_it = hashers.Argon2PasswordHasher.encode

    def slowly(self, *args):
        time.sleep(0.2)
        return hash_it(self, *args)

    monkeypatch.setattr(hashers.Argon2PasswordHasher, "encode", slowly)
    reader, waits = browse(alice), []

    def guess(n):
        return sign_in(Client(), f"name{n}", REMOTE_ADDR=f"10.0.{n}.1").status_code

    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        flood = pool.submit(in_threads, 40, guess)
        while not flood.done():
            began = time.monotonic()
            assert reader.get(f"/p/{project.slug}/").status_code == 200
            waits.append(time.monotonic() - began)
            connection.close()
        assert set(flood.result()) == {200}
    took = time.monotonic() - started  # twenty turns, of which nobody else has to wait for one
    assert max(waits) < took / 2, "others waited for a connection"


@pytest.mark.django_db(transaction=True)
def test_asking_a_model_holds_no_connection(live, monkeypatch):
    live.refresh_from_db()
    held = []

    def send(*args, **kwargs):
        held.append(connection.connection is not None)
        raise inference.httpx.ConnectError("no server")

    monkeypatch.setattr(inference.httpx.Client, "send", send)
    with pytest.raises(inference.InferenceError):
        inference.complete(live, [{"role": "user", "content": "Hi"}])
    assert held == [False]


@pytest.mark.django_db
def test_a_form_with_too_many_words_is_413(browse, olga, project):
    page = browse(olga).post(
        reverse("prompts_import", args=[project.slug]), {"text": "x" * (6 * 2**20)}
    )
    assert page.status_code == 413 and "Send less" in page.content.decode()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")  # a file left open
@pytest.mark.parametrize("says_so", [True, False])
def test_a_body_over_the_limit_is_413_before_all_of_it_has_come(settings, says_so):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    sent, come = [], 0

    async def receive():
        nonlocal come
        come += 1
        return {"type": "http.request", "body": b"x" * 400, "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/sign-in/", "query_string": b"",
        "headers": [(b"content-length", b"9999999")] if says_so else [],
    }  # fmt: skip
    asyncio.run(application(scope, receive, send))
    gc.collect()
    assert sent[0]["status"] == 413
    assert come <= (1 if says_so else 3)
