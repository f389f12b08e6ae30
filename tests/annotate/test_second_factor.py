"""Apps that show codes, recovery codes, and that no way in gets by without them."""

import html
import re
from types import SimpleNamespace

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.conf import settings
from django.test import Client

from annotate import limits
from annotate.accounts import second_factor
from annotate.accounts.second_factor import use_code
from annotate.models import AuditEntry, SignIn
from annotate.people.sign_in import login_link
from feedback_site.models import Rate
from tests.soft_key import SoftKey

PASSWORD = "a good long passphrase"
NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The time that apps and the site go by, in steps of 30 s."""
    at = {"step": 0}
    now = SimpleNamespace(time=lambda: NOW + 30 * at["step"])
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time", now)
    return at


def code_of(secret, step=0):
    return format_hotp_value(hotp_value(secret, int(NOW // 30) + step))


@pytest.fixture
def alice(alice):
    alice.set_password(PASSWORD)
    alice.save()
    return alice


def signed_in(person):
    client = Client()
    client.post("/sign-in/", {"username": person.username, "password": PASSWORD})
    assert client.session["_auth_user_id"] == str(person.pk)
    return client


def add_app(client):
    page = client.get("/account/security/app/").content.decode()
    secret = re.search(r'<code id="secret"[^>]*>(\w+)<', page)[1]
    return secret, client.post("/account/security/app/", {"code": code_of(secret)})


@pytest.fixture
def protected(alice, clock):
    """(secret of the app, recovery codes) of alice, who has an app as second factor."""
    secret, reply = add_app(signed_in(alice))
    codes = re.findall(r"^\s*(?:<pre[^>]*>)?(\d{8})$", reply.content.decode(), re.MULTILINE)
    assert len(codes) == 10
    clock["step"] = 10
    alice.refresh_from_db()
    return secret, codes


def by_password(client, alice):
    return client.post("/sign-in/", {"username": "alice", "password": PASSWORD})


def path(link):
    return link.removeprefix(settings.SITE_URL)


def test_an_app_is_added_by_a_code_that_it_shows(alice):
    client = signed_in(alice)
    page = client.get("/account/security/app/").content.decode()
    assert "<svg" in page and "style=" not in page.split("<main")[1]
    assert client.post("/account/security/app/", {"code": "000000"}).status_code == 422
    assert not Authenticator.objects.exists()
    secret, reply = add_app(client)
    assert "Recovery codes" in reply.content.decode()
    kept = str(Authenticator.objects.values_list("data", flat=True))
    assert secret not in kept, "secrets are sealed"
    assert set(Authenticator.objects.values_list("type", flat=True)) == {"totp", "recovery_codes"}
    assert AuditEntry.objects.filter(action="security_app", actor=alice.pk).count() == 1


def test_the_right_code_lets_in_and_a_wrong_one_does_not(client, alice, protected):
    secret, _ = protected
    assert by_password(client, alice).url == "/sign-in/second-factor/"
    assert "_auth_user_id" not in client.session
    assert client.get("/").status_code == 302, "nobody is signed in yet"
    assert client.post("/sign-in/second-factor/", {"code": "123456"}).status_code == 422
    assert "_auth_user_id" not in client.session
    assert client.post("/sign-in/second-factor/", {"code": code_of(secret, 10)}).url == "/"
    assert client.session["_auth_user_id"] == str(alice.pk)
    newest = SignIn.objects.first()
    assert (newest.way, newest.factor) == ("password", "totp")


@pytest.mark.parametrize(
    ("step", "works"), [(8, False), (9, True), (10, True), (11, True), (12, False)]
)
def test_a_clock_may_be_half_a_minute_wrong(alice, protected, step, works):
    assert bool(use_code(alice, code_of(protected[0], step))) is works


def test_neither_a_used_code_nor_an_earlier_one_works_again(alice, protected):
    secret, _ = protected
    assert use_code(alice, code_of(secret, 10))
    assert use_code(alice, code_of(secret, 10)) is None
    assert use_code(alice, code_of(secret, 9)) is None
    assert use_code(alice, code_of(secret, 11))


def test_a_recovery_code_works_once_and_others_go_on_working(client, alice, protected):
    _, codes = protected
    for used, status in ((codes[0], 302), (codes[0], 422), (codes[1], 302)):
        client.logout()
        by_password(client, alice)
        assert client.post("/sign-in/second-factor/", {"code": used}).status_code == status
    assert len(second_factor.unused_codes(alice)) == 8


def test_codes_are_tried_a_few_times_and_from_everywhere_together(alice, protected, monkeypatch):
    rates = {"asked": Rate(3, 1e-3)}
    monkeypatch.setattr(limits, "LIMITS", {**limits.LIMITS, "code": rates})
    replies = []
    for number in range(4):
        client = Client(REMOTE_ADDR=f"10.0.0.{number}")
        by_password(client, alice)
        reply = client.post("/sign-in/second-factor/", {"code": "123456"})
        replies.append(reply.status_code)
    assert replies == [422, 422, 422, 429]


def by_link(client, alice):
    return client.post(path(login_link(alice)))


@pytest.mark.parametrize("come", [by_password, by_link])
def test_no_way_in_gets_by_without_the_second_factor(client, alice, protected, come):
    assert come(client, alice).url == "/sign-in/second-factor/"
    assert "_auth_user_id" not in client.session
    assert client.get("/account/security/").status_code == 302
    client.post("/sign-in/second-factor/", {"code": code_of(protected[0], 10)})
    assert client.session["_auth_user_id"] == str(alice.pk)


def test_a_link_is_used_up_even_where_the_second_factor_is_not_shown(client, alice, protected):
    link = path(login_link(alice))
    assert client.post(link).status_code == 302
    assert Client().post(link).status_code == 410


def test_whoever_waits_too_long_or_whose_password_changed_begins_again(client, alice, protected):
    secret, _ = protected
    by_password(client, alice)
    session = client.session
    session["second_factor"] |= {"since": session["second_factor"]["since"] - 601}
    session.save()
    assert client.post("/sign-in/second-factor/", {"code": code_of(secret, 10)}).url == "/sign-in/"
    by_password(client, alice)
    alice.set_password("another long passphrase")
    alice.save()
    assert client.post("/sign-in/second-factor/", {"code": code_of(secret, 10)}).url == "/sign-in/"
    assert "_auth_user_id" not in client.session


def test_removing_the_last_factor_removes_the_recovery_codes(alice, protected):
    client = Client()
    by_password(client, alice)
    client.post("/sign-in/second-factor/", {"code": code_of(protected[0], 10)})
    app = Authenticator.objects.get(type="totp")
    client.post("/account/security/", {"act": "remove", "factor": app.pk})
    assert not Authenticator.objects.exists()
    entry = AuditEntry.objects.filter(action="security").first()
    assert entry.details["act"] == "remove" and entry.actor == alice


def test_nobody_removes_the_factor_of_somebody_else(browse, alice, bob, protected):
    app = Authenticator.objects.get(type="totp")
    browse(bob).post("/account/security/", {"act": "remove", "factor": app.pk})
    assert Authenticator.objects.filter(type="totp").exists()


def test_new_recovery_codes_replace_those_of_before(client, alice, protected):
    by_password(client, alice)
    client.post("/sign-in/second-factor/", {"code": protected[1][0]})
    page = client.post("/account/security/", {"act": "codes"}).content.decode()
    assert protected[1][1] not in page
    assert use_code(alice, protected[1][1]) is None
    assert use_code(alice, second_factor.unused_codes(alice)[0]) == "recovery_codes"


@pytest.mark.parametrize("sent", ["", "{", "[]", '{"id": "x"}', '{"id": 1, "response": {}}'])
def test_what_no_key_has_signed_is_no_key(client, alice, sent):
    own = signed_in(alice)
    own.get("/account/security/key/")
    assert own.post("/account/security/key/", {"key": sent}).status_code == 422
    assert not Authenticator.objects.exists()


def options_of(page, attribute):
    return html.unescape(re.search(f'{attribute}="([^"]+)"', page.content.decode())[1])


def add_key(client, key, name="Blue key"):
    page = client.get("/account/security/key/")
    made = key.make(options_of(page, "data-add-key"))
    return client.post("/account/security/key/", {"key": made, "name": name})


def test_a_security_key_lets_in_and_what_it_signed_once_does_not(alice):
    own, key = signed_in(alice), SoftKey()
    assert "Recovery codes" in add_key(own, key).content.decode()
    assert "Blue key" in own.get("/account/security/").content.decode()
    client = Client()
    assert by_password(client, alice).url == "/sign-in/second-factor/"
    signed = key.use(options_of(client.get("/sign-in/second-factor/"), "data-use-key"))
    other = Client()
    by_password(other, alice)
    other.get("/sign-in/second-factor/")
    assert other.post("/sign-in/second-factor/", {"key": signed}).status_code == 422
    assert client.post("/sign-in/second-factor/", {"key": signed}).url == "/"
    assert (SignIn.objects.first().way, SignIn.objects.first().factor) == ("password", "webauthn")
    by_password(client, alice)
    assert client.post("/sign-in/second-factor/", {"key": signed}).status_code == 422


@pytest.mark.parametrize("key", [SoftKey(), SoftKey("https://evil.example")])
def test_neither_another_key_nor_another_site_lets_in(client, alice, key):
    mine = SoftKey()
    add_key(signed_in(alice), mine)
    if key.origin != mine.origin:
        key.number, key.private = mine.number, mine.private
    by_password(client, alice)
    asked = options_of(client.get("/sign-in/second-factor/"), "data-use-key")
    assert client.post("/sign-in/second-factor/", {"key": key.use(asked)}).status_code == 422
    asked = options_of(client.get("/sign-in/second-factor/"), "data-use-key")
    assert client.post("/sign-in/second-factor/", {"key": mine.use(asked)}).url == "/"
